// The answer to "why?": headline, causes with their evidence, how complete the evidence was.
import type { Candidate, Completeness, Evidence, Explanation } from './api'
import { clock, share } from './format'
import { Timeline } from './timeline'

export function Complete({ completeness }: { completeness: Completeness | undefined }) {
  if (typeof completeness?.share !== 'number') return null
  const blind = (completeness.blind ?? []).join(', ')
  return (
    <p class={completeness.share < 0.95 ? 'complete doubtful' : 'complete'}>
      evidence {share(completeness.share)} complete{completeness.text ? ` (${completeness.text})` : ''}{blind ? `; blind: ${blind}` : ''}
    </p>
  )
}

function EvidenceRow({ evidence }: { evidence: Evidence }) {
  const against = evidence.for === false
  return (
    <tr class={against ? 'against' : ''}>
      <td class="time">{clock(evidence.time)}</td>
      <td>{against ? 'but: ' : ''}{evidence.text ?? ''}</td>
      <td class="sources">{(evidence.sources ?? []).join(', ')}</td>
    </tr>
  )
}

function Cause({ cause, open }: { cause: Candidate; open: boolean }) {
  const confidence = typeof cause.confidence === 'number' ? Math.min(1, Math.max(0, cause.confidence)) : null
  const told = (cause.evidence ?? []).some((evidence) => evidence.text === cause.trigger?.text)
  return (
    <li class="cause">
      <details open={open}>
        <summary>
          <span class="rank">{cause.rank ?? '?'}</span>
          <span class="title">{cause.title ?? '(no title)'}</span>
          {confidence === null ? null : (
            <span class="confidence">
              <meter min={0} max={1} value={confidence} aria-hidden="true" /> confidence {confidence.toFixed(2)}
            </span>
          )}
        </summary>
        <p class="mode">{[cause.failure_mode, cause.entity, cause.process ? `${cause.process}${cause.pid ? ` (pid ${cause.pid})` : ''}` : null].filter(Boolean).join(' · ')}</p>
        <table class="evidence">
          <tbody>
            {cause.trigger?.text && !told ? <EvidenceRow evidence={{ time: cause.trigger.time ?? null, text: cause.trigger.text, sources: ['trigger'] }} /> : null}
            {(cause.evidence ?? []).map((evidence, index) => <EvidenceRow key={index} evidence={evidence} />)}
          </tbody>
        </table>
        {(cause.ruled_out ?? []).length > 0 ? <p class="ruled-out">ruled out: {(cause.ruled_out ?? []).join(', ')}</p> : null}
        {(cause.next ?? []).map((next, index) => <p key={index} class="next">next: <code>{next}</code></p>)}
      </details>
    </li>
  )
}

export function Answer({ explanation }: { explanation: Explanation }) {
  const candidates = explanation.candidates ?? []
  return (
    <article class="answer">
      <h2>
        {explanation.headline ?? '(no headline)'}
        {typeof explanation.incident === 'number' ? <small> incident {explanation.incident} ({explanation.state ?? '?'})</small> : null}
      </h2>
      <Timeline explanation={explanation} />
      <ol class="causes">{candidates.map((cause, index) => <Cause key={cause.rank ?? index} cause={cause} open={index === 0} />)}</ol>
      {explanation.inconclusive ? <p class="inconclusive">inconclusive: {explanation.inconclusive}</p> : null}
      {explanation.verdict === 'healthy' ? <p>Nothing to explain: no symptom in this window.</p> : null}
      <Complete completeness={explanation.completeness} />
    </article>
  )
}
