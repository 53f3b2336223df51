// node pack.mjs DIST OUT.cpp: the built page as C++ data. Bytes as octal escapes where they are not plain text.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const [dist, out] = process.argv.slice(2)
const types = { html: 'text/html; charset=utf-8', js: 'text/javascript; charset=utf-8', css: 'text/css; charset=utf-8', svg: 'image/svg+xml' }
const PIECE = 4096 // bytes of one literal; the compiler joins them

function literals(bytes) {
  const lines = []
  for (let start = 0; start < bytes.length; start += PIECE) {
    let line = ''
    for (const byte of bytes.subarray(start, start + PIECE)) {
      const plain = byte >= 0x20 && byte < 0x7f && byte !== 0x22 && byte !== 0x5c && byte !== 0x3f
      line += plain ? String.fromCharCode(byte) : '\\' + byte.toString(8).padStart(3, '0')
    }
    lines.push(`    "${line}"`)
  }
  return lines.length === 0 ? '    ""' : lines.join('\n')
}

const files = readdirSync(dist).filter((name) => types[name.split('.').pop()]).sort()
if (!files.includes('index.html')) throw new Error(`no index.html in ${dist}`)
let text = '// Generated from the built page by ui/web/pack.mjs.\n#include "ui/web/assets.h"\n\nnamespace culprit::web {\nnamespace {\n\nusing namespace std::literals;\n\n'
text += 'constexpr api::Asset kAssets[] = {\n'
for (const name of files) {
  const path = name === 'index.html' ? '/' : '/' + name
  text += `  {"${path}", "${types[name.split('.').pop()]}",\n${literals(readFileSync(join(dist, name)))}sv},\n`
}
text += '};\n\n}  // namespace\n\nstd::span<const api::Asset> assets() { return kAssets; }\n\n}  // namespace culprit::web\n'
writeFileSync(out, text)
