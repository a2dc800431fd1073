// Options that commands on images share.

import type { Command } from 'commander'

export function withUnsafeFlush(command: Command): Command {
  return command.option(
    '--unsafe-flush',
    'accept a server that cannot flush to stable storage: a crash of it may lose data',
  )
}
