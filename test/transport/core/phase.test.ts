import { beforeAll, describe, expect, it } from 'vitest'
import type { ExchangeStep, Layer, Phase } from '../../../packages/transport/src/core/phase.ts'
import { verdict } from '../../../packages/transport/src/core/phase.ts'
import { nodeCrypto } from '../../../packages/transport/src/crypto/node.ts'
import { Outbound } from '../../../packages/transport/src/packet/outbound.ts'
import { plaintextSuite } from '../../../packages/transport/src/packet/plaintext.ts'
import { Pair, seededRandom } from './pair.ts'

// ML-KEM is fetched at its first use: once it is there, every step below is synchronous.
beforeAll(async () => {
  await nodeCrypto.mlkem768KeyPair(seededRandom(1))
})

const all = Array.from({ length: 256 }, (_, i) => i)
const roles = ['client', 'server'] as const
const layers: Layer[] = ['transport', 'service', 'auth', 'connection']
const steps: ExchangeStep[] = ['idle', 'kexinit', 'method', 'newkeys']

function phase(
  role: 'client' | 'server',
  layer: Layer,
  exchange: ExchangeStep,
  more: Partial<Phase> = {},
): Phase {
  return { role, layer, exchange, strict: true, firstAfterNewKeys: false, successMustFollow: false, ...more }
}

const accepted = (given: Phase): number[] => all.filter((type) => verdict(given, type) === 'accept')
const notViolating = (given: Phase): number[] => all.filter((type) => verdict(given, type) !== 'violation')

describe('the gate of legal messages', () => {
  it.each(roles)(
    'lets a strict %s see only the expected message during the first exchange (OpenSSH PROTOCOL 1.10)',
    (role) => {
      expect(notViolating(phase(role, 'transport', 'method'))).toEqual([1, role === 'client' ? 31 : 30])
      expect(notViolating(phase(role, 'transport', 'newkeys'))).toEqual([1, 21])
    },
  )

  it.each(roles)('lets a %s without strict exchange see generic messages besides (RFC 4253 s7.1)', (role) => {
    expect(notViolating(phase(role, 'transport', 'method', { strict: false }))).toEqual([
      1,
      2,
      3,
      4,
      role === 'client' ? 31 : 30,
    ])
  })

  it.each(roles)(
    'lets a %s see nothing but the exchange after the peer sent KEXINIT in a later exchange',
    (role) => {
      expect(notViolating(phase(role, 'connection', 'method'))).toEqual([
        1,
        2,
        3,
        4,
        role === 'client' ? 31 : 30,
      ])
      expect(notViolating(phase(role, 'connection', 'newkeys'))).toEqual([1, 2, 3, 4, 21])
    },
  )

  it.each(roles)('still lets a %s see data that was under way before the peer sent its KEXINIT', (role) => {
    expect(accepted(phase(role, 'connection', 'kexinit'))).toContain(94)
    expect(accepted(phase(role, 'connection', 'kexinit'))).toContain(20)
  })

  it('dispatches none of 80 to 127 before authentication, in no state and no role (CVE-2025-32433)', () => {
    for (const role of roles) {
      for (const layer of layers.filter((name) => name !== 'connection')) {
        for (const step of steps) {
          for (let type = 80; type <= 127; type++)
            expect(verdict(phase(role, layer, step), type)).toBe('violation')
        }
      }
    }
  })

  it('lets a server never see what only servers say (CVE-2018-10933)', () => {
    for (const layer of layers) {
      for (const step of steps) {
        for (const type of [6, 31, 51, 52, 53, 60])
          expect(verdict(phase('server', layer, step), type)).toBe('violation')
      }
    }
  })

  it('lets a client never see what only clients say', () => {
    for (const layer of layers) {
      for (const step of steps)
        for (const type of [5, 30, 50, 61])
          expect(verdict(phase('client', layer, step), type)).toBe('violation')
    }
  })

  it('takes a second SERVICE_ACCEPT or USERAUTH_SUCCESS for a violation, and ignores USERAUTH_REQUEST after success', () => {
    expect(verdict(phase('client', 'auth', 'idle'), 6)).toBe('violation')
    expect(verdict(phase('client', 'connection', 'idle'), 52)).toBe('violation')
    expect(verdict(phase('server', 'connection', 'idle'), 50)).toBe('ignore')
  })

  it('accepts EXT_INFO only first after NEWKEYS, or from the server right before success (RFC 8308 s2.4)', () => {
    expect(verdict(phase('client', 'service', 'idle', { firstAfterNewKeys: true }), 7)).toBe('accept')
    expect(verdict(phase('client', 'service', 'idle'), 7)).toBe('violation')
    expect(verdict(phase('client', 'auth', 'idle'), 7)).toBe('accept')
    expect(notViolating(phase('client', 'auth', 'idle', { successMustFollow: true }))).toEqual([1, 52])
    expect(verdict(phase('client', 'connection', 'idle'), 7)).toBe('violation')
    expect(verdict(phase('server', 'auth', 'idle'), 7)).toBe('violation')
  })

  it('answers unknown messages with UNIMPLEMENTED once keys are in force, and no ping before authentication', () => {
    for (const type of [9, 19, 83, 101, 127, 128, 191, 194, 255])
      expect(verdict(phase('client', 'connection', 'idle'), type)).toBe('unimplemented')
    expect(verdict(phase('server', 'auth', 'idle'), 192)).toBe('unimplemented')
    expect(verdict(phase('server', 'connection', 'idle'), 192)).toBe('accept')
    expect(verdict(phase('server', 'connection', 'method'), 192)).toBe('violation')
  })
})

/** Identification and KEXINIT of a side; a server sends its own behind the client's. */
function firstFlight(pair: Pair, of: 'client' | 'server'): Uint8Array {
  if (of === 'server') pair.feed(pair.server, new Pair().client.core.take()!.slice())
  return pair.take(pair[of])!
}

/** A plain packet as a peer without keys would send it. */
function plainPacket(payload: Uint8Array): Uint8Array {
  const outbound = new Outbound(
    plaintextSuite.sealer({ iv: new Uint8Array(0), key: new Uint8Array(0), macKey: new Uint8Array(0) }),
    seededRandom(3),
    () => {},
  )
  outbound.begin().raw(payload)
  outbound.end()
  return outbound.take()!.slice()
}

describe('every message type at every moment before authentication', () => {
  const identification = new TextEncoder().encode('SSH-2.0-peer\r\n')

  it.each(roles)(
    'as the first packet to a %s: only KEXINIT goes on, generic ones are survived until a strict KEXINIT',
    (role) => {
      for (const type of all) {
        const pair = new Pair()
        const side = pair[role]
        pair.feed(side, identification)
        pair.feed(side, plainPacket(Uint8Array.of(type, 0, 0, 0, 0)))
        const ended = side.core.transport.failure !== undefined
        // KEXINIT of 5 bytes is malformed, DISCONNECT ends, IGNORE, UNIMPLEMENTED and DEBUG are legal for a peer that is not strict.
        expect(ended, `message ${type}`).toBe(type !== 2 && type !== 3)
        expect(side.names.filter((name) => name !== 'failed')).toEqual([])
      }
    },
  )

  it.each(roles)(
    'between KEXINIT and the exchange of a strict %s: everything but the expected message ends the connection',
    async (role) => {
      const other = role === 'client' ? 'server' : 'client'
      for (const type of all) {
        const pair = new Pair()
        const side = pair[role]
        pair.feed(side, firstFlight(pair, other))
        expect(side.core.transport.phase.exchange).toBe('method')
        pair.feed(side, plainPacket(Uint8Array.of(type, 0, 0, 0, 0)))
        expect(side.core.transport.failure, `message ${type}`).toBeDefined()
        expect(side.names).toEqual(['failed'])
      }
    },
  )

  it.each(roles)(
    'with keys, before the end of authentication of a %s: no message reaches the connection layer',
    async (role) => {
      const other = role === 'client' ? 'server' : 'client'
      for (const type of all) {
        const pair = new Pair()
        await pair.settle()
        const side = pair[role]
        const names = side.names.length
        const { transport } = pair[other].core
        transport.begin().raw(Uint8Array.of(type, 0, 0, 0, 0, 0, 0, 0, 0))
        transport.end()
        pair.feed(side, pair.take(pair[other])!)
        const after = side.names.slice(names)
        expect(
          after.filter((name) => name !== 'failed'),
          `message ${type}`,
        ).toEqual([])
        const unassigned = (type > 7 && type < 20) || (type > 21 && type < 30) || type > 127
        const survives = type === 2 || type === 3 || type === 4 || unassigned
        const malformed = type === 3
        expect(side.core.transport.failure === undefined, `message ${type}`).toBe(survives && !malformed)
      }
    },
  )

  it('refuses KEXINIT as a second packet when the peer is strict (Terrapin), and takes it when it is not', async () => {
    for (const role of roles) {
      const other = role === 'client' ? 'server' : 'client'
      const pair = new Pair()
      const bytes = firstFlight(pair, other)
      const lineEnd = bytes.indexOf(10) + 1
      pair.feed(pair[role], bytes.subarray(0, lineEnd))
      pair.feed(pair[role], plainPacket(Uint8Array.of(2, 0, 0, 0, 0)))
      pair.feed(pair[role], bytes.subarray(lineEnd))
      expect(pair[role].core.transport.failure?.message).toMatch(
        /strict key exchange: KEXINIT came as packet 1/,
      )
    }
  })
})
