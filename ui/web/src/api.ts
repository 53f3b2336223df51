// The JSON API (docs/api.md), read defensively: every field may be missing. Text is only ever put into text nodes.

export interface Completeness { share?: number; text?: string; blind?: string[] }
export interface Evidence { time?: string | null; text?: string; sources?: string[]; weight?: number; for?: boolean }
export interface Candidate {
  rank?: number; entity?: string; service?: string; process?: string | null; pid?: number | null; failure_mode?: string
  title?: string; confidence?: number; trigger?: { time?: string; text?: string } | null
  evidence?: Evidence[]; ruled_out?: string[]; next?: string[]
}
export interface Symptom { entity?: string; series?: string; since?: string; text?: string }
export interface Explanation {
  incident?: number | null; service?: string; state?: string; verdict?: string; headline?: string
  symptoms?: Symptom[]; candidates?: Candidate[]; completeness?: Completeness; inconclusive?: string | null
}
export interface IncidentRow {
  incident: number; service?: string; state?: string; opened?: string; closed?: string | null; headline?: string
  verdict?: string | null; top?: { title?: string; confidence?: number } | null; feedback?: { verdict?: string }[]
}
export interface Change { time?: string; text?: string; name?: string }
export interface Summary {
  host?: string; version?: string; uptime_s?: number; health?: string; text?: string
  changes?: Change[]; problems?: string[]; completeness?: Completeness
}
export interface Service {
  service?: string; state?: string; watched?: boolean; listens?: string[]; rate?: number | null; error_share?: number | null
  p99_s?: number | null; cpu_cores?: number | null; rss_bytes?: number | null
  endpoints?: { endpoint?: string; rate?: number; error_share?: number; p99_s?: number }[]
}
export interface Edge { from?: string; to?: string; rate?: number; error_share?: number; mean_s?: number; p99_s?: number; wait_share?: number }
export interface Services { services?: Service[]; edges?: Edge[] }
export interface Status {
  version?: string; pid?: number; uptime_s?: number
  sources?: { source?: string; produced?: number; stored?: number; in_flight?: number; dropped?: Record<string, number>; per_s?: number }[]
  channels?: { name?: string; capacity?: number; length?: number; high_water?: number; parked_senders?: number; parked_receivers?: number; sent?: number; received?: number; blocked_s?: number; send_index?: number; receive_index?: number; dropped_by_reason?: Record<string, number> }[]
  maps?: { name?: string; entries?: number; segments?: number; load?: number; splits?: number; tombstones?: number; bytes?: number; longest_insert_s?: number; refused?: number }[]
  processes?: { name?: string; pid?: number; state?: string; cpu_share?: number; rss_bytes?: number; restarts?: number }[]
  completeness?: Completeness
}

const ANSWER_MS = 8000

async function ask<T>(path: string, body?: unknown): Promise<T> {
  const stop = new AbortController()
  const timer = setTimeout(() => stop.abort(), ANSWER_MS)
  try {
    const init: RequestInit = { signal: stop.signal, cache: 'no-store' }
    if (body !== undefined) {
      init.method = 'POST'
      init.headers = { 'Content-Type': 'application/json' }
      init.body = JSON.stringify(body)
    }
    const answer = await fetch(path, init)
    const document: unknown = await answer.json()
    if (!answer.ok) {
      const error = (document as { error?: { message?: string } })?.error
      throw new Error(error?.message ?? `culpritd answered with status ${answer.status}`)
    }
    return document as T
  } finally {
    clearTimeout(timer)
  }
}

export const summary = () => ask<Summary>('/api/v1/summary')
export const incidents = () => ask<{ incidents?: IncidentRow[] }>('/api/v1/incidents')
export const incident = (id: number) => ask<Explanation>(`/api/v1/incidents/${id}`)
export const services = () => ask<Services>('/api/v1/services')
export const status = () => ask<Status>('/api/v1/status')
export const why = (service: string) => ask<Explanation>('/api/v1/why', { service, since_s: 300 })
