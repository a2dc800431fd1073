// `sshblock put`: files and trees to a server.

import { statSync } from 'node:fs'
import { basename, posix, resolve } from 'node:path'
import { fileKind } from '@sshblock/blockdev/node'
import { joinPath } from '@sshblock/sftp'
import { putFile, putFileResuming, putTree } from '@sshblock/sftp/node'
import { Command } from 'commander'
import { type ConnectionFlags, withConnection } from '../connection/flags.ts'
import { ReconnectingSftp } from '../connection/reconnecting-sftp.ts'
import { openServer } from '../connection/server.ts'
import { attempt, CommandFailure } from '../failure.ts'
import type { Invocation } from '../invocation.ts'
import { type ProgressFlags, withProgress } from '../output/progress.ts'
import { parseRemoteTarget } from '../target.ts'
import { withEnoughRoom } from './enough-room.ts'
import {
  type CopySides,
  copying,
  irreplaceable,
  notFillable,
  reportSkipped,
  type TransferFlags,
  transferOptions,
  treeProgress,
  uncopiable,
  withTransfer,
} from './transfer-options.ts'

interface PutFlags extends ConnectionFlags, ProgressFlags, TransferFlags {}

export function putCommand(invocation: Invocation): Command {
  return withTransfer(withProgress(withConnection(new Command('put'))))
    .description(
      'Copies a file or a folder to a server. A file gets its name when it is complete; until then it is NAME.part. It goes on after a lost connection.',
    )
    .argument('<local>', 'a file or a folder')
    .argument('<location>', 'host:path or ssh://user@host/path; a file, or a folder to put it in')
    .addHelpText(
      'after',
      `
Examples:
  sshblock put notes.txt myhost:
  sshblock put --resume a.iso myhost:/images/a.iso
  sshblock put -r site myhost:/var/www`,
    )
    .action(async (local: string, location: string, flags: PutFlags) => {
      const target = parseRemoteTarget(location)
      const localStats = await attempt('cannot read', local, () => statSync(local))
      if (localStats.isDirectory() && flags.recursive !== true)
        throw new CommandFailure(
          'cannot put',
          local,
          new Error('it is a folder; -r copies it with all it holds'),
        )
      const problem = uncopiable(fileKind(localStats))
      if (problem !== undefined) throw new CommandFailure('cannot put', local, new Error(problem))
      await using server = await openServer(target, flags, invocation)
      const { sftp } = server
      const { signal } = invocation
      const there = await sftp.stat(target.path, { signal }).catch(() => undefined)
      const isFolder = there?.isDirectory() === true
      const place = isFolder ? joinPath(target.path, basename(resolve(local))) : target.path
      const taken = isFolder ? await sftp.stat(place, { signal }).catch(() => undefined) : there
      const obstacle = localStats.isDirectory() ? notFillable(taken?.type) : irreplaceable(taken?.type)
      if (obstacle !== undefined) throw new CommandFailure('cannot put to', place, new Error(obstacle))
      const sides: CopySides = { remote: ['cannot put to', target.text], local: ['cannot read', local] }
      const options = transferOptions(flags, invocation)
      const progress = treeProgress(
        invocation,
        flags,
        'put',
        localStats.isDirectory() ? undefined : localStats.size,
      )
      try {
        await using lasting = new ReconnectingSftp(server, flags, invocation)
        if (localStats.isDirectory()) {
          const result = await copying(sides, () =>
            putTree(sftp, local, place, {
              ...options,
              retry: { ...lasting.retry, openChannel: (client) => lasting.openBeside(client) },
              onFile: progress.onFile,
            }),
          )
          progress.stop()
          reportSkipped(invocation, local, result.skipped)
        } else {
          const { resume, ...others } = options
          const copy = () =>
            resume === true
              ? lasting.run(
                  (client) =>
                    putFile(client, local, place, {
                      ...others,
                      resume,
                      openChannel: () => lasting.openBeside(client),
                      onProgress: progress.onProgress,
                    }),
                  () => progress.doneBytes,
                )
              : putFileResuming(sftp, local, place, {
                  ...others,
                  ...lasting.retry,
                  openChannel: (client) => lasting.openBeside(client),
                  onProgress: progress.onProgress,
                })
          const folder = isFolder ? target.path : posix.dirname(target.path)
          await copying(sides, () => withEnoughRoom(sftp, folder, localStats.size, copy))
        }
      } finally {
        progress.stop()
      }
    })
}
