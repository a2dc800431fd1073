// The server as the page sees it: calls to the worker that has the session. One worker for one connection; it ends with it, and
// what it knew of keys and passwords with it.

import { SshError } from '@sshblock/transport/errors'
import { CallPort, type CallSteering } from '../session-worker/call-port.ts'
import type {
  FoundFile,
  HostKeyAnswer,
  HostKeyQuestion,
  Listing,
  PageCalls,
  PromptsQuestion,
  ServerAccess,
  ServerFacts,
  SessionCalls,
  TransferProgress,
} from '../session-worker/calls.ts'
import { errorFrom } from '../session-worker/portable-error.ts'
import { type Download, saveAs } from './downloads.ts'
import { openRemoteDisk, type RemoteDisk } from './remote-disk.ts'

/** What the worker asks and tells the user. */
export interface ServerUser {
  hostKey(question: HostKeyQuestion): Promise<HostKeyAnswer>
  prompts(question: PromptsQuestion): Promise<readonly string[] | undefined>
  warning(message: string): void
}

/** How long the worker may take to say goodbye before it is ended, in milliseconds. */
const goodbyeMs = 5000

type Steering = CallSteering<TransferProgress>

export class RemoteServer {
  readonly facts: ServerFacts
  /** Resolves when the connection is over: to why, or to undefined after `disconnect`. */
  readonly closed: Promise<Error | undefined>
  readonly #calls: CallPort<SessionCalls, PageCalls>
  readonly #end: (failure: Error | undefined) => void

  /** Made by `connect`. */
  private constructor(
    facts: ServerFacts,
    calls: CallPort<SessionCalls, PageCalls>,
    over: { readonly closed: Promise<Error | undefined>; readonly end: (failure: Error | undefined) => void },
  ) {
    this.facts = facts
    this.#calls = calls
    this.closed = over.closed
    this.#end = over.end
  }

  /**
   * Connects and logs in, in a new worker.
   * @throws errors with the codes of `connect`, ABORT_ERR among them; KeyFormatError's for a key file that is none
   */
  static async connect(access: ServerAccess, user: ServerUser, signal: AbortSignal): Promise<RemoteServer> {
    const worker = new Worker(new URL('../session-worker/session-worker.ts', import.meta.url), {
      type: 'module',
      name: 'SSH session',
    })
    let over!: (failure: Error | undefined) => void
    const closed = new Promise<Error | undefined>((resolve) => {
      over = resolve
    })
    const calls: CallPort<SessionCalls, PageCalls> = new CallPort<SessionCalls, PageCalls>(worker, {
      hostKey: (question) => user.hostKey(question),
      prompts: (question) => user.prompts(question),
      warning: (message) => user.warning(message),
      ended: (failure) => end(failure === undefined ? undefined : errorFrom(failure)),
    })
    const end = (failure: Error | undefined): void => {
      calls.end(failure ?? new SshError('ERR_CLOSED', 'the connection was closed'))
      worker.terminate()
      over(failure)
    }
    const broke = (event: Event): void => {
      event.preventDefault()
      const why = event instanceof ErrorEvent && event.message !== '' ? event.message : 'it cannot be loaded'
      end(new SshError('ERR_WORKER', `the worker of the session broke: ${why}`))
    }
    worker.addEventListener('error', broke)
    worker.addEventListener('messageerror', broke)
    try {
      return new RemoteServer(await calls.call('connect', access, { signal }), calls, { closed, end })
    } catch (error) {
      end(undefined)
      throw error
    }
  }

  /** Opens the SFTP channel; returns the folder where the server puts a session. @throws what opening the subsystem throws */
  openFiles(): Promise<string> {
    return this.#calls.call('openFiles', undefined)
  }

  /** Milliseconds of a round trip between worker and server. */
  ping(): Promise<number> {
    return this.#calls.call('ping', undefined)
  }

  /** Says goodbye; everything that is under way fails. */
  async disconnect(): Promise<void> {
    const limit = setTimeout(() => this.#end(undefined), goodbyeMs)
    await this.#calls.call('disconnect', undefined).catch(() => {})
    await this.closed
    clearTimeout(limit)
  }

  list(path: string, signal: AbortSignal): Promise<Listing> {
    return this.#calls.call('list', { path }, { signal })
  }

  /** Undefined where there is nothing. */
  stat(path: string, follow: boolean): Promise<FoundFile | undefined> {
    return this.#calls.call('stat', { path, follow })
  }

  makeFolder(path: string): Promise<void> {
    return this.#calls.call('makeFolder', { path })
  }

  /** @throws EEXIST where there is a `to` already */
  rename(from: string, to: string): Promise<void> {
    return this.#calls.call('rename', { from, to })
  }

  remove(path: string, recursive: boolean): Promise<void> {
    return this.#calls.call('remove', { path, recursive })
  }

  /** The worker reads the file itself. */
  upload(file: File, path: string, steering: Steering): Promise<void> {
    return this.#calls.call('upload', { file, path }, steering)
  }

  /** Saves a file of the server as a download of the browser. */
  download(path: string, download: Download, steering: Steering): Promise<void> {
    return saveAs(download, (target, transfer) =>
      this.#calls.call('download', { path, size: download.size, target }, { ...steering, transfer }),
    )
  }

  openDisk(path: string, writable: boolean): Promise<RemoteDisk> {
    return openRemoteDisk(
      (port) => this.#calls.call('openDisk', { path, writable, port }, { transfer: [port] }),
      this.closed,
    )
  }
}
