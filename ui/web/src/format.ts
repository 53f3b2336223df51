// Numbers and times for people; anything that is none becomes a dash.

const isNumber = (value: unknown): value is number => typeof value === 'number' && Number.isFinite(value)

function significant(value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? String(+value.toFixed(1)) : String(+value.toFixed(2))
}

export function seconds(value: unknown): string {
  if (!isNumber(value)) return '–'
  if (value === 0) return '0 s'
  if (Math.abs(value) >= 0.9995) return `${significant(value)} s`
  if (Math.abs(value) >= 0.0009995) return `${significant(value * 1e3)} ms`
  return `${significant(value * 1e6)} µs`
}

export function share(value: unknown): string {
  if (!isNumber(value)) return '–'
  const percent = value * 100
  if (percent > 99.9 && percent < 100) return '> 99.9 %'
  if (percent > 0 && percent < 0.1) return '< 0.1 %'
  return `${+percent.toFixed(1)} %`
}

export function rate(value: unknown): string {
  if (!isNumber(value)) return '–'
  return value < 10 ? `${+value.toPrecision(2)}/s` : `${value.toFixed(0)}/s`
}

export function bytes(value: unknown): string {
  if (!isNumber(value)) return '–'
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB']
  let unit = 0
  let size = value
  while (Math.abs(size) >= 1024 && unit + 1 < units.length) {
    size /= 1024
    ++unit
  }
  return `${size.toFixed(unit === 0 ? 0 : 1)} ${units[unit]}`
}

export const count = (value: unknown): string => (isNumber(value) ? value.toLocaleString('en') : '–')

export function span(value: unknown): string {
  if (!isNumber(value) || value < 0) return '–'
  const whole = Math.floor(value)
  if (whole < 60) return `${whole} s`
  if (whole < 3600) return `${Math.floor(whole / 60)} min`
  if (whole < 48 * 3600) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`
}

export function millis(text: unknown): number | null {
  if (typeof text !== 'string') return null
  const value = Date.parse(text)
  return Number.isNaN(value) ? null : value
}

const two = (value: number) => String(value).padStart(2, '0')

export function clock(value: unknown, now = Date.now()): string {
  const at = typeof value === 'number' ? value : millis(value)
  if (at === null) return ''
  const date = new Date(at)
  const time = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`
  return new Date(now).toDateString() === date.toDateString() ? time : `${two(date.getMonth() + 1)}-${two(date.getDate())} ${time}`
}
