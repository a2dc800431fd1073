import { afterEach, describe, expect, test, vi } from 'vitest'
import { AgentClient } from '../../../packages/transport/src/agent/client.ts'
import * as messages from '../../../packages/transport/src/agent/messages.ts'
import { nodeCrypto } from '../../../packages/transport/src/crypto/node.ts'
import { systemRandom } from '../../../packages/transport/src/crypto/random.ts'
import {
  AbortedError,
  AgentError,
  ClosedError,
  SshError,
  TimeoutError,
  UsageError,
} from '../../../packages/transport/src/errors.ts'
import { generateKeyPair } from '../../../packages/transport/src/keys/generate.ts'
import { generateRsaKeyPair } from '../../../packages/transport/src/keys/node-generate.ts'
import { signWith } from '../../../packages/transport/src/keys/signature.ts'
import { concat, utf8Bytes, writeU32 } from '../../../packages/transport/src/wire/bytes.ts'
import { Writer } from '../../../packages/transport/src/wire/writer.ts'
import { flipped } from '../crypto/providers.ts'
import { softwareToken } from '../keys/sk-key.ts'
import { ScriptedChannel } from './scripted-channel.ts'

const crypto = nodeCrypto
const key = generateKeyPair(crypto, 'ed25519', systemRandom, 'mine')
const blob = key.publicKey.blob
const data = utf8Bytes('data')
const goodSignature = (await signWith(crypto, key, 'ssh-ed25519', data)) as Uint8Array
const identities = (count: number) =>
  messages.identitiesAnswer.bytes({
    identities: Array.from({ length: count }, () => ({ keyBlob: blob, comment: 'c' })),
  })
const signed = (signature: Uint8Array) => messages.signResponse.bytes({ signature })

function connect(
  answer?: (request: Uint8Array, channel: ScriptedChannel) => Uint8Array | undefined,
  options = {},
) {
  const channel = new ScriptedChannel(answer)
  return { channel, client: new AgentClient(channel, { crypto, ...options }) }
}

/** The frame of a message in pieces. */
const header = (length: number) => {
  const bytes = new Uint8Array(4)
  writeU32(bytes, 0, length)
  return bytes
}

afterEach(() => void vi.useRealTimers())

describe('framing', () => {
  test.each([
    ['2^32 - 1', 0xffff_ffff],
    ['262 145', 262_145],
    ['0', 0],
  ])('a length of %s ends the connection before anything is waited for', async (_, length) => {
    const { channel, client } = connect()
    const listed = client.list()
    channel.sendRaw(header(length))
    await expect(listed).rejects.toMatchObject({ name: 'AgentError', code: 'ERR_SSH_AGENT_PROTOCOL' })
    expect(channel.closed).toBe(true)
    await expect(client.list()).rejects.toThrow(AgentError)
  })

  test('a length of 262 144 is accepted, in any pieces', async () => {
    const reply = new Uint8Array(262_144)
    const comment = 'x'.repeat(
      reply.length - messages.identitiesAnswer.bytes({ identities: [{ keyBlob: blob, comment: '' }] }).length,
    )
    reply.set(messages.identitiesAnswer.bytes({ identities: [{ keyBlob: blob, comment }] }))
    for (const size of [1000, 65_536, 1 << 20]) {
      const { channel, client } = connect()
      const listed = client.list()
      const frame = concat(header(reply.length), reply)
      for (let at = 0; at < frame.length; at += size) channel.sendRaw(frame.subarray(at, at + size))
      expect((await listed)[0]!.comment).toHaveLength(comment.length)
      client.close()
    }
  })

  test('a request that is too long for an agent is refused before it is sent', async () => {
    const { channel, client } = connect()
    await expect(client.sign(blob, new Uint8Array(262_144), 0)).rejects.toMatchObject({
      code: 'ERR_SSH_AGENT_PROTOCOL',
    })
    expect(channel.requests).toHaveLength(0)
  })

  test('answers may come byte by byte', async () => {
    const { channel, client } = connect()
    const listed = client.list()
    const reply = identities(3)
    for (const byte of concat(header(reply.length), reply)) channel.sendRaw(Uint8Array.of(byte))
    expect(await listed).toHaveLength(3)
  })
})

describe('identities', () => {
  test('2048 are listed, 2049 are refused', async () => {
    const small = (count: number) => {
      const writer = new Writer().u8(12).u32(count)
      for (let i = 0; i < count; i++) writer.text('').text('')
      return writer.copy()
    }
    expect(await connect(() => small(2048)).client.list()).toHaveLength(2048)
    await expect(connect(() => small(2049)).client.list()).rejects.toMatchObject({
      code: 'ERR_SSH_AGENT_PROTOCOL',
    })
  })

  test('a count beyond the bytes there is refused at once', async () => {
    const { client } = connect(() => new Writer().u8(12).u32(0xffff_ffff).copy())
    await expect(client.list()).rejects.toThrow(AgentError)
    await expect(connect(() => new Writer().u8(12).u32(2000).copy()).client.list()).rejects.toThrow(
      AgentError,
    )
  })

  test('every truncation of the answer is an AgentError that ends the connection', async () => {
    const reply = identities(2)
    for (let length = 1; length < reply.length; length++) {
      const { channel, client } = connect(() => reply.subarray(0, length))
      await expect(client.list()).rejects.toThrow(AgentError)
      expect(channel.closed).toBe(true)
    }
  })

  test('types are shown also where we do not know them', async () => {
    const unknown = new Writer().text('ssh-new').copy()
    const { client } = connect(() =>
      messages.identitiesAnswer.bytes({
        identities: [
          { keyBlob: unknown, comment: 'a' },
          { keyBlob: new Uint8Array(2), comment: 'b' },
        ],
      }),
    )
    expect(await client.list()).toEqual([
      { keyBlob: unknown, keyType: 'ssh-new', comment: 'a' },
      { keyBlob: new Uint8Array(2), keyType: '', comment: 'b' },
    ])
  })

  test('an agent that answers something else breaks the protocol', async () => {
    for (const reply of [
      messages.success.bytes({}),
      signed(goodSignature),
      Uint8Array.of(255),
      Uint8Array.of(11),
    ]) {
      await expect(connect(() => reply).client.list()).rejects.toMatchObject({
        code: 'ERR_SSH_AGENT_PROTOCOL',
      })
    }
  })
})

describe('signatures', () => {
  test('a good one is returned, with the request as the protocol has it', async () => {
    const { channel, client } = connect(() => signed(goodSignature))
    expect(await client.sign(blob, data, 0)).toEqual(goodSignature)
    expect(messages.signRequest.decode(channel.requests[0]!)).toEqual({ keyBlob: blob, data, flags: 0 })
  })

  test('one that does not verify, is of another key or over other data, is never returned', async () => {
    const stranger = generateKeyPair(crypto, 'ed25519', systemRandom)
    const bad = [
      flipped(goodSignature, goodSignature.length - 1),
      await signWith(crypto, stranger, 'ssh-ed25519', data),
      await signWith(crypto, key, 'ssh-ed25519', utf8Bytes('other')),
      new Uint8Array(0),
    ]
    for (const signature of bad) {
      await expect(connect(() => signed(signature)).client.sign(blob, data, 0)).rejects.toMatchObject({
        code: 'ERR_SSH_AGENT_BAD_SIGNATURE',
      })
    }
  })

  test('RSA: the hash asked for, not another, and never SHA-1', async () => {
    const rsa = await generateRsaKeyPair(2048)
    if (rsa.kind !== 'software') throw new Error('unreachable')
    const rsaBlob = rsa.publicKey.blob
    const made = {
      'rsa-sha2-256': await signWith(crypto, rsa, 'rsa-sha2-256', data),
      'rsa-sha2-512': await signWith(crypto, rsa, 'rsa-sha2-512', data),
      'ssh-rsa': new Writer()
        .text('ssh-rsa')
        .string(await crypto.sign(rsa.signingKey, 'sha1', data))
        .copy(),
    }
    for (const [flags, expected] of [
      [2, 'rsa-sha2-256'],
      [4, 'rsa-sha2-512'],
    ] as const) {
      for (const [name, signature] of Object.entries(made)) {
        const asked = connect(() => signed(signature)).client.sign(rsaBlob, data, flags)
        if (name === expected) expect(await asked).toEqual(signature)
        else await expect(asked).rejects.toMatchObject({ code: 'ERR_SSH_AGENT_BAD_SIGNATURE' })
      }
    }
    for (const flags of [0, 1, 6, 8]) {
      const { channel, client } = connect(() => signed(made['ssh-rsa']))
      await expect(client.sign(rsaBlob, data, flags)).rejects.toThrow(UsageError)
      expect(channel.requests).toHaveLength(0)
    }
    await expect(connect().client.sign(blob, data, 2)).rejects.toThrow(UsageError)
  })

  test('security keys may have been used without touch: that is for the server to judge', async () => {
    const token = softwareToken('sk-ssh-ed25519@openssh.com')
    const signature = token.sign(data, { flags: 0 })
    expect(await connect(() => signed(signature)).client.sign(token.publicKey.blob, data, 0)).toEqual(
      signature,
    )
  })

  test('a refusal is an AgentError, and the connection goes on', async () => {
    const { client } = connect((request) => (request[0] === 13 ? messages.failure.bytes({}) : identities(1)))
    await expect(client.sign(blob, data, 0)).rejects.toMatchObject({ code: 'ERR_SSH_AGENT_REFUSED' })
    expect(await client.list()).toHaveLength(1)
  })

  test('a key type that the runtime cannot verify is not asked for', async () => {
    const { channel, client } = connect(() => signed(goodSignature), {
      crypto: { ...crypto, supportsKey: () => false },
    })
    await expect(client.sign(blob, data, 0)).rejects.toMatchObject({ code: 'ERR_SSH_AGENT_UNVERIFIABLE' })
    expect(channel.requests).toHaveLength(0)
  })
})

describe('one request at a time', () => {
  test('the next leaves when the answer to the one before is there, in order', async () => {
    const { channel, client } = connect()
    const listed = client.list()
    const signature = client.sign(blob, data, 0)
    const again = client.list()
    expect(channel.requests.map(([type]) => type)).toEqual([11])
    channel.send(identities(1))
    expect(channel.requests.map(([type]) => type)).toEqual([11, 13])
    channel.send(signed(goodSignature))
    channel.send(identities(2))
    expect(await listed).toHaveLength(1)
    expect(await signature).toEqual(goodSignature)
    expect(await again).toHaveLength(2)
  })

  test('bytes that nobody asked for end the connection', async () => {
    for (const unasked of [identities(1), header(5)]) {
      const { channel, client } = connect()
      channel.sendRaw(unasked.length === 4 ? unasked : concat(header(unasked.length), unasked))
      expect(channel.closed).toBe(true)
      await expect(client.list()).rejects.toMatchObject({ code: 'ERR_SSH_AGENT_PROTOCOL' })
    }
  })

  test('an agent that answers twice is found out, whoever waits', async () => {
    const { channel, client } = connect()
    const first = client.list()
    const second = client.sign(blob, data, 0)
    const reply = identities(1)
    const frame = concat(header(reply.length), reply)
    channel.sendRaw(concat(frame, frame))
    await expect(first).rejects.toMatchObject({ code: 'ERR_SSH_AGENT_PROTOCOL' })
    await expect(second).rejects.toThrow(AgentError)
    expect(channel.closed).toBe(true)
    expect(channel.requests).toHaveLength(1)
  })

  test('an agent that closes, before the answer or in its middle, rejects whatever waits', async () => {
    for (const bytes of [new Uint8Array(0), header(40), concat(header(40), new Uint8Array(10))]) {
      for (const how of ['end', 'break'] as const) {
        const { channel, client } = connect()
        const waiting = [client.list(), client.sign(blob, data, 0)]
        if (bytes.length > 0) channel.sendRaw(bytes)
        channel[how]()
        for (const each of waiting) await expect(each).rejects.toMatchObject({ code: 'ERR_SSH_AGENT_CLOSED' })
        await expect(client.list()).rejects.toMatchObject({ code: 'ERR_SSH_AGENT_CLOSED' })
      }
    }
  })

  test('an agent that does not answer ends in a TimeoutError, for signatures after a longer time', async () => {
    vi.useFakeTimers()
    for (const [ask, after] of [
      [(client: AgentClient) => client.list(), 30_000],
      [(client: AgentClient) => client.sign(blob, data, 0), 120_000],
    ] as const) {
      const { channel, client } = connect()
      const failed = ask(client).catch((error: unknown) => error)
      await vi.advanceTimersByTimeAsync(after - 1)
      expect(channel.closed).toBe(false)
      await vi.advanceTimersByTimeAsync(1)
      expect(await failed).toBeInstanceOf(TimeoutError)
      expect(channel.closed).toBe(true)
      // The answer that comes too late changes nothing.
      channel.send(identities(1))
      await expect(client.list()).rejects.toThrow(TimeoutError)
    }
    expect(vi.getTimerCount()).toBe(0)
  })

  test('closing rejects what waits with ClosedError and leaves no timer', async () => {
    vi.useFakeTimers()
    const { channel, client } = connect()
    const waiting = [client.list(), client.sign(blob, data, 0)].map((each) =>
      each.catch((error: unknown) => error),
    )
    client.close()
    client.close()
    for (const each of waiting) expect(await each).toBeInstanceOf(ClosedError)
    await expect(client.list()).rejects.toThrow(ClosedError)
    expect(channel.closed).toBe(true)
    expect(vi.getTimerCount()).toBe(0)
  })

  test('a cancelled request gives up at once; its answer is dropped and does not go to the next', async () => {
    const { channel, client } = connect()
    const cancelled = new AbortController()
    const unsent = new AbortController()
    const first = client.sign(blob, data, 0, { signal: cancelled.signal })
    const second = client.sign(blob, data, 0, { signal: unsent.signal })
    const third = client.list()
    cancelled.abort(new Error('enough'))
    unsent.abort()
    await expect(first).rejects.toMatchObject({ code: 'ABORT_ERR', cause: new Error('enough') })
    await expect(second).rejects.toThrow(AbortedError)
    expect(channel.requests).toHaveLength(1)
    channel.send(signed(goodSignature))
    channel.send(identities(2))
    expect(await third).toHaveLength(2)
    expect(channel.requests.map(([type]) => type)).toEqual([13, 11])
    await expect(client.sign(blob, data, 0, { signal: AbortSignal.abort() })).rejects.toThrow(AbortedError)
    expect(channel.requests).toHaveLength(2)
  })
})

describe('adding keys', () => {
  test('constraints that are out of range are a UsageError, and nothing is sent', async () => {
    for (const lifetimeSeconds of [0, -1, 1.5, 2 ** 32, Number.NaN]) {
      const { channel, client } = connect()
      await expect(client.add(key, { lifetimeSeconds })).rejects.toThrow(UsageError)
      expect(channel.requests).toHaveLength(0)
    }
  })

  test('without constraints message 17, with them message 25', async () => {
    const { channel, client } = connect(() => messages.success.bytes({}))
    await client.add(key)
    await client.add(key, { lifetimeSeconds: 1 })
    await client.add(key, { confirm: true })
    await client.add(key, { confirm: false, destinations: [] })
    expect(channel.requests.map(([type]) => type)).toEqual([17, 25, 25, 17])
  })
})

test('extensions: both ways to say no are a no, and query reads the list', async () => {
  const binding = { hostKey: blob, sessionId: data, signature: goodSignature, forwarding: false }
  expect(await connect(() => messages.success.bytes({})).client.bindSession(binding)).toBe(true)
  expect(await connect(() => messages.failure.bytes({})).client.bindSession(binding)).toBe(false)
  expect(await connect(() => Uint8Array.of(28)).client.bindSession(binding)).toBe(false)
  await expect(connect(() => identities(1)).client.bindSession(binding)).rejects.toThrow(AgentError)
  const list = new Writer().text('query').text('session-bind@openssh.com').bytes()
  const answer = messages.extensionResponse.bytes({ name: 'query', contents: list })
  expect(await connect(() => answer).client.queryExtensions()).toEqual(['query', 'session-bind@openssh.com'])
  expect(await connect(() => messages.failure.bytes({})).client.queryExtensions()).toBeUndefined()
  for (let length = 2; length < answer.length; length++) {
    const cut = connect(() => answer.subarray(0, length)).client.queryExtensions()
    // Between two names it is a shorter list; everywhere else an error.
    await cut.then(
      (names) => expect(names!.length).toBeLessThan(2),
      (error: unknown) => expect(error).toBeInstanceOf(SshError),
    )
  }
})
