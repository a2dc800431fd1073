// `sshblock mv`: renames on one server.

import { basename } from 'node:path/posix'
import { joinPath } from '@sshblock/sftp'
import { Command } from 'commander'
import { type ConnectionFlags, withConnection } from '../connection/flags.ts'
import { openServer } from '../connection/server.ts'
import { attempt, CommandFailure } from '../failure.ts'
import type { Invocation } from '../invocation.ts'
import { parseRemoteTarget, parseTarget } from '../target.ts'
import { UsageProblem } from '../usage-problem.ts'

interface MvFlags extends ConnectionFlags {
  overwrite?: boolean
}

export function mvCommand(invocation: Invocation): Command {
  return withConnection(new Command('mv'))
    .description('Renames a file or folder on a server, or moves it into a folder that exists there.')
    .argument('<from>', 'host:path or ssh://user@host/path')
    .argument('<to>', 'a path on the same server, with or without the host in front')
    .option('--overwrite', 'replace a file that exists')
    .addHelpText(
      'after',
      `
Examples:
  sshblock mv myhost:/images/a.img myhost:/images/b.img
  sshblock mv --overwrite myhost:new.conf live.conf`,
    )
    .action(async (fromText: string, toText: string, flags: MvFlags) => {
      const from = parseRemoteTarget(fromText)
      const to = parseTarget(toText)
      if (to.kind === 'remote' && (to.host !== from.host || to.user !== from.user || to.port !== from.port))
        throw new UsageProblem(`'${fromText}' and '${toText}' are not on the same server`)
      await using server = await openServer(from, flags, invocation)
      const { sftp } = server
      const { signal } = invocation
      // A rename that fails does not tell which of the two names was wrong.
      const [, there] = await Promise.all([
        attempt('cannot move', fromText, () => sftp.lstat(from.path, { signal })),
        sftp.stat(to.path, { signal }).catch(() => undefined),
      ])
      await attempt('cannot move to', toText, async () => {
        const isFolder = there?.isDirectory() === true
        const place = isFolder ? joinPath(to.path, basename(from.path)) : to.path
        const taken = isFolder ? await sftp.lstat(place, { signal }).catch(() => undefined) : there
        if (taken !== undefined && flags.overwrite !== true)
          throw new CommandFailure(
            'cannot move to',
            toText,
            new Error('exists already; --overwrite replaces it'),
          )
        // Without --overwrite by the request that fails where somebody was faster.
        await sftp.rename(
          from.path,
          place,
          flags.overwrite === true ? { signal } : { signal, replace: false },
        )
      })
    })
}
