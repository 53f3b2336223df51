// Evidence on a time axis: one row for the symptoms, one for each cause; every point is also a line of the lists below.
import type { Candidate, Explanation } from './api'
import { clock, millis } from './format'

const WIDTH = 900
const LEFT = 150
const RIGHT = 40
const ROW = 26
const AXIS = 24

interface Point { at: number; text: string; kind: 'symptom' | 'for' | 'against' | 'trigger' }
interface Row { label: string; points: Point[] }

function causePoints(cause: Candidate): Point[] {
  const points: Point[] = []
  const trigger = millis(cause.trigger?.time)
  if (trigger !== null) points.push({ at: trigger, text: cause.trigger?.text ?? '', kind: 'trigger' })
  for (const evidence of cause.evidence ?? []) {
    const at = millis(evidence.time)
    if (at === null || (at === trigger && evidence.text === cause.trigger?.text)) continue
    points.push({ at, text: evidence.text ?? '', kind: evidence.for === false ? 'against' : 'for' })
  }
  return points
}

function rows(explanation: Explanation): Row[] {
  const result: Row[] = []
  const symptoms: Point[] = []
  for (const symptom of explanation.symptoms ?? []) {
    const at = millis(symptom.since)
    if (at !== null) symptoms.push({ at, text: symptom.text ?? '', kind: 'symptom' })
  }
  result.push({ label: 'symptom', points: symptoms })
  for (const cause of (explanation.candidates ?? []).slice(0, 3)) {
    result.push({ label: `${cause.rank ?? '?'}  ${cause.service ?? cause.entity ?? ''}`, points: causePoints(cause) })
  }
  return result
}

// Round steps, so that the marks read as times of the clock.
function step(length: number): number {
  for (const seconds of [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600]) {
    if (length / (seconds * 1000) <= 8) return seconds * 1000
  }
  return Math.ceil(length / 8 / 3600_000) * 3600_000
}

function mark(point: Point, x: number, y: number) {
  switch (point.kind) {
    case 'symptom': return <rect x={x - 5} y={y - 5} width={10} height={10} class="at-symptom" />
    case 'trigger': return <path d={`M${x} ${y - 7} L${x + 6} ${y + 5} L${x - 6} ${y + 5} Z`} class="at-trigger" />
    case 'against': return <path d={`M${x - 4} ${y + 3} L${x + 4} ${y + 11} M${x + 4} ${y + 3} L${x - 4} ${y + 11}`} class="at-against" />
    default: return <circle cx={x} cy={y} r={5} class="at-for" />
  }
}

export function Timeline({ explanation }: { explanation: Explanation }) {
  const lines = rows(explanation)
  const times = lines.flatMap((row) => row.points.map((point) => point.at))
  if (times.length === 0) return null
  const first = Math.min(...times)
  const last = Math.max(...times)
  const margin = Math.max(1000, (last - first) * 0.05)
  const from = first - margin
  const to = last + margin
  const x = (at: number) => LEFT + ((at - from) / (to - from)) * (WIDTH - LEFT - RIGHT)
  const every = step(to - from)
  const ticks: number[] = []
  for (let at = Math.ceil(from / every) * every; at <= to; at += every) ticks.push(at)
  const height = lines.length * ROW + AXIS
  return (
    <figure class="timeline">
      <svg viewBox={`0 0 ${WIDTH} ${height}`} role="img" aria-label="Evidence on a time axis; the lists below say the same in words">
        {ticks.map((at) => (
          <g key={at}>
            <line x1={x(at)} x2={x(at)} y1={0} y2={height - AXIS} class="grid" />
            <text x={x(at)} y={height - 7} text-anchor="middle" class="tick">{clock(at)}</text>
          </g>
        ))}
        {lines.map((row, index) => {
          const y = index * ROW + ROW / 2
          return (
            <g key={index}>
              <line x1={LEFT} x2={WIDTH - RIGHT} y1={y} y2={y} class="rail" />
              <text x={0} y={y + 4} class="label">{row.label.length > 20 ? row.label.slice(0, 19) + '…' : row.label}</text>
              {row.points.map((point, n) => (
                <g key={n}>
                  <title>{`${clock(point.at)}  ${point.text}`}</title>
                  {mark(point, x(point.at), y)}
                </g>
              ))}
            </g>
          )
        })}
      </svg>
      <figcaption>■ symptom  ▲ trigger  ● speaks for it  × speaks against it</figcaption>
    </figure>
  )
}
