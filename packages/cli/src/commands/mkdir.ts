// `sshblock mkdir`: makes folders on a server.

import { Command } from 'commander'
import { type ConnectionFlags, withConnection } from '../connection/flags.ts'
import { openServer } from '../connection/server.ts'
import { attempt, CommandFailure } from '../failure.ts'
import type { Invocation } from '../invocation.ts'
import { parseRemoteTarget } from '../target.ts'

interface MkdirFlags extends ConnectionFlags {
  parents?: boolean
}

export function mkdirCommand(invocation: Invocation): Command {
  return withConnection(new Command('mkdir'))
    .description('Makes folders on a server.')
    .argument('<location...>', 'host:path or ssh://user@host/path')
    .option('-p, --parents', 'make missing parents too, and be content where it exists')
    .addHelpText(
      'after',
      `
Examples:
  sshblock mkdir myhost:/images
  sshblock mkdir -p myhost:backup/2026/11`,
    )
    .action(async (locations: string[], flags: MkdirFlags) => {
      for (const target of locations.map(parseRemoteTarget)) {
        await using server = await openServer(target, flags, invocation)
        const { sftp } = server
        const { signal } = invocation
        await attempt('cannot make', target.text, async () => {
          // SFTP has no status for "exists": look.
          if (
            flags.parents !== true &&
            (await sftp.lstat(target.path, { signal }).catch(() => undefined)) !== undefined
          )
            throw new CommandFailure('cannot make', target.text, new Error('exists already'))
          await sftp.mkdir(target.path, { recursive: flags.parents ?? false, signal })
        })
      }
    })
}
