// The methods of key exchange themselves (RFC 4253 s8, RFC 5656 s4, RFC 8731, RFC 8268, draft-ietf-sshm-mlkem-hybrid-kex),
// proof of the host key, and every algorithm that both sides know.

import { kexMethod, knownKexMethods } from '../../kex/methods.ts'
import { group14Prime } from '../../kex/modp-groups.ts'
import type { KexInit } from '../../kex/negotiate.ts'
import { signatureAlgorithmNames } from '../../keys/signature-algorithms.ts'
import type { Signer } from '../../keys/signer.ts'
import { kexMethodInit } from '../../messages/kex.ts'
import * as number from '../../messages/numbers.ts'
import { isAead, knownCiphers, knownMacs } from '../../packet/suites.ts'
import { concat } from '../../wire/bytes.ts'
import { NotApplicable, Unexpected } from '../arrival.ts'
import { type Check, check } from '../check.ts'
import type { ScriptedPeer } from '../scripted-peer.ts'
import type { Trial } from '../trial.ts'

/** The names that both know, in our order; there must be one. @throws NotApplicable */
function common(known: readonly string[], theirs: readonly string[], what: string): string[] {
  const names = known.filter((name) => theirs.includes(name))
  if (names.length === 0) throw new NotApplicable(`no ${what} is common`)
  return names
}

/** Does the same with each name, one connection after the other; an error says with which. Returns the names. */
async function withEach(
  names: readonly string[],
  work: (name: string) => Promise<ScriptedPeer>,
): Promise<string> {
  for (const name of names) {
    try {
      // Servers let a stranger have a few connections at once.
      const peer = await work(name)
      peer.wire.abort()
    } catch (error) {
      if (error instanceof Unexpected) throw new Unexpected(`${error.expected} with ${name}`, error.came)
      throw error
    }
  }
  return names.join(', ')
}

/** Methods that the scripted peer can play with the peer under test. */
function commonMethods(trial: Trial): string[] {
  const usable = knownKexMethods.filter(
    (name) => trial.role === 'client' || kexMethod(name)?.server !== undefined,
  )
  return common(usable, trial.theirInit.kexAlgorithms, 'method')
}

/** Public values that no peer may take, by method (names as in knownKexMethods). */
function badValues(kex: string, honest: Uint8Array): [what: string, value: Uint8Array][] {
  const edited = (at: number, ...bytes: number[]): Uint8Array => {
    const copy = honest.slice()
    copy.set(bytes, at)
    return copy
  }
  const shorter = honest.subarray(0, honest.length - 1)
  const longer = concat(honest, Uint8Array.of(1))
  const lengths: [string, Uint8Array][] = [
    ['one byte short', shorter],
    ['one byte long', longer],
    ['empty', new Uint8Array(0)],
  ]
  if (kex.startsWith('curve25519')) {
    return [
      ...lengths,
      ['all zeros', new Uint8Array(32)],
      ['the point of order 1', edited(0, 1, ...new Array(31).fill(0))],
    ]
  }
  if (kex.startsWith('ecdh')) {
    const field = (honest.length - 1) / 2
    return [
      ...lengths,
      ['a point off the curve', concat(Uint8Array.of(4), new Uint8Array(2 * field - 1), Uint8Array.of(1))],
      ['the point at infinity', Uint8Array.of(0)],
    ]
  }
  if (kex.startsWith('mlkem768')) {
    const lowOrder = honest.slice()
    lowOrder.fill(0, honest.length - 32)
    const badModulus = honest.slice()
    // The first coefficients are all ones, above the modulus 3329 (FIPS 203 s7.2). A ciphertext has no such rule.
    badModulus.fill(0xff, 0, 6)
    return [
      ...lengths,
      ['an X25519 half of zeros', lowOrder],
      ...(honest.length === 1216
        ? [['coefficients above the modulus', badModulus] as [string, Uint8Array]]
        : []),
    ]
  }
  // An mpint is its minimal bytes, so the prime has a zero byte in front.
  const minusOne = concat(Uint8Array.of(0), group14Prime)
  minusOne[minusOne.length - 1]!--
  const beyond = concat(Uint8Array.of(1), new Uint8Array(honest.length + 1))
  return [
    ['0', new Uint8Array(0)],
    ['1', Uint8Array.of(1)],
    ...(kex.includes('group14') ? [['p - 1', minusOne] as [string, Uint8Array]] : []),
    ['a number far above p', beyond],
  ]
}

const valueClauses: readonly [prefix: string, id: string, clause: string][] = [
  ['curve25519', 'kex.values-curve25519', 'RFC 8731 s3'],
  ['ecdh', 'kex.values-ecdh', 'RFC 5656 s4'],
  ['mlkem768', 'kex.values-mlkem', 'draft-ietf-sshm-mlkem-hybrid-kex s2.4'],
  ['diffie-hellman', 'kex.values-dh', 'RFC 8268 s4'],
]

/** Each value in a connection of its own; the peer has to hang up. */
const valueChecks = valueClauses.map(([prefix, id, clause]) =>
  check(
    id,
    `ends the connection at a public value that is none of ${prefix}`,
    clause,
    'must',
    async (trial: Trial) => {
      const usable = knownKexMethods.filter(
        (name) => trial.role === 'client' || kexMethod(name)?.server !== undefined,
      )
      const theirs = trial.theirInit.kexAlgorithms
      const names = usable.filter((name) => name.startsWith(prefix) && theirs.includes(name))
      // One name of each family is enough where two names are the same method.
      const kex = names[0]
      if (kex === undefined) throw new NotApplicable(`no method ${prefix} is common`)
      const came: string[] = []
      for (let at = 0; ; at++) {
        const peer = await trial.peer('kexinit', { algorithms: { kex: [kex] } })
        const exchange = peer.exchange!
        let tried: [string, Uint8Array] | undefined
        const pick = (honest: Uint8Array): Uint8Array => {
          tried = badValues(kex, honest)[at]
          return tried?.[1] ?? honest
        }
        if (peer.role === 'client') {
          await exchange.sendMethodInit(pick)
        } else {
          await exchange.receiveMethodInit()
          await exchange.sendMethodReply((honest) => ({ ...honest, serverValue: pick(honest.serverValue) }))
        }
        if (tried === undefined) return `${came.length} values: ${[...new Set(came)].join('; ')}`
        try {
          came.push(await peer.expectDisconnect())
          peer.wire.abort()
        } catch (error) {
          if (error instanceof Unexpected)
            throw new Unexpected(`${error.expected} at ${tried[0]}`, error.came)
          throw error
        }
      }
    },
  ),
)

export const keyExchangeChecks: readonly Check<Trial>[] = [
  check('kex.methods', 'exchanges keys by every method that both know', 'RFC 4253 s8', 'must', (trial) =>
    withEach(commonMethods(trial), (name) => trial.peer('keys', { algorithms: { kex: [name] } })),
  ),
  check(
    'kex.ciphers',
    'takes and gives packets by every cipher that both know',
    'RFC 4253 s6.3',
    'must',
    (trial) =>
      withEach(common(knownCiphers, trial.theirInit.ciphersClientToServer, 'cipher'), async (name) => {
        const peer = await trial.quiet({ algorithms: { ciphers: [name] } })
        await trial.expectGoesOn(peer)
        return peer
      }),
  ),
  check(
    'kex.macs',
    'takes and gives packets by every MAC that both know',
    'RFC 4253 s6.4',
    'must',
    (trial) => {
      const ctr = common(knownCiphers, trial.theirInit.ciphersClientToServer, 'cipher').filter(
        (name) => !isAead(name),
      )
      if (ctr.length === 0) throw new NotApplicable('it has no cipher that needs a MAC')
      return withEach(common(knownMacs, trial.theirInit.macsClientToServer, 'MAC'), async (name) => {
        const algorithms = { ciphers: ctr.slice(0, 1), macs: [name] }
        const peer = await trial.quiet({ algorithms })
        await trial.expectGoesOn(peer)
        return peer
      })
    },
  ),
  ...valueChecks,
  check(
    'kex.newkeys-form',
    'ends the connection at a NEWKEYS with a body',
    'RFC 4253 s7.3',
    'guard',
    async (trial) => {
      const peer = await trial.peer('exchanged')
      peer.alter(number.NEWKEYS, (payload) => concat(payload, new Uint8Array(4)))
      const exchange = peer.exchange!
      exchange.sendNewKeys()
      await exchange.receiveNewKeys()
      return peer.expectDisconnect()
    },
  ),
]

export const serverKeyExchangeChecks: readonly Check<Trial>[] = [
  check(
    'kex.host-keys',
    'proves each host key algorithm that it offers, with a key and a signature of that type',
    'RFC 4253 s8',
    'must',
    (trial) =>
      withEach(
        common(signatureAlgorithmNames, trial.theirInit.hostKeyAlgorithms, 'host key algorithm'),
        async (name) => {
          const peer = await trial.peer('exchanged', { algorithms: { hostKeys: [name] } })
          if (peer.exchange?.hostKeyProved !== true)
            throw new Unexpected('a signature that verifies', 'another one')
          return peer
        },
      ),
  ),
  check(
    'kex.trailing',
    'ends the connection at bytes behind the public value',
    'RFC 4253 s8',
    'guard',
    async (trial) => {
      const peer = await trial.peer('kexinit')
      peer.alter(number.KEX_INIT, (payload) => concat(payload, new Uint8Array(4)))
      await peer.exchange!.sendMethodInit()
      return peer.expectDisconnect()
    },
  ),
  check(
    'kex.value-length',
    'ends the connection at a public value longer than its message',
    'RFC 4251 s5',
    'must',
    async (trial) => {
      const peer = await trial.peer('kexinit')
      const payload = kexMethodInit.bytes({ clientValue: new Uint8Array(32) })
      payload[1] = 0xff
      peer.send(payload)
      return peer.expectDisconnect()
    },
  ),
]

/** The client has to leave at this KEX_REPLY, before it asks for a service. */
async function replyRefused(
  trial: Trial,
  change: Parameters<NonNullable<Awaited<ReturnType<Trial['peer']>>['exchange']>['sendMethodReply']>[0],
): Promise<string> {
  const peer = await trial.peer('kexinit')
  const exchange = peer.exchange!
  await exchange.receiveMethodInit()
  await exchange.sendMethodReply(change)
  return peer.expectDisconnect()
}

export const clientKeyExchangeChecks: readonly Check<Trial>[] = [
  check(
    'kex.signature',
    'leaves when the signature of the exchange is wrong',
    'RFC 4253 s8',
    'must',
    (trial) =>
      replyRefused(trial, (honest) => {
        const signature = honest.signature.slice()
        signature[signature.length - 1]! ^= 1
        return { ...honest, signature }
      }),
  ),
  check(
    'kex.signature-other-data',
    'leaves when the signature is over something else than the exchange hash',
    'RFC 4253 s8',
    'must',
    (trial) =>
      replyRefused(trial, async (honest) => {
        const { hostKeys } = trial.target as Extract<Trial['target'], { role: 'client' }>
        const signer = hostKeys.find((key) => key.publicKeyBlob === honest.hostKey)!
        const other = honest.exchangeHash.slice()
        other[0]! ^= 1
        return { ...honest, signature: await signer.sign(signer.algorithms[0]!, other) }
      }),
  ),
  check(
    'kex.host-key-type',
    'leaves when the host key is of another type than was negotiated',
    'RFC 4253 s8',
    'must',
    (trial) =>
      replyRefused(trial, (honest) => {
        // The same bytes under another name: 'ssh-ed25519' and 'ssh-ed25518' are as long.
        const hostKey = honest.hostKey.slice()
        hostKey[14]! ^= 1
        return { ...honest, hostKey }
      }),
  ),
  check(
    'kex.host-key-changed',
    'leaves when a later exchange shows another host key',
    'RFC 4253 s9',
    'guard',
    async (trial) => {
      const { hostKeys } = trial.target as Extract<Trial['target'], { role: 'client' }>
      const [one, other] = hostKeys
      if (one === undefined || other === undefined)
        throw new NotApplicable('needs two host keys that it trusts')
      const showing = (signer: Signer) => (honest: KexInit) => ({
        ...honest,
        hostKeyAlgorithms: signer.algorithms,
      })
      const peer = await trial.quiet({ hostKeys: [one, other], kexInit: showing(one) })
      const exchange = peer.startExchange()
      exchange.sendInit(showing(other))
      await exchange.receiveInit()
      await exchange.receiveMethodInit()
      await exchange.sendMethodReply()
      return peer.expectDisconnect()
    },
  ),
]
