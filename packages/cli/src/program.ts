// All commands under one name, and what they share: help, version, and where commander's own words go.

import { Command, CommanderError } from 'commander'
import { type CommandEntry, commandGroups } from './command-table.ts'
import type { Invocation } from './invocation.ts'
import { UsageProblem } from './usage-problem.ts'

const helpTail = `
A location is host:path, user@host:path, or ssh://user@host:port/path, where host is a name of ~/.ssh/config or the net.
Known hosts, the agent, keys and ssh_config are ssh's: what works with "ssh host" works here.

Exit status: 0 done, 1 failed, 2 called wrongly, 255 no connection or not let in, 130 ended by Ctrl-C.
"sshblock help COMMAND" has examples.`

/**
 * The program with one command loaded and all others as names.
 * @param version of this package
 * @param wanted name of the command that is called; undefined or unknown: none is loaded
 */
export async function sshblockProgram(
  invocation: Invocation,
  version: string,
  wanted: string | undefined,
): Promise<Command> {
  const program = new Command('sshblock')
    .description('Disk images and files on any SSH server.')
    .version(version, '-V, --version', 'print the version')
    .helpOption('-h, --help', 'print help')
    .helpCommand('help [command]', 'print help for a command')
    .showSuggestionAfterError(true)
    .addHelpText('after', helpTail)
  for (const { heading, commands } of commandGroups) {
    program.commandsGroup(heading)
    for (const entry of commands) program.addCommand(await commandOf(entry, wanted, invocation))
  }
  for (const command of [program, ...program.commands]) {
    command
      .helpOption('-h, --help', 'print help')
      .exitOverride()
      .configureHelp({ subcommandTerm: (each) => each.name() })
      .configureOutput({
        writeOut: (text) => invocation.stdout.write(text),
        // Said once, by whoever catches the error.
        writeErr: () => {},
      })
  }
  return program
}

async function commandOf(
  { name, summary, load }: CommandEntry,
  wanted: string | undefined,
  invocation: Invocation,
): Promise<Command> {
  const command = name === wanted ? (await load())(invocation) : new Command(name)
  return command.summary(summary)
}

/** The command that arguments call, where the first word (or the one behind `help`) names it. */
function commandName(args: readonly string[]): string | undefined {
  const words = args.filter((arg) => !arg.startsWith('-'))
  return words[0] === 'help' ? words[1] : words[0]
}

/** The arguments; `help` for a command that is none becomes that command, which is then refused by name. */
function knownHelp(program: Command, args: readonly string[]): string[] {
  const [help, name] = args
  const isUnknown = help === 'help' && name !== undefined && name !== 'help'
  return isUnknown && !program.commands.some((each) => each.name() === name) ? [name] : [...args]
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
  const program = await sshblockProgram(invocation, version, commandName(args))
  try {
    if (args.length === 0) throw new UsageProblem('no command was given')
    await program.parseAsync(knownHelp(program, args), { from: 'user' })
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
