// Lists of algorithms as ssh_config(5) writes them: names in order, or '+', '-' and '^' before names that are added to,
// taken from, or put at the front of the default.

import { type AlgorithmOffer, defaultOffer, nodeCrypto } from '@sshblock/transport/node'
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
  for (const [keyword, category] of categories) {
    const written = algorithms[keyword]
    if (written !== undefined) offer[category] = algorithmList(written, defaults[category])
  }
  return offer
}

/** The list that `written` makes of the default. */
export function algorithmList(written: string, defaults: readonly string[]): readonly string[] {
  const sign = /^[-+^]/.exec(written)?.[0]
  const names = (sign === undefined ? written : written.slice(1)).split(',').filter((name) => name !== '')
  if (sign === '-') return defaults.filter((name) => !names.some((pattern) => matchesPattern(name, pattern)))
  if (sign === '+') return [...defaults, ...names.filter((name) => !defaults.includes(name))]
  if (sign === '^') return [...names, ...defaults.filter((name) => !names.includes(name))]
  // A list written for OpenSSH names what we do not have; where all of it is such, the refusal says what there is.
  const usable = names.filter((name) => defaults.includes(name))
  return usable.length > 0 ? usable : names
}
