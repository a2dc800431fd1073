/** A PC in software (QEMU without acceleration) whose only disk is an NBD export; its text screen is read, its keys are typed. */
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import { registerCleanup } from '../support/cleanup.ts'
import { tempDir } from '../support/temp-dir.ts'

export interface Emulator {
  /** Waits until the screen matches. */
  shows(pattern: RegExp, timeoutMs?: number): Promise<void>
  /** Presses keys by QEMU's names. */
  type(keys: readonly string[]): Promise<void>
  stop(): Promise<void>
}

/** VGA text mode: 25 lines of 80 cells, a character and its colours each. */
const textMemory = { address: 0xb8000, columns: 80, rows: 25 }

export async function startEmulator(uri: string): Promise<Emulator> {
  const args = [
    '-accel',
    'tcg',
    '-m',
    '64',
    '-display',
    'none',
    '-nodefaults',
    '-vga',
    'std',
    '-qmp',
    'stdio',
  ]
  const child = spawn('qemu-system-x86_64', [...args, '-drive', `file=${uri},format=raw,if=ide`], {
    stdio: ['pipe', 'pipe', 'pipe'],
  })
  registerCleanup(
    () => {
      child.kill('SIGKILL')
    },
    { onExit: () => child.kill('SIGKILL') },
  )
  let said = ''
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said += text
  })
  const ended = new Promise<void>((resolve) => child.on('close', () => resolve()))
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()

  // QEMU Machine Protocol: a greeting, then one answer a command among events.
  async function command(execute: string, args: Record<string, unknown> = {}): Promise<void> {
    child.stdin.write(`${JSON.stringify({ execute, arguments: args })}\n`)
    for (;;) {
      const { value, done } = await lines.next()
      if (done === true) throw new Error(`QEMU ended: ${said}`)
      const answer = JSON.parse(value) as { return?: unknown; error?: { desc: string } }
      if (answer.error !== undefined) throw new Error(`${execute}: ${answer.error.desc}`)
      if ('return' in answer) return
    }
  }

  const dump = join(tempDir('screen'), 'vga')
  async function screen(): Promise<string> {
    const { address, columns, rows } = textMemory
    await command('pmemsave', { val: address, size: 2 * columns * rows, filename: dump })
    const cells = readFileSync(dump)
    const characters = Array.from({ length: columns * rows }, (_, i) => String.fromCharCode(cells[2 * i]!))
    return Array.from({ length: rows }, (_, row) =>
      characters
        .slice(row * columns, (row + 1) * columns)
        .join('')
        .trimEnd(),
    ).join('\n')
  }

  await lines.next()
  await command('qmp_capabilities')
  return {
    async shows(pattern, timeoutMs = 90_000) {
      const end = performance.now() + timeoutMs
      for (;;) {
        const text = await screen()
        if (pattern.test(text)) return
        if (performance.now() > end) throw new Error(`the screen does not show ${pattern}:\n${text}`)
        await delay(100)
      }
    },
    async type(keys) {
      for (const key of keys) await command('send-key', { keys: [{ type: 'qcode', data: key }] })
    },
    async stop() {
      await command('quit')
      await ended
    },
  }
}
