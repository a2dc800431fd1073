// Which lines of ssh_config files count for a host (ssh_config(5)): the first value of a keyword wins, Host and Match
// decide about the lines below them, Include stands for the lines of other files. `Match final` makes a second pass, in
// which `host` means the name that was found. Canonical host names are not looked up.

import { spawnSync } from 'node:child_process'
import { dirname, join } from 'node:path'
import { quote, SshError } from '@sshblock/transport/errors'
import { matchesList } from './pattern.ts'
import { type ConfigLine, includedFiles, parseConfig, readConfigFile } from './read-lines.ts'
import { expandTokens, type Tokens } from './tokens.ts'

/** ssh_config(5), Include: files may include others to this depth. */
const maxIncludeDepth = 16

/** Keywords of which every line counts. */
const repeated = new Set(['identityfile', 'certificatefile'])

export interface ConfigSources {
  /** 'Keyword value' or 'Keyword=value', as behind -o: before all files. */
  readonly overrides: readonly string[]
  /** The user's file; undefined for none. Includes that are relative lie in `home`/.ssh. */
  readonly userFile: string | undefined
  /** Whether `userFile` was named, and must be there. */
  readonly userFileNamed: boolean
  /** The machine's file; undefined for none. Includes that are relative lie beside it. */
  readonly systemFile: string | undefined
  readonly home: string
  /** Who runs the program. */
  readonly localUser: string
  /** For `Match exec`. */
  readonly shell: string
}

export interface ConfigTarget {
  /** As the user typed it. */
  readonly host: string
  readonly user: string | undefined
  readonly port: number | undefined
}

/** The values of keywords in lower case. */
export type ConfigValues = ReadonlyMap<string, readonly string[]>

/**
 * Evaluates the files for a host.
 * @throws SshError 'ERR_SSH_CONFIG' for what cannot be understood, and files that cannot be read.
 */
export function evaluateConfig(sources: ConfigSources, target: ConfigTarget): ConfigValues {
  const evaluation = new Evaluation(sources, target)
  evaluation.pass(false)
  if (evaluation.wantsFinalPass) evaluation.pass(true)
  return evaluation.values
}

class Evaluation {
  readonly values = new Map<string, string[]>()
  readonly #sources: ConfigSources
  readonly #target: ConfigTarget
  wantsFinalPass = false
  #final = false

  constructor(sources: ConfigSources, target: ConfigTarget) {
    this.#sources = sources
    this.#target = target
    if (target.user !== undefined) this.values.set('user', [target.user])
    if (target.port !== undefined) this.values.set('port', [String(target.port)])
  }

  pass(final: boolean): void {
    const { overrides, userFile, userFileNamed, systemFile, home } = this.#sources
    this.#final = final
    for (const override of overrides) this.#lines(parseConfig(`${override}\n`, `-o ${override}`), true, '', 0)
    if (userFile !== undefined) {
      const found = this.#file(userFile, join(home, '.ssh'), true, 0)
      if (!found && userFileNamed)
        throw new SshError('ERR_SSH_CONFIG', `cannot read ${quote(userFile, 1024)}: there is no such file`)
    }
    if (systemFile !== undefined) this.#file(systemFile, dirname(systemFile), true, 0)
    const canonicalize = this.values.get('canonicalizehostname')?.[0]?.toLowerCase()
    if (canonicalize === 'yes' || canonicalize === 'always') this.wantsFinalPass = true
  }

  #file(path: string, folder: string, active: boolean, depth: number): boolean {
    if (depth > maxIncludeDepth)
      throw new SshError('ERR_SSH_CONFIG', `${quote(path, 1024)} is included too deeply`)
    const text = readConfigFile(path)
    if (text === undefined) return false
    this.#lines(parseConfig(text, path), active, folder, depth)
    return true
  }

  #lines(lines: readonly ConfigLine[], active: boolean, folder: string, depth: number): void {
    for (const line of lines) {
      if (line.section !== undefined) {
        const applies = active && this.#applies(line)
        this.#lines(line.section, applies, folder, depth)
      } else if (line.keyword === 'include') {
        for (const pattern of line.words)
          for (const file of includedFiles(pattern, folder, this.#sources.home))
            this.#file(file, folder, active, depth + 1)
      } else if (active) this.#set(line)
    }
  }

  #set({ keyword, words, text }: ConfigLine): void {
    const known = this.values.get(keyword)
    const given = keyword === 'proxycommand' ? [text] : words
    if (repeated.has(keyword)) {
      // A file that is named twice is tried once.
      this.values.set(keyword, [
        ...(known ?? []),
        ...given.filter((value) => known?.includes(value) !== true),
      ])
    } else if (known === undefined && !this.#isShadowed(keyword)) this.values.set(keyword, [...given])
  }

  // ProxyJump and ProxyCommand exclude each other: whichever is said first.
  #isShadowed(keyword: string): boolean {
    if (keyword === 'proxyjump') return this.values.has('proxycommand')
    return keyword === 'proxycommand' && this.values.has('proxyjump')
  }

  #applies({ keyword, words }: ConfigLine): boolean {
    if (keyword === 'host') return matchesList(this.#target.host, words)
    return this.#matches(words)
  }

  #matches(words: readonly string[]): boolean {
    let all = words.length > 0
    for (let i = 0; i < words.length; i++) {
      const negated = words[i]!.startsWith('!')
      const criterion = words[i]!.slice(negated ? 1 : 0).toLowerCase()
      let result: boolean
      if (criterion === 'all') result = true
      else if (criterion === 'final' || criterion === 'canonical') {
        if (criterion === 'final') this.wantsFinalPass = true
        result = this.#final
      } else {
        i++
        result = all && this.#criterion(criterion, words[i] ?? '')
      }
      if (result === negated) all = false
    }
    return all
  }

  #criterion(criterion: string, argument: string): boolean {
    const patterns = argument.split(',')
    switch (criterion) {
      case 'host':
        return matchesList(
          this.#hostName().toLowerCase(),
          patterns.map((each) => each.toLowerCase()),
        )
      case 'originalhost':
        return matchesList(
          this.#target.host.toLowerCase(),
          patterns.map((each) => each.toLowerCase()),
        )
      case 'user':
        return matchesList(this.#user(), patterns)
      case 'localuser':
        return matchesList(this.#sources.localUser, patterns)
      case 'exec':
        return this.#exec(argument)
      case 'tagged':
        return matchesList(this.values.get('tag')?.[0] ?? '', patterns)
      default:
        throw new SshError('ERR_SSH_CONFIG', `Match ${quote(criterion)} is not supported`)
    }
  }

  #exec(command: string): boolean {
    const text = expandTokens(command, this.#tokens())
    return (
      spawnSync(this.#sources.shell, ['-c', text], { stdio: ['ignore', 'ignore', 'inherit'] }).status === 0
    )
  }

  #hostName(): string {
    const { host } = this.#target
    const name = this.values.get('hostname')?.[0]
    return name === undefined ? host : expandTokens(name, new Map([['h', host]]))
  }

  #user(): string {
    return this.values.get('user')?.[0] ?? this.#sources.localUser
  }

  #tokens(): Tokens {
    const { home, localUser } = this.#sources
    return new Map([
      ['d', home],
      ['h', this.#hostName()],
      ['n', this.#target.host],
      ['p', this.values.get('port')?.[0] ?? '22'],
      ['r', this.#user()],
      ['u', localUser],
    ])
  }
}
