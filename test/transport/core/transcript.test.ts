import {
  ConnectionLost,
  HostKeyError,
  IntegrityError,
  KeyFormatError,
  NegotiationError,
  PeerDisconnected,
  ProtocolError,
} from '@sshblock/transport/errors'
import { nodeCrypto, webCrypto } from '@sshblock/transport/node'
import { describe, expect, it } from 'vitest'
import { Pair, seededRandom } from './pair.ts'

// Ed25519 host keys and seeded randomness make the whole exchange a function of its seed, so it can be replayed.
const small = { kex: ['curve25519-sha256'], hostKeys: ['ssh-ed25519'] }

async function openPair(ciphers: string[], macs: string[] = ['hmac-sha2-256']): Promise<Pair> {
  const algorithms = { ...small, ciphers, macs }
  return new Pair({ clientAlgorithms: algorithms, serverAlgorithms: algorithms }).open()
}

function joined(parts: Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => [...part]))
}

describe('a recorded connection', () => {
  it.each([1, 2, 3, 7, 16, 61, 1000])(
    'gives the same events when its bytes come in portions of %i',
    async (portion) => {
      const algorithms = { ...small, ciphers: ['aes128-ctr'], macs: ['hmac-sha2-256'] }
      const run = async (cut: (bytes: Uint8Array) => Uint8Array[]): Promise<Pair> => {
        const pair = new Pair({ clientAlgorithms: algorithms, serverAlgorithms: algorithms })
        pair.onEvent = (_, event) => {
          if (event.type === 'channel-open') event.incoming.accept().write(new Uint8Array(3000))
          if (event.type === 'channel-data') event.channel.consumed(event.data.length)
        }
        await pair.settle(cut)
        pair.client.core.startAuth('user').none()
        await pair.settle(cut)
        pair.client.core.mux.open('session', new Uint8Array(0), () => {})
        await pair.settle(cut)
        return pair
      }
      const whole = await run((bytes) => [bytes])
      const cut = await run((bytes) => {
        const parts: Uint8Array[] = []
        for (let at = 0; at < bytes.length; at += portion) parts.push(bytes.subarray(at, at + portion))
        return parts
      })
      expect(cut.client.names).toEqual(whole.client.names)
      expect(cut.server.names).toEqual(whole.server.names)
      expect(joined(cut.server.sent)).toEqual(joined(whole.server.sent))
      expect(whole.client.names).toContain('channel-data')
    },
  )

  const suites = [
    { cipher: 'aes256-gcm@openssh.com', mac: 'hmac-sha2-256' },
    { cipher: 'chacha20-poly1305@openssh.com', mac: 'hmac-sha2-256' },
    { cipher: 'aes128-ctr', mac: 'hmac-sha2-256' },
    { cipher: 'aes128-ctr', mac: 'hmac-sha2-256-etm@openssh.com' },
  ]

  it.each(suites)(
    'never gets a client in after one bit of the server was changed, with $cipher $mac',
    async ({ cipher, mac }) => {
      const recorded = joined((await openPair([cipher], [mac])).server.sent)
      // From the identification line to the end of authentication: every byte, one bit of it, in a client that would say the same.
      const unprotected = paddingBeforeKeys(recorded)
      for (let at = 0; at < recorded.length; at++) {
        if (unprotected.has(at)) continue
        const changed = recorded.slice()
        changed[at]! ^= 1 << (at % 8)
        const { client, pair } = replayClient(cipher, mac)
        pair.feed(client, changed)
        client.core.ended()
        pair.drain(client)
        const error = client.core.transport.failure
        const fine =
          error instanceof ProtocolError ||
          error instanceof IntegrityError ||
          error instanceof HostKeyError ||
          error instanceof NegotiationError ||
          error instanceof KeyFormatError ||
          error instanceof PeerDisconnected ||
          error instanceof ConnectionLost
        expect(fine, `byte ${at}: ${error?.message}`).toBe(true)
        expect(client.core.authenticated, `byte ${at}`).toBe(false)
      }
      // The same bytes unchanged do get it in: the check above can fail.
      const { client, pair } = replayClient(cipher, mac)
      pair.feed(client, recorded)
      expect(client.core.authenticated).toBe(true)
    },
  )

  it('ends in a typed error when it is cut at any byte', async () => {
    const recorded = joined((await openPair(['aes256-gcm@openssh.com'])).server.sent)
    for (let at = 0; at < recorded.length; at += 3) {
      const { client, pair } = replayClient('aes256-gcm@openssh.com', 'hmac-sha2-256')
      pair.feed(client, recorded.subarray(0, at))
      client.core.ended()
      pair.drain(client)
      expect(client.core.transport.failure).toBeInstanceOf(ConnectionLost)
      expect(client.names.at(-1)).toBe('failed')
      expect(client.core.next()).toBeUndefined()
    }
  })

  it('is the same on WebCrypto, whose packets open in later turns', async () => {
    const web = webCrypto()
    const pair = await new Pair({ clientCrypto: web, serverCrypto: web }).open()
    expect(pair.client.core.authenticated).toBe(true)
    expect(pair.client.core.transport.algorithms?.cipherClientToServer).toBe('aes256-gcm@openssh.com')
  })
})

/** Positions of the padding before the first NEWKEYS, its own included: RFC 4253 s8 hashes payloads, so nothing protects these. */
function paddingBeforeKeys(recorded: Uint8Array): Set<number> {
  const positions = new Set<number>()
  let at = recorded.indexOf(10) + 1
  for (let packet = 0; packet < 3; packet++) {
    const length = new DataView(recorded.buffer).getUint32(at)
    const padding = recorded[at + 4]!
    for (let i = at + 4 + length - padding; i < at + 4 + length; i++) positions.add(i)
    at += 4 + length
  }
  return positions
}

/** A client that sends what the recorded one sent: same seed, and authentication begun as soon as keys are there. */
function replayClient(cipher: string, mac: string): { client: Pair['client']; pair: Pair } {
  const algorithms = { ...small, ciphers: [cipher], macs: [mac] }
  const pair = new Pair({ clientAlgorithms: algorithms, serverAlgorithms: algorithms })
  pair.onEvent = (side, event) => {
    if (side === 'client' && event.type === 'keys' && event.first) pair.client.core.startAuth('user').none()
  }
  return { client: pair.client, pair }
}

describe('a flood of random bytes', () => {
  it('never crashes either role, and ends in a typed error', () => {
    const random = seededRandom(99)
    for (let round = 0; round < 300; round++) {
      const pair = new Pair({ seed: round + 1 })
      for (const side of [pair.client, pair.server]) {
        const noise = new Uint8Array(300)
        random(noise)
        if (round % 2 === 0) pair.feed(side, new TextEncoder().encode('SSH-2.0-noise\r\n'))
        pair.feed(side, noise)
        side.core.ended()
        pair.drain(side)
        expect(side.core.transport.failure).toHaveProperty('code')
        expect(side.core.transport.failure?.code).not.toBe('ERR_SSH_INTERNAL')
      }
    }
    expect(nodeCrypto.name).toBe('node')
  })
})
