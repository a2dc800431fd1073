/** Debian's Chromium without a window: one process for a test file, a fresh profile for each visit. */
import { rmSync } from 'node:fs'
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core'
import { registerCleanup } from '../../support/cleanup.ts'
import { findProgram } from '../../support/program.ts'
import { needsPrograms, type Requirement } from '../../support/requirements.ts'
import { tempDir } from '../../support/temp-dir.ts'

export function needsChromium(): Requirement {
  return needsPrograms('Chromium', ['chromium'], 'chromium')
}

const flags = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--disable-dev-shm-usage',
  // A name that is no loopback name: pages from there have no `crypto.subtle`, as every page over plain http.
  '--host-resolver-rules=MAP insecure.example 127.0.0.1',
]

export const insecureHost = 'insecure.example'

export interface RunningChromium {
  readonly browser: Browser
  /** A page with a profile of its own; its errors fail the test that visits it. */
  visit(url: string, options?: Parameters<Browser['newContext']>[0]): Promise<Page>
}

/** Starts Chromium for the whole file; call it in `beforeAll`. */
export async function startChromium(): Promise<RunningChromium> {
  const home = tempDir('chromium', { scope: 'file' })
  const browser = await chromium.launch({
    executablePath: findProgram('chromium') ?? 'chromium',
    headless: true,
    args: flags,
    env: { ...process.env, HOME: home, XDG_CONFIG_HOME: home, XDG_CACHE_HOME: home },
    timeout: 60_000,
  })
  registerCleanup(
    async () => {
      await browser.close()
      rmSync(home, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 })
    },
    { scope: 'file' },
  )
  return {
    browser,
    async visit(url, options) {
      const context = await browser.newContext(options)
      const errors: Error[] = []
      context.on('weberror', (error) => errors.push(error.error()))
      registerCleanup(async () => {
        await close(context)
        if (errors.length > 0) throw new AggregateError(errors, `the page failed: ${errors.join('; ')}`)
      })
      const page = await context.newPage()
      await page.goto(url)
      return page
    },
  }
}

async function close(context: BrowserContext): Promise<void> {
  // A browser that has gone already took its pages along.
  await context.close().catch(() => {})
}
