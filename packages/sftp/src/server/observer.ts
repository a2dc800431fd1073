// Who wants to know what a session does: logs, statistics, tests. Called synchronously; what an observer throws ends
// nothing but is the program's own unhandled error, so it should not throw. Texts come from the client: they are raw.

import type { BackendOpenFlags } from '../backend.ts'

export interface ObservedRequest {
  /** OpenSSH's name of the request: 'open', 'stat', 'posix-rename', ... */
  readonly name: string
  /** As sent by the client. */
  readonly path?: string
  /** Second path of rename and hardlink, target of symlink. */
  readonly target?: string
  /** Of open. */
  readonly flags?: BackendOpenFlags
  /** Permission bits of open and mkdir. */
  readonly mode?: number
}

export interface ObservedHandle {
  readonly kind: 'file' | 'directory'
  readonly path: string
  readonly bytesRead: number
  readonly bytesWritten: number
}

export interface SftpServerObserver {
  /** A request other than READ and WRITE is begun. */
  request?(request: ObservedRequest): void
  open?(handle: ObservedHandle): void
  /** `forced`: by the end of the session. */
  close?(handle: ObservedHandle, forced: boolean): void
  /** `bytes` were read, 0 at the end of the file. */
  read?(handle: ObservedHandle, offset: number, bytes: number): void
  write?(handle: ObservedHandle, offset: number, bytes: number): void
  /** A request is answered by a status other than OK and EOF. */
  refused?(requestName: string, status: number, text: string): void
  /** A back end failed in a way that no file system does. */
  fault?(error: unknown): void
}
