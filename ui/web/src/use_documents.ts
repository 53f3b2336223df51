// One clock for the whole page: every two seconds, while the page is visible, the documents of the view are read anew.
import { useEffect, useRef, useState } from 'preact/hooks'

const EVERY_MS = 2000

export interface Read<T> { document: T | null; error: string | null; since: number }

// `key` names what is read; a new key starts anew. Old data stay on the page while the daemon does not answer.
export function useDocument<T>(key: string, read: (() => Promise<T>) | null): Read<T> {
  const [state, setState] = useState<Read<T> & { key: string }>({ key, document: null, error: null, since: 0 })
  const latest = useRef(read)
  latest.current = read
  useEffect(() => {
    let ended = false
    let timer: ReturnType<typeof setTimeout> | undefined
    const tick = async () => {
      if (latest.current !== null && !document.hidden) {
        try {
          const answer = await latest.current()
          if (!ended) setState({ key, document: answer, error: null, since: 0 })
        } catch (error) {
          const message = error instanceof Error ? error.message : String(error)
          if (!ended) setState((old) => ({ key, document: old.key === key ? old.document : null, error: message, since: old.since || Date.now() }))
        }
      }
      if (!ended) timer = setTimeout(tick, EVERY_MS)
    }
    void tick()
    const wake = () => {
      if (document.hidden || ended) return
      clearTimeout(timer)
      void tick()
    }
    document.addEventListener('visibilitychange', wake)
    return () => {
      ended = true
      clearTimeout(timer)
      document.removeEventListener('visibilitychange', wake)
    }
  }, [key])
  return state.key === key ? state : { document: null, error: null, since: 0 }
}
