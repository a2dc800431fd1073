// All commands under one name, and what they share: help, version, and where commander's own words go.

import { Command, CommanderError } from 'commander'
import { benchCommand } from './commands/bench.ts'
import { cpCommand } from './commands/cp.ts'
import { createCommand } from './commands/create.ts'
import { getCommand } from './commands/get.ts'
import { infoCommand } from './commands/info.ts'
import { keyscanCommand } from './commands/keyscan.ts'
import { lsCommand } from './commands/ls.ts'
import { mkdirCommand } from './commands/mkdir.ts'
import { mvCommand } from './commands/mv.ts'
import { putCommand } from './commands/put.ts'
import { readCommand } from './commands/read.ts'
import { resizeCommand } from './commands/resize.ts'
import { rmCommand } from './commands/rm.ts'
import { serveCommand } from './commands/serve.ts'
import { serverCommand } from './commands/server.ts'
import { writeCommand } from './commands/write.ts'
import { UsageProblem } from './failure.ts'
import type { Invocation } from './invocation.ts'

const groups = [
  [
    'Disk images:',
    [infoCommand, createCommand, resizeCommand, readCommand, writeCommand, cpCommand, serveCommand],
  ],
  ['Files:', [lsCommand, getCommand, putCommand, rmCommand, mkdirCommand, mvCommand]],
  ['Servers:', [serverCommand, benchCommand, keyscanCommand]],
] as const

const helpTail = `
A location is host:path, user@host:path, or ssh://user@host:port/path, where host is a name of ~/.ssh/config or the net.
Known hosts, the agent, keys and ssh_config are ssh's: what works with "ssh host" works here.

Exit status: 0 done, 1 failed, 2 called wrongly, 255 no connection or not let in, 130 ended by Ctrl-C.
"sshblock help COMMAND" has examples.`

/** @param version of this package */
export function sshblockProgram(invocation: Invocation, version: string): Command {
  const program = new Command('sshblock')
    .description('Disk images and files on any SSH server.')
    .version(version, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print help')
    .helpCommand('help [command]', 'print help for a command')
    .showSuggestionAfterError(true)
    .addHelpText('after', helpTail)
  for (const [heading, commands] of groups) {
    program.commandsGroup(heading)
    for (const command of commands) program.addCommand(command(invocation))
  }
  for (const command of [program, ...program.commands]) {
    command
      .helpOption('-h, --help', 'print help')
      .exitOverride()
      .configureOutput({
        writeOut: (text) => invocation.stdout.write(text),
        // Said once, by whoever catches the error.
        writeErr: () => {},
      })
  }
  return program
}

/**
 * Runs what the arguments say.
 * @throws UsageProblem for arguments that are wrong, and whatever the command throws
 */
export async function runProgram(
  invocation: Invocation,
  version: string,
  args: readonly string[],
): Promise<void> {
  const program = sshblockProgram(invocation, version)
  try {
    if (args.length === 0) throw new UsageProblem('no command was given')
    await program.parseAsync([...args], { from: 'user' })
  } catch (error) {
    const command = program.commands.find((each) => each.name() === args[0])?.name()
    if (error instanceof UsageProblem) error.command = command
    if (!(error instanceof CommanderError)) throw error
    if (error.exitCode === 0) return
    throw new UsageProblem(
      error.message.replace(/^error: /, '').replace(/\s*\n\s*/g, ' ') || 'no command was given',
      command,
    )
  }
}
