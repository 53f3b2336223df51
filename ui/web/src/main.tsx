import { render } from 'preact'
import { useEffect, useState } from 'preact/hooks'
import * as api from './api'
import { Complete } from './explanation'
import { span } from './format'
import './style.css'
import { useDocument } from './use_documents'
import { Changes, Incidents, Services, Status, Trouble } from './views'

const MENU = [['incidents', 'Incidents'], ['services', 'Services'], ['changes', 'Changes'], ['status', 'Status']] as const

// "#/incidents/7" -> ["incidents", 7]
function place(): { view: string; id: number | null } {
  const [view = '', id = ''] = location.hash.replace(/^#\//, '').split('/')
  return { view: MENU.some(([name]) => name === view) ? view : 'incidents', id: /^[0-9]{1,15}$/.test(id) ? Number(id) : null }
}

function Page() {
  const [here, setHere] = useState(place)
  useEffect(() => {
    const move = () => setHere(place())
    addEventListener('hashchange', move)
    return () => removeEventListener('hashchange', move)
  }, [])
  const read = useDocument('summary', api.summary)
  const summary = read.document
  const health = summary?.health ?? 'unknown'
  useEffect(() => {
    globalThis.document.title = health === 'incident' ? '● Culprit' : 'Culprit'
  }, [health])
  return (
    <>
      <header>
        <h1>Culprit</h1>
        <p class={`health ${health === 'ok' ? 'good' : health === 'incident' ? 'bad' : 'doubtful'}`}>{summary === null ? '…' : `${summary.host ?? ''}: ${summary.text ?? health}`}</p>
        <nav aria-label="views">
          {MENU.map(([name, title]) => <a key={name} href={`#/${name}`} aria-current={here.view === name ? 'page' : undefined}>{title}</a>)}
        </nav>
      </header>
      <main>
        <Trouble read={read} />
        {here.view === 'services' ? <Services /> : here.view === 'changes' ? <Changes /> : here.view === 'status' ? <Status /> : <Incidents id={here.id} />}
      </main>
      <footer>
        {(summary?.problems ?? []).map((problem, index) => <p key={index} class="doubtful">problem: {problem}</p>)}
        <Complete completeness={summary?.completeness} />
        {summary === null ? null : <p>culpritd {summary.version ?? '?'}, up {span(summary.uptime_s)} · the same on a terminal: <code>culprit</code></p>}
      </footer>
    </>
  )
}

const root = globalThis.document.getElementById('page')
if (root !== null) render(<Page />, root)
