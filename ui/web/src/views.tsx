// The page's views, one for each entry of its menu.
import { useState } from 'preact/hooks'
import * as api from './api'
import { Answer } from './explanation'
import { bytes, clock, count, rate, seconds, share, span } from './format'
import { useDocument } from './use_documents'
import type { Read } from './use_documents'

export function Trouble({ read }: { read: Read<unknown> }) {
  if (read.error === null) return null
  return <p class="trouble" role="alert">No answer since {clock(read.since)}: {read.error}. Trying again every 2 s.</p>
}

function IncidentList({ rows, chosen }: { rows: api.IncidentRow[]; chosen: number | null }) {
  return (
    <nav aria-label="incidents">
      <ul class="incidents">
        {rows.map((row) => (
          <li key={row.incident}>
            <a href={`#/incidents/${row.incident}`} aria-current={row.incident === chosen ? 'page' : undefined}>
              <span class={`state ${row.state === 'open' ? 'bad' : ''}`}>{row.incident} {row.state ?? ''}</span> <time>{clock(row.opened)}</time>
              <span class="headline">{row.headline ?? ''}</span>
              {row.top?.title ? <span class="top">{row.top.title}</span> : null}
            </a>
          </li>
        ))}
      </ul>
    </nav>
  )
}

export function Incidents({ id }: { id: number | null }) {
  const list = useDocument('incidents', api.incidents)
  const rows = list.document?.incidents ?? []
  const chosen = id ?? rows[0]?.incident ?? null
  const one = useDocument(`incident ${chosen}`, chosen === null ? null : () => api.incident(chosen))
  if (list.document !== null && rows.length === 0 && id === null) {
    return <><Trouble read={list} /><p>No incident was seen. Every service: <a href="#/services">services</a>.</p></>
  }
  return (
    <>
      <Trouble read={list.error === null ? one : list} />
      <div class="two">
        <IncidentList rows={rows} chosen={chosen} />
        {one.document === null ? <p>…</p> : <Answer explanation={one.document} />}
      </div>
    </>
  )
}

function WhyButton({ service, ask }: { service: string; ask: (service: string) => void }) {
  return <button type="button" onClick={() => ask(service)}>why?</button>
}

export function Services() {
  const read = useDocument('services', api.services)
  const [answer, setAnswer] = useState<{ service: string; explanation: api.Explanation | null; error: string | null } | null>(null)
  const ask = async (service: string) => {
    setAnswer({ service, explanation: null, error: null })
    try {
      setAnswer({ service, explanation: await api.why(service), error: null })
    } catch (error) {
      setAnswer({ service, explanation: null, error: error instanceof Error ? error.message : String(error) })
    }
  }
  const services = read.document?.services ?? []
  const edges = read.document?.edges ?? []
  return (
    <>
      <Trouble read={read} />
      {answer === null ? null : (
        <section aria-live="polite" class="asked">
          <button type="button" onClick={() => setAnswer(null)} aria-label="close the answer">×</button>
          {answer.error !== null ? <p class="trouble">{answer.error}</p> : answer.explanation === null ? <p>asking about {answer.service} …</p> : <Answer explanation={answer.explanation} />}
        </section>
      )}
      <table>
        <caption>Services</caption>
        <thead><tr><th scope="col">service</th><th scope="col">state</th><th scope="col">watched</th><th scope="col" class="n">requests</th><th scope="col" class="n">errors</th>
          <th scope="col" class="n">p99</th><th scope="col" class="n">cpu</th><th scope="col" class="n">memory</th><th scope="col">listens</th><th /></tr></thead>
        <tbody>
          {services.flatMap((row) => [
            <tr key={row.service}>
              <th scope="row">{row.service ?? '?'}</th><td class={row.state === 'symptom' ? 'bad' : ''}>{row.state ?? ''}</td><td>{row.watched ? 'yes' : 'no'}</td>
              <td class="n">{rate(row.rate)}</td><td class="n">{share(row.error_share)}</td><td class="n">{seconds(row.p99_s)}</td>
              <td class="n">{typeof row.cpu_cores === 'number' ? row.cpu_cores.toFixed(2) : '–'}</td><td class="n">{bytes(row.rss_bytes)}</td>
              <td>{(row.listens ?? []).join(', ')}</td><td>{row.service ? <WhyButton service={row.service} ask={ask} /> : null}</td>
            </tr>,
            ...(row.endpoints ?? []).map((endpoint, index) => (
              <tr key={`${row.service} ${index}`} class="endpoint">
                <td colSpan={3}>{endpoint.endpoint ?? ''}</td><td class="n">{rate(endpoint.rate)}</td><td class="n">{share(endpoint.error_share)}</td>
                <td class="n">{seconds(endpoint.p99_s)}</td><td colSpan={4} />
              </tr>
            )),
          ])}
        </tbody>
      </table>
      <table>
        <caption>Who calls whom</caption>
        <thead><tr><th scope="col">caller</th><th scope="col">called</th><th scope="col" class="n">requests</th><th scope="col" class="n">errors</th><th scope="col" class="n">mean</th>
          <th scope="col" class="n">p99</th><th scope="col" class="n">share of caller's time</th></tr></thead>
        <tbody>
          {edges.map((edge, index) => (
            <tr key={index}><td>{edge.from ?? ''}</td><td>{edge.to ?? ''}</td><td class="n">{rate(edge.rate)}</td><td class="n">{share(edge.error_share)}</td>
              <td class="n">{seconds(edge.mean_s)}</td><td class="n">{seconds(edge.p99_s)}</td><td class="n">{share(edge.wait_share)}</td></tr>
          ))}
        </tbody>
      </table>
    </>
  )
}

export function Changes() {
  const read = useDocument('summary of changes', api.summary)
  const changes = read.document?.changes ?? []
  return (
    <>
      <Trouble read={read} />
      {changes.length === 0 ? <p>Nothing changed lately.</p> : (
        <table>
          <caption>What changed lately</caption>
          <tbody>{changes.map((change, index) => <tr key={index}><td class="time">{clock(change.time)}</td><td>{change.text ?? change.name ?? ''}</td></tr>)}</tbody>
        </table>
      )}
    </>
  )
}

function lost(dropped: Record<string, number> | undefined): string {
  const parts = Object.entries(dropped ?? {}).filter(([, value]) => value > 0).map(([reason, value]) => `${count(value)} ${reason}`)
  return parts.length === 0 ? '0' : parts.join(', ')
}

export function Status() {
  const read = useDocument('status', api.status)
  const status = read.document
  return (
    <>
      <Trouble read={read} />
      {status === null ? <p>…</p> : (
        <>
          <p>culpritd {status.version ?? '?'}, pid {status.pid ?? '?'}, up {span(status.uptime_s)}</p>
          <table>
            <caption>Processes</caption>
            <thead><tr><th scope="col">process</th><th scope="col" class="n">pid</th><th scope="col">state</th><th scope="col" class="n">cpu</th><th scope="col" class="n">memory</th><th scope="col" class="n">restarts</th></tr></thead>
            <tbody>{(status.processes ?? []).map((row, index) => (
              <tr key={index}><td>{row.name ?? ''}</td><td class="n">{row.pid ?? '–'}</td><td>{row.state ?? ''}</td><td class="n">{share(row.cpu_share)}</td><td class="n">{bytes(row.rss_bytes)}</td><td class="n">{count(row.restarts)}</td></tr>
            ))}</tbody>
          </table>
          <table>
            <caption>Sources: produced = stored + in flight + dropped</caption>
            <thead><tr><th scope="col">source</th><th scope="col" class="n">rate</th><th scope="col" class="n">produced</th><th scope="col" class="n">stored</th><th scope="col" class="n">in flight</th><th scope="col">dropped</th></tr></thead>
            <tbody>{(status.sources ?? []).map((row, index) => (
              <tr key={index}><td>{row.source ?? ''}</td><td class="n">{rate(row.per_s)}</td><td class="n">{count(row.produced)}</td><td class="n">{count(row.stored)}</td><td class="n">{count(row.in_flight)}</td><td>{lost(row.dropped)}</td></tr>
            ))}</tbody>
          </table>
          <table>
            <caption>Channels</caption>
            <thead><tr><th scope="col">channel</th><th scope="col" class="n">length</th><th scope="col" class="n">capacity</th><th scope="col" class="n">high water</th><th scope="col" class="n">send index</th><th scope="col" class="n">receive index</th><th scope="col" class="n">parked senders</th><th scope="col" class="n">parked receivers</th><th scope="col" class="n">sent</th><th scope="col" class="n">received</th><th scope="col" class="n">blocked</th><th scope="col">dropped</th></tr></thead>
            <tbody>{(status.channels ?? []).map((row, index) => (
              <tr key={index}><td>{row.name ?? ''}</td><td class="n">{count(row.length)}</td><td class="n">{count(row.capacity)}</td><td class="n">{count(row.high_water)}</td><td class="n">{count(row.send_index)}</td><td class="n">{count(row.receive_index)}</td><td class="n">{count(row.parked_senders)}</td><td class="n">{count(row.parked_receivers)}</td><td class="n">{count(row.sent)}</td><td class="n">{count(row.received)}</td><td class="n">{seconds(row.blocked_s)}</td><td>{lost(row.dropped_by_reason)}</td></tr>
            ))}</tbody>
          </table>
          <table>
            <caption>Maps</caption>
            <thead><tr><th scope="col">map</th><th scope="col" class="n">entries</th><th scope="col" class="n">segments</th><th scope="col" class="n">load</th><th scope="col" class="n">splits</th><th scope="col" class="n">tombstones</th><th scope="col" class="n">memory</th><th scope="col" class="n">longest insert</th><th scope="col" class="n">refused</th></tr></thead>
            <tbody>{(status.maps ?? []).map((row, index) => (
              <tr key={index}><td>{row.name ?? ''}</td><td class="n">{count(row.entries)}</td><td class="n">{count(row.segments)}</td><td class="n">{share(row.load)}</td><td class="n">{count(row.splits)}</td><td class="n">{count(row.tombstones)}</td><td class="n">{bytes(row.bytes)}</td><td class="n">{seconds(row.longest_insert_s)}</td><td class="n">{count(row.refused)}</td></tr>
            ))}</tbody>
          </table>
        </>
      )}
    </>
  )
}
