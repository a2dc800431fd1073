/** What the servers written in Python have in common: one script, its settings as JSON, its port as a line of its output. */
import { copyFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { thisUser } from './accounts.ts'
import type { KeyType } from './keys.ts'
import { hasNamespaces, inNamespace } from './namespace.ts'
import { LOOPBACK, type Peer, type PeerOptions, peerFolder, writeKnownHosts } from './peer.ts'
import { startServerProcess } from './server-process.ts'

export interface PythonServerOptions extends PeerOptions {
  /** Users with a password, besides the one with the keys. They are known to the server only. */
  readonly passwords?: Readonly<Record<string, string>>
  /** Rounds of keyboard-interactive, each a list of question, whether the answer may be shown, right answer. */
  readonly questions?: readonly (readonly (readonly [text: string, echo: boolean, answer: string])[])[]
}

export interface PythonScript {
  readonly name: string
  /** In this folder. */
  readonly file: string
  readonly python: string
  /** Where Python and its modules are; undefined for the machine's own. */
  readonly root: string | undefined
  readonly hostKeyTypes: readonly KeyType[]
  /** Merged into the settings. */
  readonly settings: Readonly<Record<string, unknown>>
}

export async function startPythonServer(script: PythonScript, options: PythonServerOptions): Promise<Peer> {
  const folder = await peerFolder(script.name, script.hostKeyTypes, options)
  const source = fileURLToPath(new URL(`./${script.file}`, import.meta.url))
  const program = join(folder.dir, basename(source))
  copyFileSync(source, program)
  const settings = {
    host: LOOPBACK,
    host_keys: folder.hostKeys.map((key) => key.privateFile),
    authorized_keys: folder.authorizedKeys,
    home: folder.home,
    user: thisUser().name,
    users: options.passwords ?? {},
    questions: options.questions ?? [],
    ...script.settings,
  }
  const inner = { command: script.python, args: ['-u', program, JSON.stringify(settings)] }
  const place = { dir: folder.dir, root: script.root, accounts: [], files: new Map<string, string>() }
  const command = hasNamespaces() ? inNamespace(inner, place) : inner
  const server = await startServerProcess({
    name: script.name,
    command,
    ready: /^listening on port \d+$/m,
    scope: options.scope,
  })
  const port = Number(/^listening on port (\d+)$/m.exec(server.log())?.[1])
  return {
    ...server,
    host: LOOPBACK,
    port,
    user: settings.user,
    hostKeys: folder.hostKeys,
    paths: { ...folder, knownHosts: writeKnownHosts(folder.dir, LOOPBACK, port, folder.hostKeys) },
  }
}
