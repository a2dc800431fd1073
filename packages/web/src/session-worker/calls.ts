// What the page asks of its session's worker and the other way round: plain data, and ports. Secrets go one way only, from the
// page into the worker; bytes of files and disks stay in the worker, but for what the page shows and its machine reads.

import type { FileType } from '@sshblock/sftp'
import type { FileType as VolumeFileType } from '../filesystems/file-system.ts'
import type { PartitionTable } from '../filesystems/partition-table.ts'
import type { Call } from './call-port.ts'
import type { PortableError } from './portable-error.ts'

/** Where to connect to, as whom. */
export interface ServerAccess {
  /** ws: or wss: address of the relay, with the path to the target. */
  readonly relay: string
  readonly host: string
  readonly port: number
  readonly user: string
  /** Text of a private key file. */
  readonly privateKey: string | undefined
  readonly passphrase: string | undefined
  readonly password: string | undefined
  /** Believed without a question: the server that came with the page. */
  readonly fingerprint: string | undefined
}

/** What is shown of a connection. */
export interface ServerFacts {
  /** The server's identification line, as it came. */
  readonly identification: string
  readonly hostKeyType: string
  readonly fingerprint: string
  readonly kex: string
  readonly cipher: string
  readonly authentication: string
  readonly user: string
}

/** A host key that nobody has seen before. */
export interface HostKeyQuestion {
  readonly host: string
  readonly port: number
  readonly keyType: string
  readonly fingerprint: string
  /** What exactly is known and what is not. */
  readonly message: string
}

export type HostKeyAnswer = 'remember' | 'once' | 'no'

export interface PromptsQuestion {
  readonly title: string
  readonly prompts: readonly { readonly prompt: string; readonly echo: boolean }[]
}

export interface FileEntry {
  /** As the server has it: show it through safeText. */
  readonly name: string
  readonly type: FileType
  readonly size: number | undefined
  readonly modified: Date | undefined
}

export interface Listing {
  /** Folders first, by name. */
  readonly entries: readonly FileEntry[]
  /** How many there are beyond these. */
  readonly more: number
}

export interface FoundFile {
  readonly isFolder: boolean
  readonly size: number | undefined
}

export interface TransferProgress {
  readonly transferredBytes: number
  readonly totalBytes: number | undefined
}

/**
 * Where a download goes: to whoever has the other end of the port, or into a Blob, which the call returns.
 */
export type DownloadTarget =
  | { readonly to: 'port'; readonly port: MessagePort }
  | { readonly to: 'blob'; readonly maxBytes: number }

/** Names of a folder beyond this are counted only, so that a folder of a million does not stop the page. */
export const maxListed = 2000

/** A Blob where the target is one. */
export type Saved = Blob | undefined

export interface DiskFacts {
  readonly path: string
  /** Bytes. */
  readonly size: number
  readonly readOnly: boolean
}

/** Calls of the page, answered by the worker. */
export interface SessionCalls {
  readonly connect: Call<ServerAccess, ServerFacts>
  /** Opens the SFTP channel; returns the folder to begin with. */
  readonly openFiles: Call<undefined, string>
  /** Milliseconds of a round trip. */
  readonly ping: Call<undefined, number>
  readonly disconnect: Call<undefined, void>
  readonly list: Call<{ readonly path: string }, Listing>
  /** What is there, itself if it is a link, or where it leads to; undefined where there is nothing. */
  readonly stat: Call<{ readonly path: string; readonly follow: boolean }, FoundFile | undefined>
  readonly makeFolder: Call<{ readonly path: string }, void>
  readonly rename: Call<{ readonly from: string; readonly to: string }, void>
  readonly remove: Call<{ readonly path: string; readonly recursive: boolean }, void>
  readonly upload: Call<{ readonly file: File; readonly path: string }, void, TransferProgress>
  readonly download: Call<
    { readonly path: string; readonly size: number | undefined; readonly target: DownloadTarget },
    Saved,
    TransferProgress
  >
  /** Over the port come DiskCalls and the messages of a served device. */
  readonly openDisk: Call<
    { readonly path: string; readonly writable: boolean; readonly port: MessagePort },
    DiskFacts
  >
}

/** Calls of the worker, answered by the page. */
export interface PageCalls {
  readonly hostKey: Call<HostKeyQuestion, HostKeyAnswer>
  /** Answers to what the server asks; undefined for giving up. */
  readonly prompts: Call<PromptsQuestion, readonly string[] | undefined>
  readonly warning: Call<string, void>
  /** The session is over, by an error or by `disconnect`. The worker's last message. */
  readonly ended: Call<PortableError | undefined, void>
}

/** A file or folder in a volume; `id` names it until another volume of the disk is opened. */
export interface VolumeEntry {
  readonly id: number
  readonly name: string
  readonly type: VolumeFileType
  readonly size: number
  readonly modified: Date | undefined
}

export interface VolumeListing {
  /** Folders first, by name. */
  readonly entries: readonly VolumeEntry[]
  /** How many there are beyond these. */
  readonly more: number
}

export type OpenedVolume =
  | {
      readonly kind: string
      readonly label: string
      readonly notes: readonly string[]
      readonly root: VolumeEntry
    }
  /** Known by its marks, but not read here; undefined where nothing was recognised. */
  | { readonly kind: undefined; readonly recognised: string | undefined }

/** Calls of the page about one disk. */
export interface DiskCalls {
  readonly partitions: Call<undefined, PartitionTable>
  /** Entries of the volume before it are gone. */
  readonly openVolume: Call<{ readonly start: number; readonly length: number }, OpenedVolume>
  readonly list: Call<{ readonly folder: number }, VolumeListing>
  readonly download: Call<{ readonly file: number; readonly target: DownloadTarget }, Saved, TransferProgress>
}

/** What happened on a disk since the last time. */
export interface DiskActivity {
  /** Bytes that were fetched because somebody waited for them. */
  readonly readBytes: number
  readonly aheadBytes: number
  readonly fetches: number
  /** Numbers of blocks that were asked for. */
  readonly asked: readonly number[]
  /** Numbers of blocks that were fetched, and were not asked for. */
  readonly ahead: readonly number[]
}

/** Calls of the worker about one disk. */
export interface DiskPageCalls {
  readonly activity: Call<DiskActivity, void>
}
