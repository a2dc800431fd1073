// What get and put have in common: options, progress of one file or of a tree, and what was left out.

import { statSync } from 'node:fs'
import { fileKind } from '@sshblock/blockdev/node'
import { type FileType, SftpTransferError } from '@sshblock/sftp'
import type { SkippedEntry, TransferProgress, TreeOptions } from '@sshblock/sftp/node'
import { safeText } from '@sshblock/transport'
import type { Command } from 'commander'
import { attempt, CommandFailure } from '../failure.ts'
import { type Invocation, setDrawn, tell } from '../invocation.ts'
import { type ProgressFlags, startProgress } from '../output/progress.ts'
import { sizeText } from '../sizes.ts'

export interface TransferFlags {
  recursive?: boolean
  resume?: boolean
  preserve?: boolean
  links?: boolean
  sync?: boolean
}

export function withTransfer(command: Command): Command {
  return command
    .option('-r, --recursive', 'folders with all they hold')
    .option('-p, --preserve', 'give the copy the mode and times of the original')
    .option('--resume', 'go on where an interrupted copy ended, after comparing what is there')
    .option('--links', 'make symbolic links in a folder anew; without it they are left out')
    .option('--sync', 'bring the copy to stable storage before it gets its name')
}

export function transferOptions(
  flags: TransferFlags,
  { signal }: Invocation,
): Omit<TreeOptions, 'openChannel' | 'maxChannels'> {
  return {
    signal,
    resume: flags.resume ?? false,
    preserve: flags.preserve ?? false,
    sync: flags.sync ?? false,
    symlinks: flags.links === true ? 'copy' : 'skip',
  }
}

/** The two sides of a copy, in words: what cannot be done with what where one of them fails. */
export interface CopySides {
  readonly remote: readonly [what: string, object: string]
  readonly local: readonly [what: string, object: string]
}

/** Copies; an error of this machine's side names the local file. */
export function copying<T>({ remote, local }: CopySides, work: () => Promise<T>): Promise<T> {
  return attempt(...remote, async () => {
    try {
      return await work()
    } catch (error) {
      if (error instanceof SftpTransferError && error.code === 'ERR_SFTP_LOCAL')
        throw new CommandFailure(...local, error)
      throw error
    }
  })
}

/** Why a file of this type is not copied; undefined for one that is. Reading a fifo waits, and a device has no end. */
export function uncopiable(type: FileType): string | undefined {
  if (type === 'block-device') return 'it is a block device; cp copies one as an image'
  if (type === 'fifo' || type === 'socket' || type === 'character-device')
    return `it is a ${type.replace('-', ' ')}; files and folders are copied`
  return undefined
}

/** Why a copy does not take the place of what has this type. */
export function irreplaceable(type: FileType | undefined): string | undefined {
  if (type === undefined || type === 'file' || type === 'symlink' || type === 'unknown') return undefined
  if (type === 'directory') return 'it is a folder'
  return `it is a ${type.replace('-', ' ')}, which the copy would replace; read and write use what is there`
}

/** Why a tree does not go into what has this type. */
export function notFillable(type: FileType | undefined): string | undefined {
  return type === undefined || type === 'directory' || type === 'unknown' ? undefined : 'not a folder'
}

/** What a local path leads to; undefined where that is nothing. */
export function localType(path: string): FileType | undefined {
  const stats = statSync(path, { throwIfNoEntry: false })
  return stats && fileKind(stats)
}

/** Progress of one file with its size, or of a tree, whose size nobody knows. */
export function treeProgress(
  invocation: Invocation,
  flags: ProgressFlags,
  name: string,
  totalBytes: number | undefined,
) {
  const { stderr } = invocation
  if (totalBytes !== undefined) {
    const bar = startProgress(invocation, flags, name, totalBytes)
    let doneBytes = 0
    return {
      get doneBytes() {
        return doneBytes
      },
      onProgress: ({ transferredBytes, totalBytes: total }: TransferProgress) => {
        doneBytes = transferredBytes
        bar.update(transferredBytes, total ?? totalBytes)
      },
      onFile: () => {},
      stop: () => bar.stop(),
    }
  }
  const onTerminal = stderr.isTTY === true
  const shown = flags.progress ?? onTerminal
  let files = 0
  let bytes = 0
  let at = 0
  return {
    doneBytes: 0,
    onProgress: () => {},
    onFile: (path: string, size: number) => {
      files++
      bytes += size
      if (!shown || performance.now() - at < 200) return
      at = performance.now()
      const counted = `${files} ${files === 1 ? 'file' : 'files'}`
      const text = `${name}  ${counted}  ${sizeText(bytes)}  ${safeText(path, 60)}`
      stderr.write(onTerminal ? `\r\u001b[K${text.slice(0, stderr.columns - 1)}` : `${text}\n`)
      setDrawn(stderr, onTerminal)
    },
    stop: () => {
      if (onTerminal && shown && at > 0) stderr.write('\r\u001b[K')
      setDrawn(stderr, false)
      at = 0
    },
  }
}

/** Says what a tree left out. @throws CommandFailure about `tree` where something could not be copied */
export function reportSkipped(invocation: Invocation, tree: string, skipped: readonly SkippedEntry[]): void {
  for (const { path, reason } of skipped)
    tell(invocation, `left out '${safeText(path)}': ${safeText(reason)}`)
  const lost = skipped.filter(({ reason }) => reason !== 'symbolic link')
  if (lost.length > 0)
    throw new CommandFailure('cannot copy all of', tree, new Error(`${lost.length} left out`))
}
