// What an SFTP check is run with: sessions on channels of their own, and a folder of the run's own to work in.

import type { ByteChannel } from '@sshblock/transport/byte-channel'
import {
  type Check,
  type CheckResult,
  NotApplicable,
  type RunOptions,
  runChecks,
  Unexpected,
} from '@sshblock/transport/conformance'
import { fileTypeBits } from '../messages/attributes.ts'
import { packetType } from '../messages/numbers.ts'
import * as replies from '../messages/replies.ts'
import * as requests from '../messages/requests.ts'
import { statusCode, statusName } from '../messages/status.ts'
import { bytesOf, decodeReply, ScriptedSftp, textOf } from './scripted-sftp.ts'

/** An SFTP server under test. */
export interface SftpTarget {
  /** Opens a channel to a new session of it: an SSH channel with the subsystem started, or the pipes of a process. */
  readonly open: () => Promise<ByteChannel>
  /** A folder that exists and may be written to, as the server names it; where paths start, where left out. */
  readonly folder?: string
  /** How long to wait for an answer, in milliseconds. */
  readonly patienceMs?: number
}

export class SftpTrial {
  readonly #target: SftpTarget
  readonly #folder: string | undefined
  readonly #sessions: ScriptedSftp[] = []
  #names = 0
  readonly #prefix: string

  constructor(target: SftpTarget, folder: string | undefined, prefix: string) {
    this.#target = target
    this.#folder = folder
    this.#prefix = prefix
  }

  /** A session before INIT. */
  async raw(): Promise<ScriptedSftp> {
    const { patienceMs } = this.#target
    const session = new ScriptedSftp(
      await this.#target.open(),
      patienceMs === undefined ? {} : { patienceMs },
    )
    this.#sessions.push(session)
    return session
  }

  /** A session behind VERSION. @throws Unexpected */
  async session(): Promise<ScriptedSftp> {
    const session = await this.raw()
    await session.init()
    return session
  }

  /** A path that no other check uses, in a folder that may be written to. @throws NotApplicable */
  path(name = 'file'): string {
    if (this.#folder === undefined) throw new NotApplicable('there is no folder to write to')
    return `${this.#folder}/${this.#prefix}-${this.#names++}-${name}`
  }

  end(): void {
    for (const session of this.#sessions) session.channel.close()
  }
}

/**
 * Runs checks against an SFTP server, in a new folder that is removed in the end. Where none can be made, checks that write
 * are not applicable.
 * @throws Unexpected where the server does not get as far as VERSION.
 */
export async function runSftpTrials(
  target: SftpTarget,
  checks: readonly Check<SftpTrial>[],
  options: RunOptions = {},
): Promise<CheckResult[]> {
  const setup = new SftpTrial(target, undefined, '')
  const session = await setup.session()
  const folder = await makeFolder(session, target.folder ?? '.')
  let runs = 0
  try {
    const results = await runChecks(
      checks,
      () => {
        const trial = new SftpTrial(target, folder, String(runs++))
        return { trial, end: () => trial.end() }
      },
      options,
    )
    if (folder !== undefined) await removeAll(session, folder)
    return results
  } finally {
    setup.end()
  }
}

/** A new folder with a name that nobody else has, as an absolute path; undefined where the server lets nobody write. */
async function makeFolder(session: ScriptedSftp, inside: string): Promise<string | undefined> {
  const parent = await session.name(requests.realpath, inside)
  const random = globalThis.crypto.getRandomValues(new Uint32Array(2))
  const path = `${parent === '/' ? '' : parent}/sshblock-conformance-${random[0]!.toString(36)}${random[1]!.toString(36)}`
  const code = await session.status(requests.mkdir, { path: bytesOf(path), attrs: { permissions: 0o700 } })
  if (code === statusCode.ok) return path
  if (code === statusCode.permissionDenied || code === statusCode.failure) return undefined
  throw new Unexpected('a folder to work in', statusName(code))
}

/** Removes a folder and what is in it; what cannot be removed stays. */
async function removeAll(session: ScriptedSftp, folder: string): Promise<void> {
  const reply = await session.ask(requests.opendir, { path: bytesOf(folder) })
  if (reply.type !== packetType.handle) return
  const { handle } = decodeReply(replies.handle, reply)
  const found: { name: string; isFolder: boolean }[] = []
  for (;;) {
    const batch = await session.ask(requests.readdir, { handle })
    if (batch.type !== packetType.name) break
    for (const { filename, attrs } of decodeReply(replies.name, batch).names) {
      const name = textOf(filename)
      const isFolder = ((attrs.permissions ?? 0) & fileTypeBits.mask) === fileTypeBits.directory
      if (name !== '.' && name !== '..') found.push({ name, isFolder })
    }
  }
  await session.ask(requests.close, { handle })
  for (const { name, isFolder } of found) {
    const path = `${folder}/${name}`
    if (isFolder) await removeAll(session, path)
    else await session.ask(requests.remove, { filename: bytesOf(path) })
  }
  await session.ask(requests.rmdir, { path: bytesOf(folder) })
}
