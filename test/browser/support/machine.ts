/** What an emulated PC needs beside its disk, and how to wait for its screen. */
import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import type { Page } from 'playwright-core'
import type { Requirement } from '../../support/requirements.ts'
import { run } from './run-scenario.ts'

const require = createRequire(new URL('../../../packages/web/package.json', import.meta.url))

export const bios = '/usr/share/seabios/bios.bin'
export const vgaBios = '/usr/share/seabios/vgabios-stdvga.bin'
export const grubImage = '/usr/lib/grub-rescue/grub-rescue-cdrom.iso'

/** Files of a Debian package. */
export function needsFiles(name: string, files: readonly string[], debianPackage: string): Requirement {
  const absent = files.filter((file) => !existsSync(file))
  return {
    name,
    missing: absent.length === 0 ? undefined : `${absent.join(', ')} (apt-get install ${debianPackage})`,
  }
}

export function needsBios(): Requirement {
  return needsFiles('SeaBIOS', [bios, vgaBios], 'seabios')
}

/** What the page asks its server for, by path. */
export function machineFiles(): ReadonlyMap<string, { type: string; body: Uint8Array }> {
  const bytes = 'application/octet-stream'
  return new Map([
    ['/bios/bios.bin', { type: bytes, body: readFileSync(bios) }],
    ['/bios/vgabios.bin', { type: bytes, body: readFileSync(vgaBios) }],
    ['/v86.wasm', { type: 'application/wasm', body: readFileSync(require.resolve('v86/build/v86.wasm')) }],
  ])
}

/** Waits until the emulated text screen shows it; fails with the screen as it was last. */
export async function waitForScreen(page: Page, pattern: RegExp, timeoutMs = 60_000): Promise<string> {
  const deadline = Date.now() + timeoutMs
  for (;;) {
    const text = await run(page, 'screenText')
    if (pattern.test(text)) return text
    if (Date.now() > deadline)
      throw new Error(`the screen did not show ${pattern} within ${timeoutMs} ms, but:\n${text}`)
    await new Promise((resolve) => setTimeout(resolve, 40))
  }
}

/** Types a line behind a prompt: a key at a time, when the one before is on the screen (a keyboard holds 16 keys). */
export async function typeLine(page: Page, prompt: string, line: string): Promise<void> {
  for (let typed = 1; typed <= line.length; typed++) {
    await run(page, 'typeKeys', line[typed - 1]!)
    const shown = `${prompt}${line.slice(0, typed)}`.trimEnd()
    await waitForScreen(page, new RegExp(shown.replace(/[^\w ]/g, '\\$&')))
  }
  await run(page, 'typeKeys', '\n')
}
