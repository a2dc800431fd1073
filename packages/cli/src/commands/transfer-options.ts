// What get and put have in common: options, progress of one file or of a tree, and what was left out.

import type { SkippedEntry, TransferProgress, TreeOptions } from '@sshblock/sftp/node'
import { safeText } from '@sshblock/transport'
import type { Command } from 'commander'
import { CommandFailure } from '../failure.ts'
import { type Invocation, tell } from '../invocation.ts'
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
      const text = `${name}  ${files} files  ${sizeText(bytes)}  ${safeText(path, 60)}`
      stderr.write(onTerminal ? `\r\u001b[K${text}` : `${text}\n`)
    },
    stop: () => {
      if (onTerminal && shown && at > 0) stderr.write('\r\u001b[K')
      at = 0
    },
  }
}

/** Says what a tree left out. @throws CommandFailure where something could not be copied */
export function reportSkipped(invocation: Invocation, skipped: readonly SkippedEntry[]): void {
  for (const { path, reason } of skipped)
    tell(invocation, `left out '${safeText(path)}': ${safeText(reason)}`)
  const lost = skipped.filter(({ reason }) => reason !== 'symbolic link')
  const [first] = lost
  if (first !== undefined)
    throw new CommandFailure('cannot copy all of', first.path, new Error(`${lost.length} left out`))
}
