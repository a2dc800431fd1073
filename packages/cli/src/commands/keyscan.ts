// `sshblock keyscan`: the host keys that servers show and prove to hold, as lines for known_hosts. Nobody logs in.

import {
  connectOver,
  defaultOffer,
  formatPublicKey,
  HostKeyError,
  KnownHosts,
  NegotiationError,
  nodeCrypto,
  type PresentedHostKey,
  type Session,
  systemRandom,
} from '@sshblock/transport/node'
import { Command, InvalidArgumentError } from 'commander'
import { type ConnectionFlags, withConnection } from '../connection/flags.ts'
import { connectOptions, opener, settingsFor } from '../connection/server.ts'
import { attempt } from '../failure.ts'
import { type Invocation, printJson, printLine } from '../invocation.ts'
import { traceTo } from '../output/trace-lines.ts'
import { parseWhole } from '../sizes.ts'

interface KeyscanFlags extends ConnectionFlags {
  port?: number
  type: KeyKind[]
  hash?: boolean
  fingerprint?: boolean
  json?: boolean
}

const kinds = ['ed25519', 'ecdsa', 'rsa'] as const
type KeyKind = (typeof kinds)[number]

function parseKinds(text: string): KeyKind[] {
  return text.split(',').map((name) => {
    const kind = kinds.find((each) => each === name)
    if (kind === undefined) throw new InvalidArgumentError(`Expected some of ${kinds.join(', ')}.`)
    return kind
  })
}

export function keyscanCommand(invocation: Invocation): Command {
  return withConnection(new Command('keyscan'))
    .description(
      'Prints lines for known_hosts. Whoever answers is asked: compare the fingerprints with those that the owner of the server tells you.',
    )
    .argument('<host...>', 'host names, addresses, or names of ssh_config')
    .option('-p, --port <port>', 'another port than that of ssh_config, or 22', parseWhole(1, 65_535))
    .option('-t, --type <types>', 'only these, with commas between: ed25519, ecdsa, rsa', parseKinds, [
      ...kinds,
    ])
    .option('-H, --hash', 'hash the names, as Debian has them in known_hosts')
    .option('-l, --fingerprint', 'print fingerprints instead')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      `
Examples:
  sshblock keyscan -l example.org
  sshblock keyscan -p 2222 -t ed25519 example.org >> ~/.ssh/known_hosts`,
    )
    .action(async (hosts: string[], flags: KeyscanFlags) => {
      const found: { host: string; port: number; type: string; key: string; fingerprint: string }[] = []
      for (const host of hosts) {
        for (const { presented, name } of await attempt('cannot scan', host, () =>
          scan(host, flags, invocation),
        )) {
          const { publicKey, fingerprint, port } = presented
          const key = formatPublicKey(publicKey).trim()
          if (flags.json === true) found.push({ host: name, port, type: publicKey.type, key, fingerprint })
          else
            printLine(
              invocation,
              flags.fingerprint === true
                ? `${fingerprint} ${name} (${publicKey.type})`
                : knownHostsLine(presented, flags),
            )
        }
      }
      if (flags.json === true) printJson(invocation, found)
    })
}

function knownHostsLine({ host, port, publicKey }: PresentedHostKey, { hash }: KeyscanFlags): string {
  const lines = KnownHosts.parse('')
  lines.add(nodeCrypto, {
    host,
    port,
    key: publicKey,
    ...(hash === true ? { hash: { random: systemRandom } } : {}),
  })
  return new TextDecoder().decode(lines.bytes()).trimEnd()
}

async function scan(
  host: string,
  flags: KeyscanFlags,
  invocation: Invocation,
): Promise<{ presented: PresentedHostKey; name: string }[]> {
  const settings = settingsFor({ host, user: undefined, port: flags.port }, flags, invocation)
  const offered = defaultOffer(nodeCrypto, 'client').hostKeys.filter((name) => !name.includes('-cert-'))
  const found: { presented: PresentedHostKey; name: string }[] = []
  let refused: unknown
  for (const kind of flags.type) {
    const hostKeys = offered.filter((name) => name.includes(kind))
    const jumps: Session[] = []
    try {
      // The verdict ends each connection behind the key exchange, which proves that the server holds the key.
      await connectOver(opener(settings, flags, invocation, jumps), {
        ...connectOptions(settings),
        algorithms: { ...connectOptions(settings).algorithms, hostKeys },
        hostKeyPolicy: (presented) => {
          found.push({ presented, name: settings.hostName })
          return { problem: 'no-policy', message: 'only its key was wanted' }
        },
        auth: [],
        signal: invocation.signal,
        crypto: nodeCrypto,
        trace: traceTo(invocation, flags.verbose ?? 0) ?? (() => {}),
      })
    } catch (error) {
      const none = error instanceof NegotiationError && error.category === 'host key'
      if (none) refused = error
      else if (!(error instanceof HostKeyError && error.problem === 'no-policy')) throw error
    } finally {
      for (const jump of jumps) await jump.close()
    }
  }
  if (found.length === 0 && refused !== undefined) throw refused
  return found
}
