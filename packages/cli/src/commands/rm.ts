// `sshblock rm`: removes files and folders of a server.

import { Command } from 'commander'
import { type ConnectionFlags, withConnection } from '../connection/flags.ts'
import { openServer } from '../connection/server.ts'
import { attempt, CommandFailure } from '../failure.ts'
import type { Invocation } from '../invocation.ts'
import { parseRemoteTarget } from '../target.ts'

interface RmFlags extends ConnectionFlags {
  recursive?: boolean
  force?: boolean
}

export function rmCommand(invocation: Invocation): Command {
  return withConnection(new Command('rm'))
    .description('Removes files. Symbolic links are removed, never followed.')
    .argument('<location...>', 'host:path or ssh://user@host/path')
    .option('-r, --recursive', 'folders with all they hold')
    .option('-f, --force', 'be content where there is nothing')
    .addHelpText(
      'after',
      `
Examples:
  sshblock rm myhost:/images/old.img
  sshblock rm -rf myhost:/tmp/build`,
    )
    .action(async (locations: string[], flags: RmFlags) => {
      for (const target of locations.map(parseRemoteTarget)) {
        await using server = await openServer(target, flags, invocation)
        const { recursive = false, force = false } = flags
        const { signal } = invocation
        await attempt('cannot remove', target.text, async () => {
          const stats = await server.sftp.lstat(target.path, { signal }).catch(() => undefined)
          if (stats?.isDirectory() === true && !recursive)
            throw new CommandFailure(
              'cannot remove',
              target.text,
              new Error('it is a folder; -r removes it with all it holds'),
            )
          await server.sftp.rm(target.path, { recursive, force, signal })
        })
      }
    })
}
