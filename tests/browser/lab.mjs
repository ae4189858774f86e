// JupyterLab runs a lesson, a slider moves and the picture changes: node lab.mjs URL -> findings as JSON
import { createRequire } from 'module'
const { chromium } = createRequire(process.env.PLAYWRIGHT_FROM || import.meta.url)('playwright-core')

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ['--no-sandbox'] })
const page = await (await browser.newContext({ viewport: { width: 1400, height: 1000 } })).newPage()
page.setDefaultTimeout(240000)
await page.goto(process.argv[2])
await page.locator('.jp-Notebook .jp-Cell').first().waitFor()
await page.getByText(/\| Idle$/).waitFor()                      // what is run before the kernel listens is lost
await page.locator('.lm-MenuBar-itemLabel', { hasText: /^Run$/ }).click()
await page.locator('[data-command="runmenu:run-all"]').click()
const accept = page.locator('.jp-Dialog .jp-mod-accept')        // which kernel?
if (await accept.isVisible({ timeout: 3000 }).catch(() => false)) await accept.click()

// Cells far down are drawn only when one scrolls there
const slider = page.locator('.noUi-handle').first()
const end = Date.now() + 240000
while (Date.now() < end && !await slider.count()) {
  await page.mouse.move(700, 600)
  await page.mouse.wheel(0, 1500)
  await page.waitForTimeout(400)
  if (await page.evaluate(() => { const n = document.querySelector('.jp-WindowedPanel-outer'); return n && n.scrollTop + n.clientHeight >= n.scrollHeight - 5 }))
    await page.evaluate(() => { document.querySelector('.jp-WindowedPanel-outer').scrollTop = 0 })
}
await slider.scrollIntoViewIfNeeded()
const state = () => page.evaluate(() => {
  const cell = document.querySelector('.noUi-handle').closest('.jp-Cell')
  return { pictures: [...cell.querySelectorAll('img')].map(i => i.src), value: document.querySelector('.noUi-handle').getAttribute('aria-valuenow'),
           texts: [...cell.querySelectorAll('.widget-label, .jupyter-widgets .widget-readout')].map(e => ({ text: e.innerText, cut: e.scrollWidth > e.clientWidth + 1 })) }
})
await page.waitForTimeout(2000)
const before = await state()
await slider.focus()
for (let i = 0; i < 12; i++) { await page.keyboard.press('ArrowRight'); await page.waitForTimeout(60) }
let after = await state()
for (const until = Date.now() + 30000; Date.now() < until && JSON.stringify(after.pictures) === JSON.stringify(before.pictures); after = await state()) await page.waitForTimeout(500)
if (process.env.SCREENSHOTS) await page.screenshot({ path: `${process.env.SCREENSHOTS}/lab.png` })
const errors = await page.locator('.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.error"]').count()
console.log(JSON.stringify({ errors, moved: before.value !== after.value, changed: JSON.stringify(before.pictures) !== JSON.stringify(after.pictures),
  pictures: after.pictures.length, value: [before.value, after.value], texts: after.texts }))
await browser.close()
