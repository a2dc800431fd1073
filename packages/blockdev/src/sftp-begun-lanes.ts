// Lanes that are begun before there is a device to use them: over a long way their channels, and SFTP on them, are opened
// together with those of the first lane, and the file as soon as it is known to be one that can be opened. What becomes of
// them is up to whoever takes them; one that could not be opened rejects for him. Knows nothing of lanes in use.

import type { RemoteFile } from '@sshblock/sftp'
import type { SftpSession } from './sftp-lane.ts'

export interface OpenedOnSession {
  readonly session: SftpSession
  readonly remote: RemoteFile
}

export class BegunLanes {
  #sessions: Promise<SftpSession>[]
  #opened: Promise<OpenedOnSession>[] = []

  /** Begins `count` sessions at once. */
  constructor(count: number, begin: () => Promise<SftpSession>) {
    this.#sessions = Array.from({ length: Math.max(0, count) }, begin)
    for (const session of this.#sessions) session.catch(() => {})
  }

  /** Lanes that nobody has taken yet. */
  get count(): number {
    return this.#sessions.length + this.#opened.length
  }

  /** Opens the file on each. */
  open(path: string, writable: boolean, signal: AbortSignal): void {
    for (const session of this.#sessions) {
      const opened = openFileOn(session, path, writable, signal)
      opened.catch(() => {})
      this.#opened.push(opened)
    }
    this.#sessions = []
  }

  /** Ends those that nobody has taken: they are of no use. */
  abandon(): void {
    for (const opened of this.#opened.splice(0)) opened.then(end, () => {})
    for (const opening of this.#sessions.splice(0))
      opening.then(
        (session) => end({ session }),
        () => {},
      )
  }

  /** Gives one out; undefined where there is none, or none with the file open. Rejects with what kept it from being opened. */
  take(): Promise<OpenedOnSession> | undefined {
    return this.#opened.shift()
  }
}

/** Ends a session without waiting for what is under way on it. */
function end({ session }: { readonly session: SftpSession }): void {
  session.channel.close()
  void session.sftp.close()
}

/** Opens the image on a session, or ends that. Never makes or truncates a file. */
export async function openFileOn(
  opening: Promise<SftpSession>,
  path: string,
  writable: boolean,
  signal: AbortSignal,
): Promise<OpenedOnSession> {
  const session = await opening
  try {
    return { session, remote: await session.sftp.open(path, writable ? 'r+' : 'r', { signal }) }
  } catch (error) {
    end({ session })
    throw error
  }
}
