import type { BackendDirectory, BackendFile, BackendOpenFlags } from '../backend.ts'

/** An open file of a session. */
export interface OpenFile {
  readonly kind: 'file'
  /** As it was opened. */
  readonly path: string
  readonly file: BackendFile
  readonly flags: BackendOpenFlags
  bytesRead: number
  bytesWritten: number
}

/** An open directory of a session. */
export interface OpenDirectory {
  readonly kind: 'directory'
  readonly path: string
  readonly directory: BackendDirectory
}

export type OpenHandle = OpenFile | OpenDirectory
