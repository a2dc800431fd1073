/** The session lives in a worker: whatever is transferred, the page's main thread has nothing to do with it. */
import { createHash, randomBytes } from 'node:crypto'
import {
  closeSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readFileSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import type { Page } from 'playwright-core'
import { expect, it } from 'vitest'
import { makeFat16 } from '../../packages/web/src/demo/fat16-image.ts'
import type { WebServer } from '../../packages/web/src/node-web-server.ts'
import { needsChromium } from '../browser/support/chromium.ts'
import { describeWith } from '../support/requirements.ts'
import { tempDir } from '../support/temp-dir.ts'
import { countMessages, loadDuring, type PageLoad } from './main-thread.ts'
import { saved, servedPage } from './served-page.ts'

const mebibyte = 1024 * 1024
/** SSHBLOCK_BROWSER_MIB=256 for the long run. */
const transferBytes = Number(process.env['SSHBLOCK_BROWSER_MIB'] ?? 64) * mebibyte
const digest = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

/** A disk without partitions that holds one file. */
function writeDisk(path: string, content: Uint8Array): void {
  const volumeBytes = 2 * content.length
  const volume = { volumeBytes, hiddenSectors: 0, label: 'LARGE', modified: new Date('2026-01-01') }
  const file = openSync(path, 'wx')
  ftruncateSync(file, volumeBytes)
  for (const { offset, bytes } of makeFat16([{ name: 'inside.bin', content }], volume))
    writeSync(file, bytes, 0, bytes.length, offset)
  closeSync(file)
}

describeWith([needsChromium()], 'the main thread of the page', () => {
  const { serve, visit, output } = servedPage()

  async function connectedAndCounting(server: WebServer): Promise<Page> {
    const page = await visit(server)
    await countMessages(page)
    await page.reload()
    await page.getByRole('button', { name: 'Connect' }).click()
    await page.getByRole('heading', { name: 'Connected as demo' }).waitFor()
    return page
  }

  /** `moved` is how many bytes went through the page's worker. */
  function expectIdle(load: PageLoad, moved: number): void {
    const { page, worker, elapsedMs, messageBytes, messages } = load
    const report = JSON.stringify(load)
    // The measure works: whoever encrypts so much is busy.
    expect(worker.totalMs, report).toBeGreaterThan(100)
    expect(page.tasks, report).toBeGreaterThan(0)
    expect(page.longestMs, report).toBeLessThan(50)
    // What it shows costs something all the time, and nothing for each byte.
    expect(page.totalMs, report).toBeLessThan(worker.totalMs / 4 + elapsedMs / 10)
    // A page of the hex view; never a part of what is transferred.
    expect(messageBytes, report).toBeLessThan(moved / 1000)
    expect(messages, report).toBeGreaterThan(0)
  }

  it('has no task of 50 ms and sees no byte of what is uploaded, downloaded or read from a disk', {
    timeout: 300_000,
  }, async () => {
    const server = await serve()
    const content = randomBytes(transferBytes)
    const inside = randomBytes(32 * mebibyte)
    const local = join(tempDir('upload'), 'large.bin')
    writeFileSync(local, content)
    writeDisk(join(server.folder, 'large.img'), inside)
    const page = await connectedAndCounting(server)

    const upload = await loadDuring(page, async () => {
      await page.getByLabel('Files to upload').setInputFiles(local)
      await page.getByText('large.bin was uploaded').waitFor()
    })
    expect(digest(readFileSync(join(server.folder, 'large.bin')))).toBe(digest(content))
    expectIdle(upload, content.length)

    let bytes: Buffer | undefined
    const download = await loadDuring(page, async () => {
      ;({ bytes } = await saved(page, () => page.getByRole('button', { name: 'Download large.bin' }).click()))
    })
    expect(digest(bytes!)).toBe(digest(content))
    expectIdle(download, content.length)

    await page.getByRole('button', { name: 'Open as disk large.img' }).click()
    const disk = await loadDuring(page, async () => {
      ;({ bytes } = await saved(page, () =>
        page.getByRole('button', { name: 'Download inside.bin' }).click(),
      ))
    })
    expect(digest(bytes!)).toBe(digest(inside))
    expectIdle(disk, inside.length)
    // The page has been told what was read all the same.
    await page.getByText(/^3[2-9](\.\d)? MiB of 64\.0 MiB fetched .* of it ahead/).waitFor()
  })

  it('shows a folder of 2500 names in small parts, and finds what is not shown by the filter', async () => {
    const server = await serve()
    const folder = join(server.folder, 'many')
    mkdirSync(folder)
    for (let i = 1; i <= 2500; i++) writeFileSync(join(folder, `file number ${i}`), '')
    const page = await connectedAndCounting(server)
    const names = page.getByRole('region', { name: 'Files in /many' }).getByRole('rowheader')
    const load = await loadDuring(page, async () => {
      await page.getByRole('button', { name: 'Open folder many' }).click()
      await page.getByText('500 more are not shown').waitFor()
    })
    // A third of what all rows at once would take. What this test asks the page costs some of it.
    expect(load.page.longestMs, JSON.stringify(load)).toBeLessThan(80)
    await expect.poll(() => names.count()).toBe(200)
    await page.getByRole('button', { name: 'Show 200 more of 1800' }).click()
    await expect.poll(() => names.count()).toBe(400)
    await page.getByLabel('Filter names').fill('NUMBER 1234')
    await expect.poll(() => names.allTextContents()).toEqual(['file number 1234'])
  })

  it('has no SSH, SFTP or file system in its own code', () => {
    const modules = output().output.flatMap((each) => (each.type === 'chunk' ? each.moduleIds : []))
    const ours = modules.filter((id) => !id.includes('/node_modules/'))
    expect(ours.some((id) => id.endsWith('/page/remote-server.ts'))).toBe(true)
    const theWorkers =
      /\/packages\/(transport\/src\/(?!errors|safe-text)|sftp\/src\/client|web\/src\/filesystems\/)/
    expect(ours.filter((id) => theWorkers.test(id))).toEqual([])
  })
})

describeWith([needsChromium()], "the worker of the page's session", () => {
  const { serve, connected } = servedPage()

  it('ends with Disconnect, and with it what it knew', async () => {
    const page = await connected(await serve())
    expect(page.workers()).toHaveLength(1)
    await page.getByRole('button', { name: 'Disconnect' }).click()
    await page.getByRole('heading', { name: 'Connect to an SSH server' }).waitFor()
    await expect.poll(() => page.workers().length).toBe(0)
    expect(await page.getByRole('alert').count()).toBe(0)
  })

  it('ends with a lost connection, after what was under way was told', async () => {
    const server = await serve()
    writeFileSync(join(server.folder, 'large.bin'), randomBytes(64 * mebibyte))
    const page = await connected(server)
    const download = page.waitForEvent('download')
    await page.getByRole('button', { name: 'Download large.bin' }).click()
    const started = await download
    await server.close()
    await page.getByText(/The connection was lost/).waitFor()
    expect(await started.failure()).not.toBeNull()
    await expect.poll(() => page.workers().length).toBe(0)
  })

  it('that breaks is told, and another one can be had', async () => {
    const page = await connected(await serve())
    await page.workers()[0]!.evaluate(() => {
      setTimeout(() => {
        throw new Error('out of order')
      })
    })
    await page
      .getByRole('alert')
      .getByText(/The connection was lost: the worker of the session broke: .*out of order/)
      .waitFor()
    await page.getByRole('button', { name: 'Connect' }).click()
    await page.getByRole('heading', { name: 'Connected as demo' }).waitFor()
    expect(page.workers()).toHaveLength(1)
  })
})
