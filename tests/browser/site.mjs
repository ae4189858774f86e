// Looks at every page of the site as a reader would: node site.mjs URL PAGES.json -> findings as JSON
import { createRequire } from 'module'
import { readFileSync, mkdirSync } from 'fs'
const { chromium } = createRequire(process.env.PLAYWRIGHT_FROM || import.meta.url)('playwright-core')

const [base, pagesFile] = process.argv.slice(2)
const pages = JSON.parse(readFileSync(pagesFile))
const shots = process.env.SCREENSHOTS
if (shots) mkdirSync(shots, { recursive: true })
const found = { faults: [], links: {}, math: 0, next: {}, previous: {} }
const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ['--no-sandbox'] })

for (const [width, scheme] of [[390, 'light'], [1400, 'light'], [390, 'dark']]) {
  const context = await browser.newContext({ viewport: { width, height: 900 }, colorScheme: scheme })
  const page = await context.newPage()
  let here = ''
  const fault = text => found.faults.push(`${here} at ${width} (${scheme}): ${text}`)
  page.on('console', m => { if (m.type() === 'error') fault('console: ' + m.text()) })
  page.on('pageerror', e => fault('script: ' + e.message))
  page.on('request', r => { if (!r.url().startsWith(base) && !/^(data|blob):/.test(r.url())) fault('asks another server: ' + r.url()) })
  page.on('response', r => { if (r.status() >= 400) fault(`${r.status()} ${r.url()}`) })
  for (const path of scheme === 'dark' ? pages.slice(0, 3) : pages) {
    here = path
    await page.goto(base + path, { waitUntil: 'load' })
    const seen = await page.evaluate(() => {
      const root = document.documentElement, out = { faults: [], links: [], math: document.querySelectorAll('math').length }
      if (root.scrollWidth > root.clientWidth + 1) {
        const wide = [...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > root.clientWidth + 1)
          .filter(e => { for (let p = e.parentElement; p; p = p.parentElement) if (/auto|scroll|hidden/.test(getComputedStyle(p).overflowX) && p !== document.body && p !== root) return false; return true })
        out.faults.push(`scrolls sideways by ${root.scrollWidth - root.clientWidth}: ` + wide.slice(0, 3).map(e => e.tagName + '.' + e.className + ' ' + e.textContent.slice(0, 40)).join(' | '))
      }
      for (const i of document.images) {
        if (!i.alt.trim()) out.faults.push('no alt: ' + i.src.slice(0, 80))
        if (i.complete && !i.naturalWidth) out.faults.push('missing picture: ' + i.src.slice(0, 80))
      }
      const text = document.querySelector('main').innerText
      if (/\\\((?=[^\n]{1,200}\\\))|\\\[[^\n]{1,200}\\\]|\\tag\{/.test([...document.querySelectorAll('main p, main span.math')].map(p => p.innerText).join('\n'))) out.faults.push('TeX in sight')
      for (const e of document.querySelectorAll('.eq')) {
        const m = e.querySelector('math'), n = e.querySelector('.eqno')
        if (!m || !n) continue
        const a = m.getBoundingClientRect(), b = n.getBoundingClientRect()
        if (a.right > b.left + 1 && a.left < b.right && a.bottom > b.top + 1 && a.top < b.bottom - 1) out.faults.push('an equation runs into its number ' + n.innerText)
      }
      for (const p of document.querySelectorAll('main pre')) if (p.scrollWidth > p.clientWidth + 1) out.faults.push('code is cut off: ' + p.innerText.slice(0, 60))
      for (const a of document.querySelectorAll('a[href]')) if (!a.getAttribute('href').startsWith('mailto')) out.links.push(a.href)
      const to = c => document.querySelector(`.nav-page-${c} a`)?.href
      return { ...out, next: to('next'), previous: to('previous') }
    })
    seen.faults.forEach(fault)
    found.math += seen.math
    for (const l of seen.links) if (l.startsWith(base)) (found.links[l] ||= []).push(path)
    if (seen.next) found.next[path] = seen.next.replace(base, '')
    if (seen.previous) found.previous[path] = seen.previous.replace(base, '')
    if (shots) await page.screenshot({ path: `${shots}/${path.replaceAll('/', '_')}-${width}-${scheme}.png`, fullPage: path === 'index.html' })
  }
  await context.close()
}

// Links and anchors
const page = await (await browser.newContext()).newPage()
const ids = {}
for (const link of Object.keys(found.links)) {
  const [address, anchor] = link.split('#')
  if (!(address in ids)) {
    const r = await page.request.get(address)
    ids[address] = r.ok() ? new Set([...(await r.text()).matchAll(/\sid="([^"]+)"/g)].map(m => m[1])) : null
  }
  if (!ids[address]) found.faults.push(`${found.links[link][0]}: broken link ${link}`)
  else if (anchor && !ids[address].has(decodeURIComponent(anchor))) found.faults.push(`${found.links[link][0]}: no such place ${link}`)
}
found.checked = Object.keys(found.links).length

// The drawings of the front page: nothing outside the paper, no words over other words
for (const name of ['road', 'curve']) {
  await page.goto(`${base}images/${name}.svg`)
  for (const f of await page.evaluate(() => {
    const paper = document.querySelector('rect').getBoundingClientRect()
    const words = [...document.querySelectorAll('text')].map(e => [e.textContent, e.getBoundingClientRect()])
    const out = words.filter(([, r]) => r.left < paper.left || r.right > paper.right || r.top < paper.top || r.bottom > paper.bottom).map(([t]) => 'leaves the paper: ' + t)
    words.forEach(([t, a], i) => words.slice(i + 1).forEach(([u, b]) => {
      if (a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 3 && b.top < a.bottom - 3) out.push(`${t} | ${u} lie on each other`)
    }))
    for (const box of document.querySelectorAll('.side')) {
      const b = box.getBoundingClientRect()
      for (const [t, r] of words) if (r.left > b.left && r.left < b.right && r.top > b.top && r.bottom < b.bottom + 8 && r.right > b.right - 2) out.push('leaves its box: ' + t)
    }
    return out
  })) found.faults.push(`images/${name}.svg: ${f}`)
}

// Search, and light against dark
await page.setViewportSize({ width: 1400, height: 900 })
await page.goto(base + 'index.html')
const box = page.locator('#quarto-search input, .aa-Input, input[type=search], #quarto-search button').first()
await box.click()
await page.keyboard.type('perplexity', { delay: 30 })
await page.waitForTimeout(1500)
found.search = await page.evaluate(() => [...document.querySelectorAll('a[href*="evaluate.html"]')].filter(a => a.closest('[class*=search], [class*=aa-], #quarto-search-results')).map(a => a.getAttribute('href')))
if (shots) await page.screenshot({ path: `${shots}/search.png` })
const paper = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor)
found.light = await paper()
await page.emulateMedia({ colorScheme: 'dark' })
await page.reload()
found.dark = await paper()
delete found.links
await browser.close()
console.log(JSON.stringify(found))
