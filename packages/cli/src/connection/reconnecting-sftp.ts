// SFTP over one connection after the other, for transfers that go on after a loss. What was opened is closed at the end.

import { isConnectionLoss, type LostTransfer, type RetryOptions, type SftpClient } from '@sshblock/sftp'
import type { Session } from '@sshblock/transport'
import { reasonOf } from '../failure.ts'
import { type Invocation, tell } from '../invocation.ts'
import type { ConnectionFlags } from './flags.ts'
import { openSftpOn, type Server } from './server.ts'

/** Attempts in a row that transferred nothing, after which to give up. */
const maxVainAttempts = 10
const firstPauseMs = 500
const longestPauseMs = 30_000

export class ReconnectingSftp implements AsyncDisposable {
  readonly #server: Server
  readonly #flags: ConnectionFlags
  readonly #invocation: Invocation
  readonly #sessions: Session[] = []
  readonly #sessionOf = new WeakMap<SftpClient, Session>()

  constructor(server: Server, flags: ConnectionFlags, invocation: Invocation) {
    this.#server = server
    this.#flags = flags
    this.#invocation = invocation
  }

  /** For transfers that know how to go on. */
  get retry(): Pick<RetryOptions, 'reconnect' | 'onRetry'> {
    return {
      reconnect: ({ signal }: LostTransfer) => this.#connect(signal ?? this.#invocation.signal),
      onRetry: ({ cause, delayMs }) => this.#tell(cause, delayMs),
    }
  }

  /** One more SFTP channel on the connection of a client, for transfers that use several. */
  openBeside(client: SftpClient): Promise<SftpClient> {
    const session = this.#sessionOf.get(client) ?? this.#server.session
    return openSftpOn(session, this.#flags, this.#invocation)
  }

  /**
   * Calls `work` again, with a new client, for as long as connections are lost under it and it comes further.
   * @param progress tells how far it has come
   */
  async run<T>(work: (client: SftpClient) => Promise<T>, progress: () => number): Promise<T> {
    let client: SftpClient | undefined = this.#server.sftp
    let reached = progress()
    let vain = 0
    for (;;) {
      try {
        client ??= await this.#connect(this.#invocation.signal)
        return await work(client)
      } catch (error) {
        if (this.#invocation.signal.aborted || !isConnectionLoss(error)) throw error
        vain = progress() > reached ? 0 : vain + 1
        reached = progress()
        if (vain > maxVainAttempts) throw error
        const pauseMs = Math.min(longestPauseMs, firstPauseMs * 2 ** vain)
        this.#tell(error, pauseMs)
        await paused(pauseMs, this.#invocation.signal)
        client = undefined
      }
    }
  }

  async #connect(signal: AbortSignal): Promise<SftpClient> {
    const session = await this.#server.again(signal)
    this.#sessions.push(session)
    const client = await openSftpOn(session, this.#flags, this.#invocation)
    this.#sessionOf.set(client, session)
    return client
  }

  #tell(cause: unknown, pauseMs: number): void {
    tell(
      this.#invocation,
      `lost the connection: ${reasonOf(cause)}; connecting again in ${Math.ceil(pauseMs / 1000)} s`,
    )
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const session of this.#sessions) {
      if (this.#invocation.signal.aborted) session.destroy()
      else await session.close()
    }
  }
}

function paused(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = (): void => {
      clearTimeout(timer)
      signal.removeEventListener('abort', end)
      resolve()
    }
    const timer = setTimeout(end, ms)
    signal.addEventListener('abort', end, { once: true })
  })
}
