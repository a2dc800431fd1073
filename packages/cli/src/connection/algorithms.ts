// Lists of algorithms as ssh_config(5) writes them: names in order, or '+', '-' and '^' before names that are added to,
// taken from, or put at the front of the default.

import { quote, SshError } from '@sshblock/transport/errors'
import { type AlgorithmOffer, defaultOffer, knownAlgorithms, nodeCrypto } from '@sshblock/transport/node'
import { matchesPattern } from '../ssh-config/pattern.ts'
import type { AlgorithmKeyword, HostSettings } from '../ssh-config/settings.ts'

const categories: readonly (readonly [AlgorithmKeyword, keyof AlgorithmOffer])[] = [
  ['ciphers', 'ciphers'],
  ['macs', 'macs'],
  ['kexalgorithms', 'kex'],
  ['hostkeyalgorithms', 'hostKeys'],
]

/** What is offered where the settings say something about it. */
export function wantedAlgorithms({ algorithms }: HostSettings): Partial<AlgorithmOffer> {
  const offer: { -readonly [K in keyof AlgorithmOffer]?: readonly string[] } = {}
  const defaults = defaultOffer(nodeCrypto, 'client')
  const known = knownAlgorithms('client')
  for (const [keyword, category] of categories) {
    const written = algorithms[keyword]
    if (written === undefined) continue
    const list = algorithmList(written, defaults[category], known[category])
    if (list.length === 0)
      throw new SshError(
        'ERR_SSH_CONFIG',
        `${keyword} ${quote(written)} leaves nothing of what there is: ${known[category].join(', ')}`,
      )
    offer[category] = list
  }
  return offer
}

/** The list that `written` makes of the default. What we do not have is left out: the list was written for OpenSSH. */
export function algorithmList(
  written: string,
  defaults: readonly string[],
  known: readonly string[],
): readonly string[] {
  const sign = /^[-+^]/.exec(written)?.[0]
  const patterns = (sign === undefined ? written : written.slice(1)).split(',')
  if (sign === '-')
    return defaults.filter((name) => !patterns.some((pattern) => matchesPattern(name, pattern)))
  const named = patterns.flatMap((pattern) => known.filter((name) => matchesPattern(name, pattern)))
  const names = named.filter((name, i) => named.indexOf(name) === i)
  if (sign === '+') return [...defaults, ...names.filter((name) => !defaults.includes(name))]
  if (sign === '^') return [...names, ...defaults.filter((name) => !names.includes(name))]
  return names
}
