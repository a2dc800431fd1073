/** The built page with everything behind it, and what a person does at its beginning. One build for a test file. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Page } from 'playwright-core'
import { build, type Rolldown } from 'vite'
import { beforeAll } from 'vitest'
import { startWebServer, type WebServer } from '../../packages/web/src/node-web-server.ts'
import { type RunningChromium, startChromium } from '../browser/support/chromium.ts'
import { registerCleanup } from '../support/cleanup.ts'
import { tempDir } from '../support/temp-dir.ts'

const configFile = fileURLToPath(new URL('../../packages/web/vite.config.ts', import.meta.url))

export interface ServedPage {
  /** Of this file's page, with a server and a folder of its own. */
  serve(options?: { allow?: readonly string[]; folder?: string }): Promise<WebServer>
  visit(server: WebServer): Promise<Page>
  /** A visit that has pressed Connect. */
  connected(server: WebServer): Promise<Page>
  /** What the build wrote. */
  output(): Rolldown.RolldownOutput
}

/** Builds the page and starts Chromium, before the tests of this file. */
export function servedPage(): ServedPage {
  let chromium: RunningChromium
  let pageFolder: string
  let output: Rolldown.RolldownOutput
  beforeAll(async () => {
    pageFolder = tempDir('page', { scope: 'file' })
    const quiet = {
      configFile,
      logLevel: 'silent',
      build: { outDir: pageFolder, emptyOutDir: true },
    } as const
    const [started, built] = await Promise.all([startChromium(), build(quiet)])
    chromium = started
    output = built as Rolldown.RolldownOutput
  })
  const page: ServedPage = {
    output: () => output,
    async serve(options = {}) {
      const server = await startWebServer({ pageFolder, ...options })
      registerCleanup(() => server.close())
      return server
    },
    async visit(server) {
      const visited = await chromium.visit(server.url, { viewport: { width: 1100, height: 800 } })
      visited.setDefaultTimeout(30_000)
      return visited
    },
    async connected(server) {
      const visited = await page.visit(server)
      await visited.getByRole('button', { name: 'Connect' }).click()
      await visited.getByRole('heading', { name: 'Connected as demo' }).waitFor()
      return visited
    },
  }
  return page
}

/** What a click on it saves. */
export async function saved(
  page: Page,
  click: () => Promise<void>,
): Promise<{ name: string; bytes: Buffer }> {
  const [download] = await Promise.all([page.waitForEvent('download'), click()])
  const path = join(tempDir('download'), 'file')
  await download.saveAs(path)
  return { name: download.suggestedFilename(), bytes: readFileSync(path) }
}
