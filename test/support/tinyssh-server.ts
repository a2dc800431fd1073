/**
 * A private tinysshd on loopback. It serves one connection on its standard streams, so this file listens and starts one
 * for each. One session channel to a connection; ed25519, chacha20-poly1305 and no EXT_INFO are all it has.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { join } from 'node:path'
import { thisUser } from './accounts.ts'
import { registerCleanup } from './cleanup.ts'
import { readKeyPair } from './keys.ts'
import { inNamespace, needsNamespaces } from './namespace.ts'
import { LOOPBACK, type Peer, type PeerOptions, peerFolder, writeKnownHosts } from './peer.ts'
import { killTree } from './process-tree.ts'
import { findProgram, runOrThrow } from './program.ts'
import { needsPrograms, type Requirement, requirePeers } from './requirements.ts'

export function needsTinyssh(): Requirement {
  const programs = needsPrograms(
    'tinysshd',
    ['tinysshd', 'tinysshd-makekey', 'tinysshd-printkey'],
    'tinysshd',
  )
  return programs.missing === undefined ? { ...needsNamespaces(), name: 'tinysshd' } : programs
}

/** Without pid and waitForLog: there is a process for each connection, and it logs nothing of interest before it ends. */
export interface TinysshPeer extends Omit<Peer, 'pid' | 'waitForLog'> {
  /** The path that the server has for `paths.home`. */
  readonly homeInside: string
}

export async function startTinyssh(options: Omit<PeerOptions, 'hostKeyTypes'> = {}): Promise<TinysshPeer> {
  requirePeers([needsTinyssh()])
  const folder = await peerFolder('tinyssh', [], options)
  const keys = join(folder.dir, 'keys')
  await runOrThrow('tinysshd-makekey', [keys])
  writeFileSync(join(folder.dir, 'host.pub'), (await runOrThrow('tinysshd-printkey', [keys])).stdout)
  const hostKeys = [readKeyPair(join(folder.dir, 'host'))]

  const sftp = `sftp=${findProgram('sftp-server') ?? '/usr/lib/openssh/sftp-server'}`
  const inner = { command: findProgram('tinysshd') ?? 'tinysshd', args: ['-v', '-x', sftp, keys] }
  // It trusts no authorized_keys below a folder that others can write to, as /tmp is, so the private home folder is laid
  // over the user's own one.
  const me = thisUser()
  const folders = new Map([[me.home, folder.home]])
  const place = { dir: folder.dir, root: undefined, accounts: [], files: new Map<string, string>(), folders }
  const { command, args } = inNamespace(inner, place)

  let log = ''
  const children = new Set<ChildProcess>()
  const listener = createServer({ pauseOnConnect: true, noDelay: true }, (socket) => {
    const child = spawn('setpriv', ['--pdeathsig', 'KILL', command, ...args], {
      stdio: [socket, socket, 'pipe'],
    })
    children.add(child)
    child.stderr?.setEncoding('utf8').on('data', (chunk: string) => {
      log += chunk
    })
    child.once('exit', () => children.delete(child))
    socket.destroy() // Our copy: the child has its own.
  })
  await new Promise<void>((resolve) => listener.listen(0, LOOPBACK, resolve))
  const { port } = listener.address() as AddressInfo
  const kill = (): void => {
    for (const child of children) if (child.pid !== undefined) killTree(child.pid)
  }
  const cleanup = registerCleanup(
    async () => {
      const closed = new Promise((resolve) => listener.close(resolve))
      kill()
      await closed
    },
    { scope: options.scope, onExit: kill },
  )
  return {
    host: LOOPBACK,
    port,
    user: me.name,
    hostKeys,
    paths: { ...folder, knownHosts: writeKnownHosts(folder.dir, LOOPBACK, port, hostKeys) },
    homeInside: me.home,
    log: () => log,
    stop: () => cleanup.run(),
  }
}
