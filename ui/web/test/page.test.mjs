// node page.test.mjs API_DEMO DOCUMENTS [SCREENSHOT.png]: drives the page as culpritd serves it (api_demo: the real HTTP server
// and the packed page over fixed documents), in Chromium. Exit code 77: no Chromium on this machine.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { chromium } from 'playwright-core'

const [demo, fixed, screenshot] = process.argv.slice(2)
const browserPath = [process.env.CHROMIUM, '/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find((path) => path && existsSync(path))
if (!browserPath) {
  console.error('no Chromium: apt-get install chromium, or set CHROMIUM')
  process.exit(77)
}

const HOSTILE = `<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>"'>\`\${1}&lt;b&gt;`

const folder = mkdtempSync(join(tmpdir(), 'culprit-page-'))
const documents = join(folder, 'documents')
cpSync(fixed, documents, { recursive: true })
const change = (name, edit) => {
  const path = join(documents, `${name}.json`)
  const document = JSON.parse(readFileSync(path, 'utf8'))
  edit(document)
  writeFileSync(path, JSON.stringify(document))
}

async function serve(port) {
  const server = spawn(demo, [join(folder, 'api.sock'), String(port), documents], { stdio: ['pipe', 'pipe', 'inherit'] })
  const [line] = await Promise.race([
    new Promise((resolve) => createInterface(server.stdout).once('line', (text) => resolve([text]))),
    new Promise((_, reject) => server.once('exit', (code) => reject(new Error(`api_demo ended with ${code}`)))),
  ])
  const stop = () => new Promise((resolve) => { server.once('exit', resolve); server.stdin.end() })
  return { port: Number(line), stop }
}

let server = await serve(0)
const browser = await chromium.launch({ executablePath: browserPath, args: ['--no-sandbox', '--disable-dev-shm-usage'] })
const claims = []
const claim = (name, run) => claims.push([name, run])

const address = `http://127.0.0.1:${server.port}/`
const context = await browser.newContext({ viewport: { width: 1280, height: 900 } })
const page = await context.newPage()
page.setDefaultTimeout(20_000)
const foreign = []
const errors = []
page.on('request', (request) => { if (!request.url().startsWith(address) && !request.url().startsWith('data:')) foreign.push(request.url()) })
page.on('pageerror', (error) => errors.push(String(error)))
page.on('console', (message) => { if (message.type() === 'error' && !/ERR_CONNECTION|Failed to load resource/.test(message.text())) errors.push(message.text()) })

const shows = (text) => page.getByText(text, { exact: false }).locator('visible=true').first().waitFor()

claim('the newest incident, its causes and their evidence show', async () => {
  const answer = await page.goto(address)
  assert.match(answer.headers()['content-security-policy'], /default-src 'none'/)
  await shows('shop p99 1.84 s (normal 0.02 s)')
  await shows('postgres: session 4211 holds AccessExclusiveLock')
  await shows('confidence 0.91')
  await shows('shop waits on postgres 97 % of its time')
  await shows('ruled out: cpu (run-queue wait 0.3 ms), disk, redis, network')
  await shows('culprit events --entity pid:4211 --around 14:02:08')
  await shows('evidence 99.9 % complete (12 events dropped: ring_full)')
  await shows('disk vda: writes take 4 times longer')
})

claim('evidence stands on a time axis', async () => {
  assert.equal(await page.locator('.timeline svg .at-symptom').count(), 1)
  assert.equal(await page.locator('.timeline svg .at-trigger').count(), 1)
  assert.ok(await page.locator('.timeline svg .at-for').count() >= 3)
  const symptom = await page.locator('.at-symptom').boundingBox()
  const trigger = await page.locator('.at-trigger').boundingBox()
  assert.ok(trigger.x < symptom.x, 'the trigger came first')
})

claim('a picture is taken', async () => {
  if (screenshot) await page.screenshot({ path: screenshot, fullPage: true })
})

claim('light and dark follow the person', async () => {
  const colour = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor)
  await page.emulateMedia({ colorScheme: 'light' })
  const light = await colour()
  await page.emulateMedia({ colorScheme: 'dark' })
  assert.notEqual(await colour(), light)
  await page.emulateMedia({ colorScheme: 'light' })
})

claim('everything is reachable with the keyboard', async () => {
  const reached = new Set()
  for (let i = 0; i < 20; ++i) {
    await page.keyboard.press('Tab')
    reached.add(await page.evaluate(() => `${document.activeElement.tagName} ${document.activeElement.textContent.slice(0, 20)}`))
  }
  for (const wanted of ['A Services', 'A Status']) assert.ok(reached.has(wanted), `${wanted} in ${[...reached].join('; ')}`)
  assert.ok([...reached].some((name) => name.startsWith('SUMMARY')), 'causes open by keyboard')
  const second = page.locator('.cause details').nth(1)
  assert.equal(await second.getAttribute('open'), null)
  await second.locator('summary').focus()
  await page.keyboard.press('Enter')
  assert.notEqual(await second.getAttribute('open'), null)
})

claim('services, their calls, and why on demand', async () => {
  await page.getByRole('link', { name: 'Services' }).click()
  await shows('POST /orders')
  assert.equal(await page.locator('table').nth(1).locator('tbody tr').count(), 3)
  await page.getByRole('row', { name: /^shop/ }).getByRole('button', { name: 'why?' }).click()
  await page.locator('.asked').getByText('postgres: session 4211').first().waitFor()
})

claim('status shows losses by reason and channels', async () => {
  await page.getByRole('link', { name: 'Status' }).click()
  await shows('12 ring_full')
  await shows('high water')
})

claim('text from outside stays text, and new data come by themselves', async () => {
  await page.getByRole('link', { name: 'Incidents' }).click()
  await shows('postgres: session 4211')
  for (const name of ['why-shop', 'summary', 'incidents', 'services', 'status']) {
    const path = join(documents, `${name}.json`)
    const spoil = (value) => typeof value === 'string' && !/^\d{4}-|^(open|closed|explained|ok|incident|symptom)$/.test(value) ? value + HOSTILE
      : Array.isArray(value) ? value.map(spoil)
      : value !== null && typeof value === 'object' ? Object.fromEntries(Object.entries(value).map(([key, one]) => [key, spoil(one)])) : value
    writeFileSync(path, JSON.stringify(spoil(JSON.parse(readFileSync(path, 'utf8')))))
  }
  await page.locator('.answer h2').getByText('<img src=x onerror').waitFor()
  for (const view of ['services', 'changes', 'status', 'incidents']) {
    await page.goto(`${address}#/${view}`)
    await page.getByText('<script>window.pwned=1</script>').first().waitFor()
    assert.equal(await page.evaluate(() => window.pwned), undefined)
    assert.equal(await page.locator('main img, main script, main iframe, main object').count(), 0)
  }
})

claim('holes in the data are no blank page', async () => {
  writeFileSync(join(documents, 'why-shop.json'), '{"api": 1, "candidates": [{}, {"evidence": [{}], "confidence": null}], "symptoms": [{}]}')
  change('incidents', (document) => { document.incidents = [{ incident: 7 }] })
  await page.getByText('(no headline)').waitFor()
  await page.getByText('(no title)').first().waitFor()
})

claim('a daemon that is gone is said, and forgotten when it is back', async () => {
  const port = server.port
  await server.stop()
  await page.getByRole('alert').first().waitFor()
  assert.ok(await page.getByText('(no headline)').isVisible(), 'what was known stays')
  server = await serve(port)
  await page.getByRole('alert').first().waitFor({ state: 'detached' })
})

claim('nothing came from elsewhere, and nothing failed', async () => {
  assert.deepEqual(foreign, [])
  assert.deepEqual(errors, [])
})

let failed = 0
for (const [name, run] of claims) {
  try {
    await run()
    console.log(`ok    ${name}`)
  } catch (error) {
    ++failed
    console.log(`FAIL  ${name}\n${error.stack ?? error}`)
  }
}
await browser.close()
await server.stop()
rmSync(folder, { recursive: true, force: true })
console.log(failed === 0 ? `${claims.length} claims hold` : `${failed} of ${claims.length} failed`)
process.exit(failed === 0 ? 0 : 1)
