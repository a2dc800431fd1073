/** An image on an OpenSSH server and `sshblock serve` in front of it, for the programs that know NBD. */
import { truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type OpensshPeer, startOpensshServer } from '../support/openssh-server.ts'
import { type Home, homeFor, type Running, start } from './command.ts'

export interface ServedImage {
  readonly peer: OpensshPeer
  readonly home: Home
  /** The server's file. */
  readonly file: string
  readonly uri: string
  readonly serving: Running
  /** Ctrl-C; resolves to how the command ended. */
  stop(): ReturnType<Running['finished']['then']>
}

export interface ServedImageOptions {
  readonly peer?: OpensshPeer
  /** Bytes at its beginning; zeros follow. */
  readonly content?: Uint8Array
  readonly size: number
  /** More arguments of serve. */
  readonly flags?: readonly string[]
  /** How long the command may run, in milliseconds. */
  readonly timeoutMs?: number
}

let numbered = 0

export async function serveImage(options: ServedImageOptions): Promise<ServedImage> {
  const { content = new Uint8Array(0), size, flags = [], timeoutMs = 50_000 } = options
  const peer = options.peer ?? (await startOpensshServer({ hostKeyTypes: ['ed25519'] }))
  const home = await homeFor(peer)
  const file = join(peer.paths.data, `served-${++numbered}.img`)
  writeFileSync(file, content)
  truncateSync(file, size)
  const serving = start(['serve', '--json', ...flags, `peer:${file}`], { home, timeoutMs })
  const [text] = await serving.printed(/^\{[\s\S]*^\}\n/m)
  const { exports } = JSON.parse(text) as { exports: { uri: string }[] }
  return {
    peer,
    home,
    file,
    uri: exports[0]?.uri ?? '',
    serving,
    stop: () => {
      serving.kill('SIGINT')
      return serving.finished
    },
  }
}
