// `sshblock get`: files and trees from a server.

import { basename, join } from 'node:path'
import { getFile, getFileResuming, getTree } from '@sshblock/sftp/node'
import { Command } from 'commander'
import { type ConnectionFlags, withConnection } from '../connection/flags.ts'
import { ReconnectingSftp } from '../connection/reconnecting-sftp.ts'
import { openServer } from '../connection/server.ts'
import { attempt, CommandFailure } from '../failure.ts'
import type { Invocation } from '../invocation.ts'
import { type ProgressFlags, withProgress } from '../output/progress.ts'
import { parseRemoteTarget } from '../target.ts'
import {
  type CopySides,
  copying,
  irreplaceable,
  localType,
  reportSkipped,
  type TransferFlags,
  transferOptions,
  treeProgress,
  uncopiable,
  withTransfer,
} from './transfer-options.ts'

interface GetFlags extends ConnectionFlags, ProgressFlags, TransferFlags {}

export function getCommand(invocation: Invocation): Command {
  return withTransfer(withProgress(withConnection(new Command('get'))))
    .description(
      'Copies a file or a folder from a server. A file gets its name when it is complete; until then it is NAME.part. It goes on after a lost connection.',
    )
    .argument('<location>', 'host:path or ssh://user@host/path')
    .argument('[local]', 'a file, or a folder to put it in', '.')
    .addHelpText(
      'after',
      `
Examples:
  sshblock get myhost:notes.txt
  sshblock get --resume myhost:/images/a.iso /tmp/a.iso
  sshblock get -r myhost:/etc/nginx backup`,
    )
    .action(async (location: string, local: string, flags: GetFlags) => {
      const target = parseRemoteTarget(location)
      await using server = await openServer(target, flags, invocation)
      const { sftp } = server
      const { signal } = invocation
      const remoteStats = await attempt('cannot get', target.text, () => sftp.stat(target.path, { signal }))
      const isFolder = localType(local) === 'directory'
      if (!remoteStats.isDirectory()) {
        const place = isFolder ? join(local, basename(target.path)) : local
        const problem = uncopiable(remoteStats.type)
        if (problem !== undefined) throw new CommandFailure('cannot get', target.text, new Error(problem))
        const obstacle = irreplaceable(localType(place))
        if (obstacle !== undefined) throw new CommandFailure('cannot write', place, new Error(obstacle))
        const progress = treeProgress(invocation, flags, 'get', remoteStats.size)
        try {
          await using lasting = new ReconnectingSftp(server, flags, invocation)
          const { resume, ...options } = transferOptions(flags, invocation)
          const sides: CopySides = { remote: ['cannot get', target.text], local: ['cannot write', place] }
          await copying(sides, () =>
            resume === true
              ? lasting.run(
                  (client) =>
                    getFile(client, target.path, place, {
                      ...options,
                      resume,
                      onProgress: progress.onProgress,
                    }),
                  () => progress.doneBytes,
                )
              : getFileResuming(sftp, target.path, place, {
                  ...options,
                  ...lasting.retry,
                  onProgress: progress.onProgress,
                }),
          )
        } finally {
          progress.stop()
        }
        return
      }
      if (flags.recursive !== true)
        throw new CommandFailure(
          'cannot get',
          target.text,
          new Error('it is a folder; -r copies it with all it holds'),
        )
      const name = basename(await sftp.realpath(target.path, { signal }))
      const progress = treeProgress(invocation, flags, 'get', undefined)
      try {
        await using lasting = new ReconnectingSftp(server, flags, invocation)
        const place = isFolder ? join(local, name) : local
        const sides: CopySides = { remote: ['cannot get', target.text], local: ['cannot write', place] }
        const result = await copying(sides, () =>
          getTree(sftp, target.path, place, {
            ...transferOptions(flags, invocation),
            retry: lasting.retry,
            onFile: progress.onFile,
          }),
        )
        progress.stop()
        reportSkipped(invocation, target.text, result.skipped)
      } finally {
        progress.stop()
      }
    })
}
