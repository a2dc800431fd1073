// The page's calls about files on the server, on one SFTP client.

import type { DirectoryEntry, PutOptions, SftpClient } from '@sshblock/sftp'
import { SftpStatusError } from '@sshblock/sftp'
import type { Handlers } from './call-port.ts'
import { type FileEntry, maxListed, type SessionCalls } from './calls.ts'
import { saveTo } from './download-sink.ts'

type FileCalls = Pick<
  SessionCalls,
  'list' | 'stat' | 'makeFolder' | 'rename' | 'remove' | 'upload' | 'download'
>

export interface FileChannels {
  /** The channel that is used for everything. @throws UsageError before there is one */
  sftp(): SftpClient
  /** One more SFTP channel, for uploads over a long way. */
  readonly openChannel: NonNullable<PutOptions['openChannel']>
}

/** Answers them. Each rejects with what the SftpClient throws. */
export function fileCalls({ sftp, openChannel }: FileChannels): Handlers<FileCalls> {
  return {
    async list({ path }, { signal }) {
      const entries: FileEntry[] = []
      let more = 0
      for await (const entry of sftp().readdir(path, { signal })) {
        if (entries.length < maxListed) entries.push(listed(entry))
        else more++
      }
      return { entries: entries.sort(foldersFirst), more }
    },
    async stat({ path, follow }) {
      try {
        const stats = await (follow ? sftp().stat(path) : sftp().lstat(path))
        return { isFolder: stats.isDirectory(), size: stats.size }
      } catch (error) {
        if (error instanceof SftpStatusError && error.code === 'ENOENT') return undefined
        throw error
      }
    },
    async makeFolder({ path }) {
      await sftp().mkdir(path)
    },
    async rename({ from, to }) {
      await sftp().rename(from, to, { replace: false })
    },
    async remove({ path, recursive }) {
      await sftp().rm(path, { recursive })
    },
    // Nobody sees half a file, and one that is there stays until the new one is whole.
    async upload({ file, path }, { signal, onProgress }) {
      const whole = { totalBytes: file.size, atomic: true, openChannel }
      await sftp().put(file.stream(), path, { signal, onProgress, ...whole })
    },
    async download({ path, size, target }, { signal, onProgress }) {
      return saveTo(target, size, async (sink) => {
        await sftp().get(path, sink, { signal, onProgress })
      })
    },
  }
}

function listed({ name, type, stats }: DirectoryEntry): FileEntry {
  return { name, type, size: stats.size, modified: stats.modifiedAt }
}

/** 'file 10' behind 'file 9'. */
const names = new Intl.Collator(undefined, { numeric: true })

function foldersFirst(a: FileEntry, b: FileEntry): number {
  return Number(b.type === 'directory') - Number(a.type === 'directory') || names.compare(a.name, b.name)
}
