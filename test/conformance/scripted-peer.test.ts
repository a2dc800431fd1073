import {
  type Arrival,
  describeArrival,
  NotApplicable,
  type Phase,
  phases,
  ScriptedPeer,
  type ScriptedPeerOptions,
  Unexpected,
} from '@sshblock/transport/conformance'
import {
  generateKeyPair,
  memoryDuplexPair,
  nodeCrypto,
  signerFromPrivateKey,
  systemRandom,
  webCrypto,
} from '@sshblock/transport/node'
import { describe, expect, test } from 'vitest'
import {
  channelData,
  channelWindowAdjust,
  globalRequest,
} from '../../packages/transport/src/messages/connection.ts'
import * as number from '../../packages/transport/src/messages/numbers.ts'
import {
  debug,
  ignore,
  serviceRequest,
  unimplemented,
} from '../../packages/transport/src/messages/transport.ts'

const signer = () => signerFromPrivateKey(nodeCrypto, generateKeyPair(nodeCrypto, 'ed25519', systemRandom))
const patienceMs = 5000

/** Two scripted peers joined in memory. */
function pair(
  options: { client?: Partial<ScriptedPeerOptions>; server?: Partial<ScriptedPeerOptions> } = {},
): {
  client: ScriptedPeer
  server: ScriptedPeer
} {
  const [a, b] = memoryDuplexPair()
  const login = { user: 'user', signer: signer() }
  return {
    client: new ScriptedPeer(a, { role: 'client', crypto: nodeCrypto, login, patienceMs, ...options.client }),
    server: new ScriptedPeer(b, {
      role: 'server',
      crypto: nodeCrypto,
      hostKeys: [signer()],
      patienceMs,
      ...options.server,
    }),
  }
}

/** Both ends at the same phase. */
async function at(phase: Phase, options: Parameters<typeof pair>[0] = {}): Promise<ReturnType<typeof pair>> {
  const both = pair(options)
  await Promise.all([both.client.upTo(phase), both.server.upTo(phase)])
  return both
}

describe('the honest part', () => {
  // Somebody has to speak first.
  test.each(phases.filter((phase) => phase !== 'introduced'))('of both roles reaches %s', async (phase) => {
    const { client, server } = await at(phase)
    expect([client.phase, server.phase]).toEqual([phase, phase])
  })

  test('goes on from wherever the script left it', async () => {
    const { client, server } = await at('kexinit')
    await Promise.all([client.withKeys(), server.withKeys()])
    await Promise.all([client.upTo('running'), server.upTo('running')])
    expect(client.sessionId).toEqual(server.sessionId)
    expect(client.outcome?.hostKey).toEqual(server.options.hostKeys?.[0]?.publicKeyBlob)
    await expect(client.upTo('keys')).rejects.toThrow(/beyond/)
  })

  test('works on WebCrypto, where packets are sealed and opened asynchronously', async () => {
    const crypto = webCrypto()
    const algorithms = { ciphers: ['aes256-gcm@openssh.com'] }
    const { client, server } = await at('running', { client: { crypto, algorithms }, server: { crypto } })
    for (let i = 0; i < 20; i++) client.send(ignore, { data: new Uint8Array(i) })
    client.send(globalRequest, { request: 'x', wantReply: true, payload: new Uint8Array(0) })
    await server.expect(number.GLOBAL_REQUEST)
    expect(server.seen.filter(({ number: type }) => type === number.IGNORE)).toHaveLength(20)
  })

  test('exchanges keys again, started by either side, with a wrong guess or without', async () => {
    const { client, server } = await at('authenticated')
    await Promise.all([client.exchangeKeys(), server.exchangeKeys({ theySpokeFirst: true })])
    const change = (honest: NonNullable<ScriptedPeer['theirFirstInit']>) => ({
      ...honest,
      kexAlgorithms: ['guess@x', ...honest.kexAlgorithms],
      firstKexPacketFollows: true,
    })
    const exchange = client.startExchange()
    exchange.sendInit(change)
    await exchange.sendGuess('ecdh-sha2-nistp256')
    await Promise.all([
      exchange.receiveInit().then(() => client.finishExchange(exchange)),
      server.exchangeKeys({ theySpokeFirst: true }),
    ])
    client.send(serviceRequest, { service: 'x' })
    await server.expect(serviceRequest)
  })

  test('sends what a script makes of an honest message', async () => {
    const { client, server } = pair()
    client.alter(number.NEWKEYS, (payload) => Uint8Array.of(...payload, 7))
    const [, refused] = await Promise.allSettled([
      client.upTo('exchanged').then(() => client.exchange?.sendNewKeys()),
      server.upTo('keys'),
    ])
    expect(refused).toMatchObject({ status: 'rejected', reason: { expected: 'a well-formed NEWKEYS' } })
    const kept = await at('keys', { client: { patienceMs: 100 } })
    kept.client.alter(number.SERVICE_REQUEST, () => undefined)
    await expect(kept.client.upTo('service')).rejects.toThrow('expected SERVICE_ACCEPT')
    await expect(kept.server.expect(serviceRequest, 10)).rejects.toThrow('nothing for 10 ms')
  })
})

describe('a packet', () => {
  const cases = [
    ['with a short padding', { paddingBytes: 3 }],
    ['with a padding_length that is wrong', { paddingLength: 200 }],
    ['with a packet_length that is wrong', { packetLength: 0 }],
    ['with a bit flipped in its payload', { corrupt: 'body' }],
    ['with a bit flipped at the start of its tag', { corrupt: 'tag start' }],
    ['with a bit flipped at the end of its tag', { corrupt: 'tag end' }],
    ['with another sequence number', { sequence: 77 }],
  ] as const

  test.each(cases)('%s cannot be read', async (_name, edit) => {
    const { client, server } = await at('keys', {
      client: { algorithms: { ciphers: ['chacha20-poly1305@openssh.com'] } },
    })
    client.send(ignore, { data: new Uint8Array(8) }, edit)
    expect((await server.next()).kind).toBe('broken')
  })

  test('with as much padding as there can be is read like any other', async () => {
    const { client, server } = await at('keys')
    const payload = ignore.bytes({ data: new Uint8Array(11) })
    client.send(payload, { paddingBytes: 255 })
    expect(await server.next()).toMatchObject({ kind: 'message', number: number.IGNORE })
  })

  test('can be changed after it was sealed, sent twice, or held back', async () => {
    const { client, server } = await at('keys')
    client.send(ignore, { data: new Uint8Array(0) }, { sealed: () => new Uint8Array(0) })
    client.send(ignore, { data: new Uint8Array(0) })
    expect((await server.next()).kind).toBe('broken')
  })

  test('can be anything at all', async () => {
    const { client, server } = await at('identified')
    client.sendRaw('no packet, but text')
    const arrival = await server.next()
    expect(describeArrival(arrival)).toMatch(/^a packet that cannot be read: packet_length is/)
  })
})

describe('a wait', () => {
  test('passes over what may come at any time, and keeps it', async () => {
    const { client, server } = await at('authenticated')
    client.send(ignore, { data: new Uint8Array(0) })
    client.send(globalRequest, { request: 'quiet', wantReply: false, payload: new Uint8Array(0) })
    client.send(channelWindowAdjust, { recipientChannel: 0, bytes: 1 })
    client.send(globalRequest, { request: 'loud', wantReply: true, payload: new Uint8Array(0) })
    const arrived = await server.expect(globalRequest)
    // What is asked for is never passed over.
    expect(globalRequest.decode(arrived.payload).request).toBe('quiet')
    expect(globalRequest.decode((await server.expect(globalRequest)).payload).request).toBe('loud')
    expect(server.seen.slice(-4).map(({ number: type }) => type)).toEqual([2, 80, 93, 80])
  })

  test('tells what came instead', async () => {
    const { client, server } = await at('authenticated')
    client.send(channelData, { recipientChannel: 0, data: new Uint8Array(12) })
    const error = await server.expect([number.PING, number.PONG]).catch((caught: unknown) => caught)
    expect(error).toBeInstanceOf(Unexpected)
    expect(error).toMatchObject({ expected: 'PING (192) or PONG (193)', came: 'CHANNEL_DATA with 12 bytes' })
  })

  test('tells silence, the end and a reset apart', async () => {
    const { client, server } = await at('keys')
    await expect(server.expect(number.PING, 30)).rejects.toThrow('nothing for 30 ms')
    await server.expectNothing(30)
    client.close()
    await expect(server.expect(number.PING)).rejects.toThrow('end of connection')
  })

  test('for the end takes DISCONNECT with the reason that was asked for, or none', async () => {
    const { client, server } = await at('keys')
    client.sendDisconnect(number.disconnectReason.macError, 'wrong \u001b[31m')
    await expect(server.expectDisconnect(number.disconnectReason.macError)).resolves.toMatch(
      /^DISCONNECT 5 ".*\\u\{1b\}/,
    )
    const other = await at('keys')
    other.client.sendDisconnect(number.disconnectReason.byApplication)
    await expect(other.server.expectDisconnect(number.disconnectReason.macError)).rejects.toThrow(
      'DISCONNECT 11',
    )
    const alive = await at('keys')
    alive.client.send(serviceRequest, { service: 'x' })
    await expect(alive.server.expectDisconnect()).rejects.toThrow('SERVICE_REQUEST')
  })

  test('for nothing ends with the first message', async () => {
    const { client, server } = await at('keys')
    client.send(debug.number === 4 ? Uint8Array.of(4, 0, 0, 0, 0, 0, 0, 0, 0, 0) : new Uint8Array(1))
    await server.expectNothing(20)
    client.send(unimplemented, { sequence: 3 })
    await expect(server.expectNothing(2000)).rejects.toThrow('UNIMPLEMENTED of packet 3')
  })
})

describe('a channel', () => {
  test('holds what comes against what was promised', async () => {
    const { client, server } = await at('running', {
      client: { channel: { windowBytes: 10, maxPacketBytes: 6 } },
    })
    const [ours] = client.channels
    const [theirs] = server.channels
    expect(theirs).toMatchObject({ sendWindowBytes: 10, maxSendBytes: 6 })
    theirs!.sendData(new Uint8Array(6))
    await expect(ours!.readAtLeast(6)).resolves.toHaveLength(6)
    ours!.adjust(2)
    theirs!.sendData(new Uint8Array(6))
    await ours!.readAtLeast(6)
    theirs!.sendData(new Uint8Array(1))
    await expect(ours!.readAtLeast(1)).rejects.toThrow('1 bytes beyond the window')
    const large = await at('running', { client: { channel: { maxPacketBytes: 6 } } })
    large.server.channels[0]!.sendData(new Uint8Array(7))
    await expect(large.client.channels[0]!.readAtLeast(7)).rejects.toThrow('7 bytes in one packet')
    const late = await at('running')
    late.server.channels[0]!.sendEof()
    late.server.channels[0]!.sendData(new Uint8Array(1))
    await late.client.expect(number.CHANNEL_EOF)
    await expect(late.client.channels[0]!.readAtLeast(1)).rejects.toThrow('1 bytes behind EOF')
  })

  test('that the server refuses to start anything on makes a check not applicable', async () => {
    const { client, server } = await at('channel')
    const starting = client.channels[0]!.startSubsystem('nothing')
    await server.expect(number.CHANNEL_REQUEST)
    server.send(Uint8Array.of(number.CHANNEL_FAILURE, 0, 0, 0, 0))
    await expect(starting).rejects.toThrow(NotApplicable)
  })
})

test('words about what came hold no control characters and nothing that changes', () => {
  const arrivals: Arrival[] = [
    { kind: 'silence', ms: 12.7 },
    { kind: 'end', cause: undefined },
    { kind: 'end', cause: new Error('read ECONNRESET') },
    { kind: 'broken', error: new Error('bad\u0007') },
    { kind: 'message', number: 90, payload: Uint8Array.of(90, 0, 0, 0, 2, 0x1b, 0x41), sequence: 1 },
    { kind: 'message', number: 200, payload: Uint8Array.of(200), sequence: 1 },
  ]
  expect(arrivals.map(describeArrival)).toEqual([
    'nothing for 13 ms',
    'end of connection',
    'connection reset',
    'a packet that cannot be read: bad\\u{7}',
    'malformed CHANNEL_OPEN',
    'message 200',
  ])
})
