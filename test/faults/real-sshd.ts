// OpenSSH in plain sight: without a namespace of its own, so that its processes are those that /proc shows, and a device on
// it can look for them. Between it and the device a proxy that can cut.

import { mkdirSync, writeFileSync } from 'node:fs'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import {
  type NodeConnectionOptions,
  type OpenBlockDeviceOptions,
  openBlockDevice,
  type SftpDevice,
} from '@sshblock/blockdev/node'
import type { ConnectionEvent } from '../../packages/blockdev/src/image/options.ts'
import { registerCleanup } from '../support/cleanup.ts'
import { clientKey, type KeyType } from '../support/keys.ts'
import { LOOPBACK, onFreePort, peerFolder, writeKnownHosts } from '../support/peer.ts'
import { commandOf, descendantsOf, isAlive, signal } from '../support/process-tree.ts'
import { findProgram } from '../support/program.ts'
import { type Accident, startProxy, type TcpProxy } from '../support/proxy.ts'
import { needsPrograms, needsRoot, type Requirement } from '../support/requirements.ts'
import { type ServerProcess, startServerProcess } from '../support/server-process.ts'

export const needsSshd: readonly Requirement[] = [
  needsPrograms('OpenSSH server', ['sshd', 'ssh-keygen'], 'openssh-server'),
  needsPrograms('OpenSSH sftp-server', ['sftp-server'], 'openssh-sftp-server'),
  needsRoot,
]

export const sftpServer = findProgram('sftp-server') ?? 'sftp-server'

export interface SshdOptions {
  /** The command of the sftp subsystem. Default: OpenSSH's sftp-server. */
  readonly sftp?: string
  readonly config?: readonly string[]
  /** Address to listen on, where the command that starts it makes one. Default: the loopback, behind a proxy. */
  readonly listen?: string
  readonly hostKeyType?: KeyType
  /** Words in front of the command. */
  readonly prefix?: readonly string[]
}

export class Sshd {
  readonly process: ServerProcess
  readonly port: number
  readonly listen: string
  readonly proxy: TcpProxy
  /** Folder that is its own, for images. */
  readonly data: string
  readonly knownHosts: string

  constructor(parts: Pick<Sshd, 'process' | 'port' | 'listen' | 'proxy' | 'data' | 'knownHosts'>) {
    this.process = parts.process
    this.port = parts.port
    this.listen = parts.listen
    this.proxy = parts.proxy
    this.data = parts.data
    this.knownHosts = parts.knownHosts
  }

  /** Processes of sftp-server that live. */
  get sftpServers(): number[] {
    return descendantsOf(this.process.pid).filter(
      (pid) => isAlive(pid) && /^\S*sftp-server/.test(commandOf(pid)),
    )
  }

  signalSftpServers(name: NodeJS.Signals): number[] {
    const pids = this.sftpServers
    for (const pid of pids) signal(pid, name)
    return pids
  }

  image(content: Uint8Array, name = 'disk.img'): string {
    const path = join(this.data, name)
    writeFileSync(path, content)
    return path
  }

  /** Opens a device through the proxy (or where it listens), with short times. */
  async open(
    path: string,
    options: OpenBlockDeviceOptions & NodeConnectionOptions = {},
  ): Promise<OpenedDevice> {
    const [host, port] =
      this.listen === LOOPBACK ? [this.proxy.host, this.proxy.port] : [this.listen, this.port]
    const events: ConnectionEvent[] = []
    const device = await openBlockDevice(
      { server: { host, port }, user: userInfo().username, path },
      {
        knownHostsFiles: [this.knownHosts],
        agent: false,
        keyFiles: [(await clientKey('ed25519')).privateFile],
        writable: true,
        requestTimeoutMs: 20_000,
        orderlyEndMs: 500,
        firstRetryMs: 20,
        maxRetryMs: 200,
        reconnectDelayMs: 30_000,
        onState: (event) => events.push(event),
        ...options,
      },
    )
    registerCleanup(() => device.close().catch(() => {}))
    return { device, events }
  }

  cut(how: Accident): void {
    this.proxy.cut(how)
  }
}

export interface OpenedDevice {
  readonly device: SftpDevice
  readonly events: ConnectionEvent[]
}

export async function startSshd(options: SshdOptions = {}): Promise<Sshd> {
  const { sftp = sftpServer, config = [], listen = LOOPBACK, prefix = [], hostKeyType = 'ed25519' } = options
  const folder = await peerFolder('faults', [hostKeyType], {})
  mkdirSync('/run/sshd', { recursive: true, mode: 0o755 })
  const configFile = join(folder.dir, 'sshd_config')
  const server = await onFreePort(async (port) => {
    const lines = [
      ...config,
      `Subsystem sftp ${sftp}`,
      `Port ${port}`,
      `ListenAddress ${listen}`,
      'PidFile none',
      ...folder.hostKeys.map((key) => `HostKey ${key.privateFile}`),
      `AuthorizedKeysFile ${folder.authorizedKeys}`,
      'StrictModes no',
      // A login shell that reads its start-up files here would make each command depend on this machine; bash leaves them
      // alone where it is not the first shell.
      'SetEnv SHLVL=1',
      'PermitRootLogin yes',
      'UsePAM no',
      'PasswordAuthentication no',
      'UseDNS no',
      'MaxStartups 100',
      'LogLevel VERBOSE',
    ]
    writeFileSync(configFile, `${lines.join('\n')}\n`)
    const [command = '', ...args] = [...prefix, findProgram('sshd') ?? 'sshd', '-D', '-e', '-f', configFile]
    const ready = /Server listening on .* port \d+/
    return { port, process: await startServerProcess({ name: 'sshd', command: { command, args }, ready }) }
  })
  const proxy = await startProxy({ target: { host: LOOPBACK, port: server.port } })
  const [host, port] = listen === LOOPBACK ? [proxy.host, proxy.port] : [listen, server.port]
  const knownHosts = writeKnownHosts(folder.dir, host, port, folder.hostKeys)
  return new Sshd({ ...server, listen, proxy, data: folder.data, knownHosts })
}

/** Waits until something is so; fails after half a minute. */
export async function until(what: string, condition: () => boolean): Promise<void> {
  const end = performance.now() + 30_000
  while (!condition()) {
    if (performance.now() > end) throw new Error(`waited in vain until ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
}

/** Waits until what a device writes has come through the proxy, and is in the hands of the server. */
export async function untilArrived(sshd: Sshd, bytes: number): Promise<void> {
  await until('the bytes have arrived', () => {
    const { toServer } = sshd.proxy.counters()
    return toServer.bytes >= bytes && toServer.waiting === 0
  })
  // sshd opens the packet and hands it on: when it sleeps again it has.
  await new Promise((resolve) => setTimeout(resolve, 150))
}

export function filled(byte: number, length = 4096): Uint8Array {
  return new Uint8Array(length).fill(byte)
}
