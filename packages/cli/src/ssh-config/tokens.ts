// What stands for something else in values (ssh_config(5), "TOKENS" and "ENVIRONMENT VARIABLES").

import { join } from 'node:path'
import { quote, SshError } from '@sshblock/transport/errors'

/** Texts by letter, without '%'. */
export type Tokens = ReadonlyMap<string, string>

/** Replaces %x. @throws SshError 'ERR_SSH_CONFIG' for a letter that means nothing here. */
export function expandTokens(text: string, tokens: Tokens): string {
  return text.replace(/%([\s\S]?)/g, (_, letter: string) => {
    if (letter === '%') return '%'
    const value = tokens.get(letter)
    if (value === undefined)
      throw new SshError('ERR_SSH_CONFIG', `%${letter} in ${quote(text)} means nothing here`)
    return value
  })
}

/** A path with '~', ${VARIABLE} and %x replaced. */
export function expandPath(
  path: string,
  home: string,
  tokens: Tokens,
  env: Readonly<Record<string, string | undefined>>,
): string {
  const atHome = path === '~' || path.startsWith('~/') ? join(home, path.slice(1)) : path
  const withVariables = atHome.replace(/\$\{([^}]*)\}/g, (_, name: string) => {
    const value = env[name]
    if (value === undefined)
      throw new SshError('ERR_SSH_CONFIG', `the variable ${quote(name)} in ${quote(path)} is not set`)
    return value
  })
  return expandTokens(withVariables, tokens)
}
