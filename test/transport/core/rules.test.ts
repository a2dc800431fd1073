import { nodeCrypto } from '@sshblock/transport/node'
import { describe, expect, it } from 'vitest'
import { readExtensions } from '../../../packages/transport/src/core/extension-info.ts'
import type { KexInit } from '../../../packages/transport/src/kex/negotiate.ts'
import { negotiate } from '../../../packages/transport/src/kex/negotiate.ts'
import * as limits from '../../../packages/transport/src/limits.ts'
import { kexInit } from '../../../packages/transport/src/messages/kex.ts'
import { extInfo } from '../../../packages/transport/src/messages/transport.ts'
import {
  IdentificationReader,
  identificationLine,
} from '../../../packages/transport/src/packet/identification.ts'
import { Outbound } from '../../../packages/transport/src/packet/outbound.ts'
import { plaintextSuite } from '../../../packages/transport/src/packet/plaintext.ts'
import { ReceiveBuffer } from '../../../packages/transport/src/packet/receive-buffer.ts'
import { utf8Bytes } from '../../../packages/transport/src/wire/bytes.ts'
import { Pair, seededRandom } from './pair.ts'

describe('identification (RFC 4253 s4.2)', () => {
  const read = (role: 'client' | 'server', text: string): string | undefined => {
    const buffer = new ReceiveBuffer()
    const bytes = utf8Bytes(text)
    buffer.reserve(bytes.length).set(bytes)
    buffer.commit(bytes.length)
    return new IdentificationReader(role).read(buffer)
  }
  const line = (length: number): string => `SSH-2.0-${'x'.repeat(length - 10)}\r\n`

  it('accepts a line of 255 bytes and refuses one of 256', () => {
    expect(read('client', line(255))).toHaveLength(253)
    expect(() => read('client', line(256))).toThrow(/longer than 255/)
    expect(() => read('client', `SSH-2.0-${'x'.repeat(300)}`)).toThrow(/longer than 255/)
  })
  it('accepts LF alone, and version 1.99', () => {
    expect(read('client', 'SSH-2.0-a\n')).toBe('SSH-2.0-a')
    expect(read('server', 'SSH-1.99-b c\r\n')).toBe('SSH-1.99-b c')
  })
  it.each(['SSH-1.5-old\r\n', 'SSH-2.0-a\0b\r\n', 'SSH-2.0-a\rb\r\n', 'SSH-3.0-new\r\n'])(
    'refuses %j',
    (text) => {
      expect(() => read('client', text)).toThrow(expect.objectContaining({ code: 'ERR_SSH_NOT_SSH' }))
    },
  )
  it('lets a server speak up to 1024 lines before, and a client none', () => {
    expect(read('client', `${'hi\r\n'.repeat(1024)}SSH-2.0-a\r\n`)).toBe('SSH-2.0-a')
    expect(() => read('client', `${'hi\r\n'.repeat(1025)}SSH-2.0-a\r\n`)).toThrow(/1024 lines/)
    expect(() => read('server', 'hi\r\nSSH-2.0-a\r\n')).toThrow(/nothing before/)
    expect(() => read('server', 'GET / HTTP/1.1\r\n')).toThrow(/does not speak SSH/)
  })
  it('bounds the bytes before the identification, also without any line end', () => {
    const filler = 'y'.repeat(60_000)
    expect(read('client', `${filler}\nSSH-2.0-a\n`)).toBe('SSH-2.0-a')
    expect(() => read('client', `${filler}\n${'z'.repeat(6000)}`)).toThrow(/longer than/)
    expect(() => read('client', 'q'.repeat(limits.maxPreIdentificationBytes))).toThrow(/longer than/)
  })
  it('shows what came instead, with control characters made visible', () => {
    expect(() => read('client', `\u001b[31m220 mail\r\n${'x'.repeat(70_000)}`)).toThrow(/u\{1b\}|xxx/)
  })
  it('refuses to send a line that breaks the rule', () => {
    expect(() => identificationLine('SSH-2.0-a\nb')).toThrow(RangeError)
    expect(() => identificationLine('OpenSSH')).toThrow(RangeError)
  })
})

function init(changes: Partial<KexInit> = {}): KexInit {
  return {
    cookie: new Uint8Array(16),
    kexAlgorithms: ['curve25519-sha256'],
    hostKeyAlgorithms: ['ssh-ed25519'],
    ciphersClientToServer: ['aes128-ctr'],
    ciphersServerToClient: ['aes128-ctr'],
    macsClientToServer: ['hmac-sha2-256'],
    macsServerToClient: ['hmac-sha2-256'],
    compressionClientToServer: ['none'],
    compressionServerToClient: ['none'],
    languagesClientToServer: [],
    languagesServerToClient: [],
    firstKexPacketFollows: false,
    reserved: 0,
    ...changes,
  }
}

describe('negotiation (RFC 4253 s7.1)', () => {
  it('takes the first name of the client that the server has, for each direction on its own', () => {
    const client = init({
      ciphersClientToServer: ['a', 'aes128-ctr', 'aes256-ctr'],
      ciphersServerToClient: ['aes256-ctr', 'aes128-ctr'],
    })
    const server = init({
      ciphersClientToServer: ['aes256-ctr', 'aes128-ctr'],
      ciphersServerToClient: ['aes128-ctr', 'aes256-ctr'],
    })
    for (const result of [negotiate('client', client, server), negotiate('server', server, client)]) {
      expect(result.clientToServer.cipher).toBe('aes128-ctr')
      expect(result.serverToClient.cipher).toBe('aes256-ctr')
    }
  })
  it('ignores the MAC lists where the cipher brings its tag, even when nothing is common', () => {
    const gcm = {
      ciphersClientToServer: ['aes256-gcm@openssh.com'],
      ciphersServerToClient: ['aes256-gcm@openssh.com'],
    }
    const result = negotiate(
      'client',
      init({ ...gcm, macsClientToServer: ['x'] }),
      init({ ...gcm, macsClientToServer: ['y'] }),
    )
    expect(result.clientToServer.mac).toBeUndefined()
  })
  it.each([
    'kexAlgorithms',
    'hostKeyAlgorithms',
    'ciphersClientToServer',
    'ciphersServerToClient',
    'macsClientToServer',
    'compressionServerToClient',
  ] as const)('names both lists when %s have nothing in common', (category) => {
    expect(() => negotiate('client', init(), init({ [category]: ['theirs-1', 'theirs-2'] }))).toThrow(
      /we offer \[.+\], the peer offers \[theirs-1, theirs-2\]/,
    )
  })
  it('drops a wrong guess of the peer and keeps a right one (RFC 4253 s7)', () => {
    const ours = init({ kexAlgorithms: ['curve25519-sha256', 'ecdh-sha2-nistp256'] })
    const right = init({ kexAlgorithms: ['curve25519-sha256'], firstKexPacketFollows: true })
    expect(negotiate('server', ours, right).dropGuess).toBe(false)
    expect(
      negotiate('server', ours, init({ kexAlgorithms: ['ecdh-sha2-nistp256'], firstKexPacketFollows: true }))
        .dropGuess,
    ).toBe(true)
    expect(negotiate('server', ours, { ...right, hostKeyAlgorithms: ['x', 'ssh-ed25519'] }).dropGuess).toBe(
      true,
    )
    expect(negotiate('server', ours, init({ kexAlgorithms: ['ecdh-sha2-nistp256'] })).dropGuess).toBe(false)
  })
  it('never takes a marker for an algorithm', () => {
    const marked = init({ kexAlgorithms: ['kex-strict-c-v00@openssh.com', 'ext-info-c'] })
    expect(() => negotiate('client', marked, marked)).toThrow(/no common kex/)
  })
})

describe('KEXINIT limits', () => {
  const names = (count: number, length = 4): string[] =>
    Array.from({ length: count }, (_, i) => String(i).padStart(length, 'n'))
  it('takes 64 names and refuses 65, takes 64 bytes and refuses 65, takes empty lists and a trailing comma', () => {
    const decode = (list: string[]): unknown =>
      kexInit.decode(kexInit.bytes(init({ languagesClientToServer: list })))
    expect(decode(names(64))).toBeDefined()
    expect(() => decode(names(65))).toThrow(/65 names/)
    expect(decode(['n'.repeat(64)])).toBeDefined()
    expect(() => decode(['n'.repeat(65)])).toThrow(/65 bytes/)
    expect(decode([])).toMatchObject({ languagesClientToServer: [] })
    expect(decode(['a', ''])).toMatchObject({ languagesClientToServer: ['a'] })
    expect(() => decode(['a\u0001'])).toThrow(/US-ASCII/)
    expect(() => decode(['a\0'])).toThrow(/US-ASCII/)
    expect(() => decode(names(10_000))).toThrow()
  })
  it('refuses a byte after the last field, and every truncation', () => {
    const bytes = kexInit.bytes(init())
    expect(() => kexInit.decode(Uint8Array.of(...bytes, 0))).toThrow(/after the last field/)
    for (let at = 1; at < bytes.length; at++)
      expect(() => kexInit.decode(bytes.subarray(0, at))).toThrow(/KEXINIT/)
  })
})

describe('EXT_INFO (RFC 8308)', () => {
  it('bounds its count by the bytes that are there, before any loop', () => {
    expect(() =>
      readExtensions(extInfo.bytes({ count: 2 ** 32 - 1, extensions: new Uint8Array(16) })),
    ).toThrow(/4294967295 extensions in 16 bytes/)
    expect(() => readExtensions(extInfo.bytes({ count: 1, extensions: new Uint8Array(9) }))).toThrow(
      /after the last field/,
    )
  })
  it('keeps names that are dangerous as object keys', () => {
    const name = utf8Bytes('__proto__')
    const extensions = Uint8Array.of(0, 0, 0, name.length, ...name, 0, 0, 0, 1, 65)
    expect(readExtensions(extInfo.bytes({ count: 1, extensions })).get('__proto__')).toEqual(
      Uint8Array.of(65),
    )
  })
})

describe('rekeying (RFC 4253 s9)', () => {
  it('keeps the session id over exchanges with other hashes, and counts sequence numbers from 0 after each', async () => {
    const pair = await new Pair().open()
    const id = pair.client.core.transport.proof!.sessionId
    for (let i = 0; i < 3; i++) {
      const side = i % 2 === 0 ? pair.client : pair.server
      side.core.transport.rekey()
      await pair.settle()
      expect(pair.client.core.transport.proof!.sessionId).toEqual(id)
    }
    expect(pair.client.names.filter((name) => name === 'keys')).toHaveLength(4)
    expect(pair.failure('client')).toBeUndefined()
  })
  it('survives both sides starting at once', async () => {
    const pair = await new Pair().open()
    pair.client.core.transport.rekey()
    pair.server.core.transport.rekey()
    await pair.settle()
    expect(pair.client.names.filter((name) => name === 'keys')).toHaveLength(2)
    expect(pair.failure('client') ?? pair.failure('server')).toBeUndefined()
  })
  it('starts by itself after the bytes, the packets or the time agreed', async () => {
    const exchanges = (pair: Pair): number => pair.client.names.filter((name) => name === 'keys').length
    for (const rekey of [{ bytes: 20_000 }, { packets: 20 }]) {
      const pair = await new Pair({ client: { rekey } }).open()
      for (let i = 0; i < 10; i++) pair.client.core.mux.globalRequest('x', new Uint8Array(1000))
      await pair.settle()
      expect(exchanges(pair)).toBe(1)
      for (let i = 0; i < 15; i++) pair.client.core.mux.globalRequest('x', new Uint8Array(1000))
      await pair.settle()
      expect(exchanges(pair)).toBe(2)
    }
    const pair = await new Pair({ client: { rekey: { ms: 1000 } } }).open()
    pair.now += 999
    pair.client.core.tick(pair.now)
    await pair.settle()
    expect(exchanges(pair)).toBe(1)
    pair.now += 1
    pair.client.core.tick(pair.now)
    await pair.settle()
    expect(exchanges(pair)).toBe(2)
  })
  it('rekeys under a stream in both directions without a lost or doubled byte', async () => {
    const mux = { window: { initialBytes: 32_768, maxBytes: 32_768 } }
    const pair = new Pair({
      client: { mux, rekey: { bytes: 65_536 } },
      server: { mux, rekey: { bytes: 50_000 } },
    })
    const sums = { client: 0, server: 0 }
    const expected = { client: 0, server: 0 }
    pair.onEvent = (side, event) => {
      if (event.type === 'channel-open') send('client', event.incoming.accept())
      if (event.type === 'channel-data') {
        for (const byte of event.data) sums[side] = (sums[side] * 31 + byte) >>> 0
        event.channel.consumed(event.data.length)
      }
    }
    const send = (to: 'client' | 'server', channel: { write(bytes: Uint8Array): void }): void => {
      const bytes = new Uint8Array(1_000_000)
      seededRandom(to === 'client' ? 5 : 6)(bytes)
      for (const byte of bytes) expected[to] = (expected[to] * 31 + byte) >>> 0
      for (let at = 0; at < bytes.length; at += 777) channel.write(bytes.subarray(at, at + 777))
    }
    await pair.open()
    pair.client.core.mux.open('session', new Uint8Array(0), (channel) => {
      if (!(channel instanceof Error)) send('server', channel)
    })
    await pair.settle()
    expect(pair.failure('client') ?? pair.failure('server')).toBeUndefined()
    expect(sums).toEqual(expected)
    expect(pair.client.names.filter((name) => name === 'keys').length).toBeGreaterThan(10)
  })
  it('ends when the peer is silent after KEXINIT', async () => {
    const pair = await new Pair().open()
    pair.client.core.transport.rekey()
    pair.take(pair.client)
    expect(pair.client.core.deadline).toBe(pair.now + 30_000)
    pair.now += 30_000
    pair.client.core.tick(pair.now)
    expect(pair.failure('client')).toMatchObject({ code: 'ERR_SSH_TIMEOUT', phase: 'rekeying' })
  })
  it('ends when the peer rekeys over and over with nothing between', async () => {
    const pair = await new Pair().open()
    for (let i = 0; i < 32; i++) {
      pair.client.core.transport.rekey()
      await pair.settle()
    }
    expect(pair.failure('server')).toBeUndefined()
    pair.client.core.transport.rekey()
    await pair.settle()
    expect(pair.failure('server')?.message).toMatch(/key exchanges in a row/)
  })
  it('ends before a sequence number could be used twice under one key', async () => {
    const pair = await new Pair().open()
    pair.client.core.transport.setSequencesForTest(0, 2 ** 32 - 1)
    expect(() => {
      pair.client.core.transport.begin().raw(Uint8Array.of(2, 0, 0, 0, 0))
      pair.client.core.transport.end()
    }).toThrow(/under one key/)
  })
})

describe('strict key exchange against CVE-2023-48795', () => {
  it('is used with a peer that has it', async () => {
    const pair = await new Pair().open()
    expect(pair.client.core.transport.algorithms?.strict).toBe(true)
  })
  it.each([
    ['chacha20-poly1305@openssh.com', 'hmac-sha2-256', true],
    ['aes128-ctr', 'hmac-sha2-256-etm@openssh.com', true],
    ['aes128-ctr', 'hmac-sha2-256', false],
    ['aes256-gcm@openssh.com', 'hmac-sha2-256', false],
  ])('without it %s with %s is refused: %s', (cipher, mac, refused) => {
    for (const allowTerrapin of [false, true]) {
      const pair = new Pair({ client: { allowTerrapin } })
      const theirs = init({
        kexAlgorithms: ['curve25519-sha256'],
        ciphersClientToServer: [cipher],
        ciphersServerToClient: [cipher],
        macsClientToServer: [mac],
        macsServerToClient: [mac],
      })
      pair.feed(pair.client, utf8Bytes('SSH-2.0-old\r\n'))
      const outbound = new Outbound(
        plaintextSuite.sealer({ iv: new Uint8Array(0), key: new Uint8Array(0), macKey: new Uint8Array(0) }),
        seededRandom(1),
        () => {},
      )
      outbound.begin().raw(kexInit.bytes(theirs))
      outbound.end()
      pair.feed(pair.client, outbound.take()!)
      expect(pair.failure('client')?.message.includes('CVE-2023-48795') ?? false).toBe(
        refused && !allowTerrapin,
      )
    }
  })
})

describe('failing primitives', () => {
  it.each(['digest', 'hmac', 'aesGcm', 'x25519', 'x25519KeyPair', 'verify', 'timingSafeEqual'] as const)(
    'a throw in %s ends the connection and nothing is let through',
    async (name) => {
      const algorithms = {
        kex: ['curve25519-sha256'],
        ciphers: name === 'hmac' || name === 'timingSafeEqual' ? ['aes128-ctr'] : ['aes128-gcm@openssh.com'],
        macs: ['hmac-sha2-256'],
      }
      const broken = new Proxy(nodeCrypto, {
        get(target, key, receiver) {
          const value: unknown = Reflect.get(target, key, receiver)
          if (key !== name) return value
          return () => {
            throw new Error('broken primitive')
          }
        },
      })
      const pair = new Pair({
        clientCrypto: broken,
        clientAlgorithms: algorithms,
        serverAlgorithms: algorithms,
      })
      await pair.settle()
      pair.client.core.startAuth('user').none()
      await pair.settle()
      expect(pair.failure('client')?.code).toBe('ERR_SSH_INTERNAL')
      expect(pair.client.names).not.toContain('auth-reply')
    },
  )
})

describe('the first error', () => {
  it('is kept, settles everything, and lets nothing follow', async () => {
    const pair = await new Pair().open()
    const settled: unknown[] = []
    pair.client.core.mux.globalRequest('never', new Uint8Array(0), (answer) => settled.push(answer))
    pair.client.core.ended(new Error('first'))
    pair.client.core.ended(new Error('second'))
    pair.drain(pair.client)
    expect(pair.failure('client')?.message).toMatch(/first/)
    expect(settled).toHaveLength(1)
    expect(pair.client.names.at(-1)).toBe('failed')
    pair.client.core.mux.globalRequest('late', new Uint8Array(0), (answer) => settled.push(answer))
    expect(settled[1]).toMatchObject({ code: 'ERR_SSH_CONNECTION_LOST' })
  })
})
