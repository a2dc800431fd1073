// The same machine behind whole SSH sessions: our own SSH server in memory, whose bytes can be cut at any place of any packet,
// and whose keys can be exchanged at any moment. Old sessions do not haunt here: what was on its way is lost with the connection.

import {
  type ConnectTarget,
  type DriverSession,
  type OpenBlockDeviceOptions,
  openSshDevice,
  type SftpDevice,
} from '@sshblock/blockdev'
import { serveSftp } from '@sshblock/sftp'
import {
  type ByteDuplex,
  type ByteSink,
  connectOver,
  type EmbeddedServer,
  embeddedServer,
  nodeCrypto,
  type Session,
} from '@sshblock/transport/node'
import type { OpenOnConnectorOptions } from '../../../packages/blockdev/src/sftp-connector-device.ts'
import type { Link, Loss } from './link.ts'
import { connectionReset } from './link.ts'
import type { Machine, ServedConnection } from './machine.ts'
import { backendOf } from './sftp-process.ts'

/** A duplex that can be cut behind any byte of either direction. */
class CuttableDuplex implements ByteDuplex {
  readonly #inner: ByteDuplex
  #sink: ByteSink | undefined
  #isCut = false
  /** What happens when so many more bytes have passed. */
  cut: { direction: 'up' | 'down'; left: number; now: () => void } | undefined

  constructor(inner: ByteDuplex) {
    this.#inner = inner
  }

  start(sink: ByteSink): void {
    this.#sink = sink
    this.#inner.start({
      reserve: (min) => sink.reserve(min),
      commit: (count) => {
        if (this.#isCut) return
        const kept = this.#passing('down', count)
        sink.commit(kept)
        if (kept < count) this.cut?.now()
      },
      end: (cause) => this.#end(cause),
    })
  }

  write(slab: Uint8Array, done: () => void): void {
    if (this.#isCut) return
    const kept = this.#passing('up', slab.length)
    if (kept === slab.length) {
      this.#inner.write(slab, done)
      return
    }
    if (kept > 0) this.#inner.write(slab.slice(0, kept), () => {})
    this.cut?.now()
  }

  pause(): void {
    this.#inner.pause()
  }

  resume(): void {
    this.#inner.resume()
  }

  close(abort?: boolean): void {
    this.#inner.close(abort)
  }

  /** The client is told of a reset, or of nothing; the server sees its stream end. */
  lose(silent: boolean): void {
    if (this.#isCut) return
    this.#isCut = true
    this.#inner.close()
    if (!silent) this.#end(connectionReset())
  }

  #passing(direction: 'up' | 'down', count: number): number {
    const { cut } = this
    if (cut === undefined || cut.direction !== direction) return count
    const kept = Math.min(cut.left, count)
    cut.left -= kept
    return kept
  }

  #end(cause: Error | undefined): void {
    const sink = this.#sink
    this.#sink = undefined
    if (this.#isCut && cause === undefined) return
    sink?.end(cause)
  }
}

class SshModelConnection implements ServedConnection {
  readonly links: readonly Pick<
    Link,
    'cutAt' | 'hold' | 'release' | 'holdReplies' | 'releaseReplies' | 'doubleNextReply'
  >[]
  isOver = false
  readonly #duplex: CuttableDuplex
  session: Session | undefined

  constructor(duplex: CuttableDuplex) {
    this.#duplex = duplex
    const nothing = (): void => {}
    this.links = [
      {
        cutAt: (direction, at, _loss, now) => {
          duplex.cut = { direction, left: at, now }
        },
        hold: nothing,
        release: nothing,
        holdReplies: nothing,
        releaseReplies: nothing,
        doubleNextReply: nothing,
      },
    ]
  }

  lose(loss: Loss): void {
    this.isOver = true
    this.#duplex.lose(loss.client === 'silent')
  }

  vanish(silent: boolean): void {
    this.isOver = true
    this.#duplex.lose(silent)
  }

  rekey(): void {
    this.session?.rekey()
  }
}

/** Opens a device on the machine over SSH, as a location does. */
export function openOverSsh(
  machine: Machine,
  path: string,
  options: OpenOnConnectorOptions,
): Promise<SftpDevice> {
  const { time, random, maxChannels } = machine.options
  const server: EmbeddedServer = embeddedServer({
    crypto: nodeCrypto,
    subsystems: {
      sftp: async (channel) => {
        const life = { isDead: false }
        const boots = machine.boots
        const backend = backendOf(
          {
            get isDead() {
              return life.isDead || boots !== machine.boots
            },
          },
          { time, random, disk: machine.disk, trouble: machine.trouble },
        )
        await serveSftp(channel, backend).finished
        life.isDead = true
      },
    },
    maxChannels,
  })
  const connect = async ({ signal, keepalive }: ConnectTarget): Promise<DriverSession> => {
    machine.attempts++
    if (machine.reachable !== 'yes') throw connectionReset()
    let connection: SshModelConnection | undefined
    const session = await connectOver(
      async (abort) => {
        const duplex = new CuttableDuplex(await server.open(abort))
        connection = new SshModelConnection(duplex)
        machine.connections.push(connection)
        return duplex
      },
      {
        ...server.clientOptions,
        ...(signal === undefined ? {} : { signal }),
        ...(keepalive === undefined ? {} : { keepalive }),
        algorithms: { kex: ['curve25519-sha256'] },
      },
    )
    connection!.session = session
    return session
  }
  return openSshDevice(
    `ssh://user@embedded${path}`,
    // The trace is of another layer here.
    { ...(options as OpenBlockDeviceOptions), connect, keepalive: { intervalMs: 1000, maxMissed: 2 } },
    {
      crypto: nodeCrypto,
      connect: () => Promise.reject(new Error('the history connects itself')),
      loginName: () => 'user',
      knownHosts: () => Promise.reject(new Error('no known_hosts here')),
      authentication: async () => [],
    },
  )
}
