// The checks of a server: SSH by scripted clients, SFTP by scripted clients on channels of honest sessions.

import { runSftpTrials, type SftpTarget, sftpChecks } from '@sshblock/sftp/conformance'
import {
  ChannelClosedError,
  ChannelOpenError,
  insecureAcceptAnyHostKey,
  type Session,
} from '@sshblock/transport'
import {
  type CheckResult,
  runTrials,
  ScriptedPeer,
  type ServerTarget,
  serverChecks,
} from '@sshblock/transport/conformance'
import { type AuthMethod, connect, connectTcp, nodeCrypto } from '@sshblock/transport/node'
import type { Options } from './options.ts'

/** What the server calls itself. @throws where it cannot be reached */
export async function identificationOf({ host, port }: Options): Promise<string> {
  const peer = new ScriptedPeer(await connectTcp({ host, port }), { role: 'client', crypto: nodeCrypto })
  try {
    await peer.upTo('identified')
    return peer.theirIdentification ?? ''
  } finally {
    peer.wire.abort()
  }
}

/** @throws where the server cannot be reached, or does not speak SSH. */
export async function runAgainstServer(options: Options): Promise<CheckResult[]> {
  const { host, port, user, signer, password, patienceMs, atOnce, only } = options
  const login =
    user === undefined
      ? {}
      : {
          login: {
            user,
            ...(signer === undefined ? {} : { signer }),
            ...(password === undefined ? {} : { password }),
          },
        }
  const target: ServerTarget = {
    role: 'server',
    connect: () => connectTcp({ host, port }),
    crypto: nodeCrypto,
    patienceMs,
    ...login,
  }
  const runOptions = { concurrency: atOnce, ...(only === undefined ? {} : { only }) }
  const results = await runTrials(target, serverChecks, { ...runOptions, everyNumber: options.full })
  const wantsSftp = user !== undefined && sftpChecks.some(({ id }) => only?.(id) ?? true)
  return wantsSftp ? [...results, ...(await runSftp(options, runOptions))] : results
}

async function runSftp(
  options: Options,
  runOptions: Parameters<typeof runSftpTrials>[2],
): Promise<CheckResult[]> {
  const sessions = new Sessions(options)
  const { folder, patienceMs } = options
  const target: SftpTarget = {
    open: () => sessions.openSftp(),
    patienceMs,
    ...(folder === undefined ? {} : { folder }),
  }
  try {
    return await runSftpTrials(target, sftpChecks, runOptions)
  } catch (error) {
    if (!(error instanceof ChannelClosedError) || error.code !== 'ERR_SSH_REQUEST_REFUSED') throw error
    // A server without SFTP breaks no rule.
    return sftpChecks
      .filter(({ id }) => runOptions?.only?.(id) ?? true)
      .map(({ id, claim, clause, level }) => ({
        id,
        claim,
        clause,
        level,
        outcome: 'not-applicable',
        came: 'it has no subsystem sftp',
        elapsedMs: 0,
      }))
  } finally {
    await sessions.close()
  }
}

/** Honest sessions, one more whenever the server opens no further channel on the last one. */
class Sessions {
  readonly #options: Options
  readonly #sessions: Session[] = []
  #opening: Promise<Session> | undefined

  constructor(options: Options) {
    this.#options = options
  }

  async openSftp(): ReturnType<Session['openSubsystem']> {
    const last = this.#sessions.at(-1)
    if (last !== undefined && last.failure === undefined) {
      try {
        return await last.openSubsystem('sftp')
      } catch (error) {
        // Dropbear closes a channel that is opened while another one ends.
        const wasClosed = error instanceof ChannelClosedError && error.code !== 'ERR_SSH_REQUEST_REFUSED'
        if (!wasClosed && !(error instanceof ChannelOpenError)) throw error
      }
    }
    // Several checks may be refused at once; one new session serves them all.
    this.#opening ??= this.#connect().finally(() => {
      this.#opening = undefined
    })
    await this.#opening
    return this.openSftp()
  }

  async #connect(): Promise<Session> {
    const { host, port, user, signer, password } = this.#options
    const auth: AuthMethod[] = []
    if (signer !== undefined) auth.push({ type: 'publickey', signer })
    if (password !== undefined) auth.push({ type: 'password', password })
    if (auth.length === 0) auth.push({ type: 'none' })
    const session = await connect({
      host,
      port,
      username: user ?? '',
      auth,
      hostKeyPolicy: insecureAcceptAnyHostKey(),
    })
    this.#sessions.push(session)
    return session
  }

  async close(): Promise<void> {
    await Promise.all(this.#sessions.map((session) => session.close()))
  }
}
