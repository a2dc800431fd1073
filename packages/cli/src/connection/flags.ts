// The options of every command that talks to a server.

import { homedir, userInfo } from 'node:os'
import { join } from 'node:path'
import type { Command } from 'commander'
import type { Invocation } from '../invocation.ts'
import { parseWhole } from '../sizes.ts'
import type { ConfigSources } from '../ssh-config/evaluate.ts'

export interface ConnectionFlags {
  config?: string
  identity?: string[]
  option?: string[]
  P?: number
  verbose?: number
}

function collect(value: string, before: string[] = []): string[] {
  return [...before, value]
}

export function withConnection(command: Command): Command {
  return command
    .option('-F, --config <file>', "read this instead of ~/.ssh/config and the machine's; none for neither")
    .option('-i, --identity <file>', 'try this private key file first; may be given again', collect)
    .option('-P <port>', 'the port of servers that are named without one', parseWhole(1, 65_535))
    .option(
      '-o, --option <key=value>',
      'an option as in ssh_config, before all files; may be given again',
      collect,
    )
    .option(
      '-v, --verbose',
      'say on stderr what happens; -vv and -vvv say more',
      (_, before: number | undefined) => (before ?? 0) + 1,
    )
}

/** Where settings come from. */
export function configSources(
  { config, identity = [], option = [], P: port }: ConnectionFlags,
  { env }: Invocation,
): ConfigSources {
  const home = homedir()
  return {
    overrides: [
      ...(port === undefined ? [] : [`Port=${port}`]),
      ...option,
      ...identity.map((file) => `IdentityFile="${file}"`),
    ],
    userFile: config === undefined ? join(home, '.ssh', 'config') : config === 'none' ? undefined : config,
    userFileNamed: config !== undefined,
    systemFile: config === undefined ? '/etc/ssh/ssh_config' : undefined,
    home,
    localUser: userInfo().username,
    shell: env['SHELL'] ?? '/bin/sh',
  }
}
