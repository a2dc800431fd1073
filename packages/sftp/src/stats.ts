// What a server tells about a file, in the shape of fs.Stats. Any field may be missing: servers send what they like.

import {
  type Attributes,
  type ExtendedAttribute,
  type FileType,
  fileType,
  fileTypeBits,
} from './messages/attributes.ts'

function date(seconds: number | undefined): Date | undefined {
  return seconds === undefined ? undefined : new Date(seconds * 1000)
}

export class Stats {
  /** Bytes. */
  readonly size: number | undefined
  readonly uid: number | undefined
  readonly gid: number | undefined
  /** POSIX st_mode: permission bits, and the file type where the server tells it. */
  readonly permissions: number | undefined
  /** Last access in seconds since 1970 UTC. */
  readonly atime: number | undefined
  /** Last change of the contents in seconds since 1970 UTC. */
  readonly mtime: number | undefined
  readonly extended: readonly ExtendedAttribute[]

  constructor(attributes: Attributes) {
    this.size = attributes.size
    this.uid = attributes.uid
    this.gid = attributes.gid
    this.permissions = attributes.permissions
    this.atime = attributes.atime
    this.mtime = attributes.mtime
    this.extended = attributes.extended ?? []
  }

  get type(): FileType {
    return fileType(this)
  }

  /** The permission bits with setuid, setgid and sticky, without the file type. */
  get mode(): number | undefined {
    return this.permissions === undefined ? undefined : this.permissions & ~fileTypeBits.mask
  }

  get accessedAt(): Date | undefined {
    return date(this.atime)
  }

  get modifiedAt(): Date | undefined {
    return date(this.mtime)
  }

  isFile(): boolean {
    return this.type === 'file'
  }

  isDirectory(): boolean {
    return this.type === 'directory'
  }

  isSymbolicLink(): boolean {
    return this.type === 'symlink'
  }
}
