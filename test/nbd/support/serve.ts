/** A server on a Unix socket in a folder of its own, gone with the test. */
import { join } from 'node:path'
import {
  type NbdExport,
  type NbdExportResolver,
  type NbdServer,
  type NbdServerOptions,
  serveNbd,
} from '@sshblock/nbd'
import type { Scope } from '../../support/cleanup.ts'
import { registerCleanup } from '../../support/cleanup.ts'
import { tempDir } from '../../support/temp-dir.ts'
import { RawClient } from './raw-client.ts'
import type { TestDisk } from './test-disk.ts'

export interface Served extends NbdServer {
  readonly dir: string
  readonly socketPath: string
  client(): Promise<RawClient>
}

export async function serve(
  exports: TestDisk | readonly NbdExport[] | NbdExportResolver,
  options: Partial<NbdServerOptions> & { scope?: Scope } = {},
): Promise<Served> {
  const { scope, ...rest } = options
  const dir = tempDir('nbd', { scope })
  const socketPath = join(dir, 'sock')
  const wanted = 'bytes' in exports ? [{ name: '', device: exports }] : exports
  const server = await serveNbd(wanted, { listen: { socketPath }, ...rest })
  registerCleanup(() => server.close().catch(() => {}), { scope })
  return Object.assign(server, { dir, socketPath, client: () => RawClient.connect(server.address) })
}

/** Waits until `condition` holds; fails after `timeoutMs`. */
export async function until(condition: () => boolean, timeoutMs = 5000): Promise<void> {
  const end = performance.now() + timeoutMs
  while (!condition()) {
    if (performance.now() > end) throw new Error(`still not so after ${timeoutMs} ms: ${condition}`)
    await new Promise((resolve) => setTimeout(resolve, 1))
  }
}
