// ssh_config files as lines (ssh_config(5)): parsed by the `ssh-config` package, Include resolved to the files it names.
// What lines mean, and which of them count for a host, is evaluate.ts.

import { readdirSync, readFileSync } from 'node:fs'
import { dirname, isAbsolute, join } from 'node:path'
import { quote, SshError } from '@sshblock/transport/errors'
import SshConfig, { type Directive, type Section } from 'ssh-config'
import { matchesPattern } from './pattern.ts'

/** One setting, or a Host or Match line with what stands below it. */
export interface ConfigLine {
  /** Lower case. */
  readonly keyword: string
  readonly words: readonly string[]
  /** Of ProxyCommand: the rest of the line as it stands, quotes included, for the shell that will read them. */
  readonly text: string
  /** Of Host and Match lines. */
  readonly section: readonly ConfigLine[] | undefined
}

/** @throws SshError 'ERR_SSH_CONFIG' where the text cannot be parsed. */
export function parseConfig(text: string, path: string): ConfigLine[] {
  try {
    const commands: string[] = []
    return configLines(SshConfig.parse(withoutCommands(text, commands)), commands)
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new SshError('ERR_SSH_CONFIG', `cannot understand ${quote(path, 1024)}: ${reason}`, { cause })
  }
}

/** The text with each ProxyCommand's command replaced by its place in `commands`: quotes in it are not ssh_config's. */
function withoutCommands(text: string, commands: string[]): string {
  return text.replace(
    /^([ \t]*ProxyCommand[ \t]*[ \t=][ \t]*)(\S.*)$/gim,
    (_, before: string, command: string) => {
      commands.push(command.trimEnd())
      return `${before}${commands.length - 1}`
    },
  )
}

function configLines(lines: SshConfig, commands: readonly string[]): ConfigLine[] {
  const directives = lines.filter((line): line is Directive | Section => 'param' in line && line.param !== '')
  return directives.map((line) => ({
    keyword: line.param.toLowerCase(),
    words: typeof line.value === 'string' ? [line.value] : line.value.map(({ val }) => val),
    text: line.param.toLowerCase() === 'proxycommand' ? (commands[Number(line.value)] ?? '') : '',
    section: 'config' in line ? configLines(line.config, commands) : undefined,
  }))
}

/** The text of a file; undefined where there is none. @throws SshError 'ERR_SSH_CONFIG' where it cannot be read. */
export function readConfigFile(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8')
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause ? String(cause.code) : 'EIO'
    if (code === 'ENOENT') return undefined
    throw new SshError('ERR_SSH_CONFIG', `cannot read ${quote(path, 1024)}: ${code}`, { cause })
  }
}

/** The files that an Include names, sorted as glob(7) does. Relative ones lie in `folder`. */
export function includedFiles(pattern: string, folder: string, home: string): string[] {
  const expanded = pattern === '~' || pattern.startsWith('~/') ? join(home, pattern.slice(1)) : pattern
  return expand(isAbsolute(expanded) ? expanded : join(folder, expanded))
}

const wildcard = /[*?[]/

function expand(path: string): string[] {
  if (!wildcard.test(path)) return [path]
  const parent = dirname(path)
  const folders = wildcard.test(parent) ? expand(parent) : [parent]
  const name = path.slice(parent.endsWith('/') ? parent.length : parent.length + 1)
  if (!wildcard.test(name)) return folders.map((folder) => join(folder, name))
  return folders.flatMap((folder) => {
    let names: string[]
    try {
      names = readdirSync(folder)
    } catch {
      return []
    }
    const matching = names.filter(
      (each) => (name.startsWith('.') || !each.startsWith('.')) && matchesPattern(each, name, true),
    )
    return matching.sort().map((each) => join(folder, each))
  })
}
