// A server obeys nobody before it knows who they are: connection messages before authentication (CVE-2025-32433), messages
// that only a server may send (CVE-2018-10933), and what a stranger may cost.

import type { ServerOptions } from '@sshblock/transport'
import { ProtocolError } from '@sshblock/transport'
import { describe, expect, test, vi } from 'vitest'
import { nodeCrypto } from '../../../packages/transport/src/crypto/node.ts'
import {
  channelOpen,
  channelRequest,
  execFields,
  globalRequest,
} from '../../../packages/transport/src/messages/connection.ts'
import * as number from '../../../packages/transport/src/messages/numbers.ts'
import {
  debug,
  extInfo,
  ignore,
  serviceAccept,
  serviceRequest,
  unimplemented,
} from '../../../packages/transport/src/messages/transport.ts'
import {
  userauthBanner,
  userauthFailure,
  userauthSuccess,
} from '../../../packages/transport/src/messages/userauth.ts'
import type { ByteDuplex } from '../../../packages/transport/src/session/duplex.ts'
import { memoryDuplexPair } from '../../../packages/transport/src/session/memory-duplex.ts'
import { prepareServer } from '../../../packages/transport/src/session/prepared-server.ts'
import { ServerConnection } from '../../../packages/transport/src/session/server.ts'
import { encodeFields } from '../../../packages/transport/src/wire/codec.ts'
import { freshSigner, loggedIn, RawClient, said, serve, testHostKey } from './raw-client.ts'

/** Every way in which an application could be reached, as spies. */
function spies() {
  const handler = vi.fn()
  const options: Partial<ServerOptions> = {
    exec: handler,
    shell: handler,
    subsystems: { sftp: handler },
    directTcpip: handler,
    directStreamlocal: handler,
    globalRequest: handler,
    announceHostKeys: false,
  }
  return { handler, options }
}

const payloadOf = (type: number): Uint8Array => {
  switch (type) {
    case number.GLOBAL_REQUEST:
      return globalRequest.bytes({ request: 'tcpip-forward', wantReply: true, payload: new Uint8Array(0) })
    case number.CHANNEL_OPEN:
      return channelOpen.bytes({
        channelType: 'session',
        senderChannel: 0,
        initialWindow: 1000,
        maxPacket: 1000,
        payload: new Uint8Array(0),
      })
    case number.CHANNEL_REQUEST:
      return channelRequest.bytes({
        recipientChannel: 0,
        request: 'exec',
        wantReply: true,
        payload: encodeFields(execFields, { command: 'id' }),
      })
    default:
      return Uint8Array.of(type, 0, 0, 0, 0, 0, 0, 0, 0)
  }
}

const states: [state: string, reach: (client: RawClient) => Promise<void>][] = [
  ['before the service is asked for', (client) => client.keys],
  ['before the first request', (client) => client.service()],
  [
    'after a refused request',
    async (client) => {
      await client.service()
      expect(said(await client.password('ann', 'wrong'))).toMatch(/^failure/)
    },
  ],
  [
    'while a request is thought about',
    async (client) => {
      await client.service()
      client.request('ann', 'password', new Uint8Array([0, 0, 0, 0, 4, 115, 108, 111, 119]))
    },
  ],
  [
    'after partial success',
    async (client) => {
      await client.service()
      expect(said(await client.password('ann', 'right'))).toMatch(/^partial/)
    },
  ],
]

const slow = (): Promise<boolean> => new Promise((resolve) => setTimeout(() => resolve(false), 15))
const policy: ServerOptions['auth'] = {
  refusalFloorMs: 0,
  password: ({ password }) => (password === 'slow' ? slow() : password === 'right'),
  publicKey: () => false,
  order: ['password,publickey'],
}

describe('connection messages before authentication', () => {
  // The numbers that mean something, the ends of the range, and one in each gap.
  const types = [80, 82, 83, 89, 90, 91, 93, 94, 96, 97, 98, 100, 127]

  for (const [state, reach] of states) {
    test(`${state}: each ends the connection, and no handler is called`, async () => {
      for (const type of types) {
        const { handler, options } = spies()
        const { duplex, connection } = serve({ auth: policy, ...options })
        const client = new RawClient(duplex)
        await reach(client)
        client.send(payloadOf(type))
        await client.ended()
        expect([type, connection.failure]).toEqual([
          type,
          expect.objectContaining({ code: 'ERR_SSH_PROTOCOL' }),
        ])
        expect(connection.login).toBeUndefined()
        expect(handler).not.toHaveBeenCalled()
      }
    })
  }

  test('nothing that is sent behind an open question is answered before it, whatever comes of it', async () => {
    const { handler, options } = spies()
    const { duplex } = serve({ auth: { ...policy, order: ['password'] }, ...options })
    const client = new RawClient(duplex)
    await client.service()
    client.request('ann', 'password', new Uint8Array([0, 0, 0, 0, 4, 115, 108, 111, 119]))
    client.send(payloadOf(number.CHANNEL_OPEN))
    client.send(payloadOf(number.CHANNEL_REQUEST))
    await client.ended()
    expect(client.all.map((message) => message.number)).toEqual([
      number.SERVICE_ACCEPT,
      number.USERAUTH_FAILURE,
    ])
    expect(handler).not.toHaveBeenCalled()
  })
})

describe('messages that only a server sends', () => {
  const wrong: [name: string, payload: Uint8Array][] = [
    ['SERVICE_ACCEPT', serviceAccept.bytes({ service: 'ssh-userauth' })],
    ['USERAUTH_SUCCESS', userauthSuccess.bytes({})],
    ['USERAUTH_FAILURE', userauthFailure.bytes({ methods: [], partialSuccess: false })],
    ['USERAUTH_BANNER', userauthBanner.bytes({ text: 'hello' })],
    ['message 60', Uint8Array.of(60, 0, 0, 0, 0, 0, 0, 0, 0)],
    ['KEX_REPLY', Uint8Array.of(31, 0, 0, 0, 0)],
  ]
  for (const [name, payload] of wrong) {
    test(`${name} ends the connection in every state`, async () => {
      for (const [state, reach] of states) {
        const { duplex, connection } = serve({ auth: policy })
        const client = new RawClient(duplex)
        await reach(client)
        client.send(payload)
        await client.ended()
        expect([state, connection.failure]).toEqual([
          state,
          expect.objectContaining({ code: 'ERR_SSH_PROTOCOL' }),
        ])
        expect(connection.login).toBeUndefined()
      }
      const { client, connection } = await loggedIn()
      client.send(payload)
      await client.ended()
      expect(connection.failure).toMatchObject({ code: 'ERR_SSH_PROTOCOL' })
    })
  }
})

describe('services', () => {
  test.each(['ssh-connection', 'ssh-userauth2', '', 'SSH-USERAUTH'])(
    'the service "%s" is not available first',
    async (service) => {
      const { duplex } = serve({ auth: policy })
      const client = new RawClient(duplex)
      await client.keys
      client.send(serviceRequest.bytes({ service }))
      expect((await client.ended()).message).toMatch(/reason/)
    },
  )

  test('the service may be asked for again until somebody is in, as paramiko does before each method', async () => {
    const { duplex, connection } = serve({ auth: { ...policy, order: ['password'] } })
    const client = new RawClient(duplex)
    await client.service()
    expect(said(await client.password('ann', 'wrong'))).toMatch(/^failure/)
    await client.service()
    expect(said(await client.password('ann', 'right'))).toBe('success')
    client.send(serviceRequest.bytes({ service: 'ssh-userauth' }))
    await client.ended()
    expect(connection.failure).toMatchObject({ code: 'ERR_SSH_PROTOCOL' })
  })

  test('an authentication request before the service ends the connection', async () => {
    const { duplex, connection } = serve({ auth: { insecureAllowNone: () => true } })
    const client = new RawClient(duplex)
    await client.keys
    client.request('ann', 'none')
    await client.ended()
    expect(connection.login).toBeUndefined()
  })

  test('EXT_INFO of the client is taken right after NEWKEYS and nowhere else', async () => {
    const info = extInfo.bytes({ count: 0, extensions: new Uint8Array(0) })
    const early = new RawClient(serve({ auth: policy }).duplex)
    await early.keys
    early.send(info)
    await early.service()
    early.send(info)
    await early.ended()
  })

  test('the server says what it takes from users, and nothing with SHA-1', async () => {
    const client = new RawClient(serve({ auth: policy }).duplex)
    await client.service()
    const algorithms = new TextDecoder().decode(client.extensions.get('server-sig-algs')).split(',')
    expect(algorithms).toEqual(
      expect.arrayContaining([
        'ssh-ed25519',
        'rsa-sha2-512',
        'sk-ssh-ed25519@openssh.com',
        'webauthn-sk-ecdsa-sha2-nistp256@openssh.com',
      ]),
    )
    expect(algorithms.filter((name) => name === 'ssh-rsa' || name === 'ssh-dss')).toEqual([])
    expect([...client.extensions.keys()].sort()).toEqual([
      'ping@openssh.com',
      'publickey-hostbound@openssh.com',
      'server-sig-algs',
    ])
  })
})

describe('what a stranger may cost', () => {
  const one = (bytes: number): Uint8Array => ignore.bytes({ data: new Uint8Array(bytes) })

  test.each([
    ['IGNORE', () => one(8)],
    ['DEBUG', () => debug.bytes({ alwaysDisplay: false, text: 'x' })],
    ['UNIMPLEMENTED', () => unimplemented.bytes({ sequence: 1 })],
    ['an unknown message', () => Uint8Array.of(200)],
  ])('1000 packets are taken, the next ends the connection: %s', async (_, make) => {
    const { duplex, connection } = serve({ auth: policy })
    const client = new RawClient(duplex)
    // KEXINIT, KEX_INIT, NEWKEYS and SERVICE_REQUEST count, too.
    await client.service()
    for (let i = 0; i < 990; i++) client.queue(make())
    client.flush()
    expect(said(await client.password('ann', 'wrong'))).toMatch(/^failure/)
    for (let i = 0; i < 10; i++) client.queue(make())
    client.flush()
    await client.ended()
    expect(connection.failure).toMatchObject({ code: 'ERR_SSH_PRE_AUTH_LIMIT' })
  })

  test('a MiB is taken, more ends the connection', async () => {
    const { duplex, connection } = serve({ auth: policy })
    const client = new RawClient(duplex)
    await client.service()
    for (let i = 0; i < 4; i++) client.send(one(250_000))
    expect(said(await client.password('ann', 'wrong'))).toMatch(/^failure/)
    client.send(one(100_000))
    await client.ended()
    expect(connection.failure).toMatchObject({ code: 'ERR_SSH_PRE_AUTH_LIMIT' })
  })

  test('what comes while a request is thought about is not read without bound', async () => {
    let taken = 0
    const [far, near] = memoryDuplexPair()
    const counting: ByteDuplex = {
      start: (sink) =>
        near.start({
          reserve: (min) => sink.reserve(min),
          commit: (count) => {
            taken += count
            sink.commit(count)
          },
          end: (cause) => sink.end(cause),
        }),
      write: (slab, done) => near.write(slab, done),
      pause: () => near.pause(),
      resume: () => near.resume(),
      close: (abort) => near.close(abort),
    }
    const prepared = prepareServer({
      crypto: nodeCrypto,
      hostKeys: [testHostKey()],
      auth: { ...policy, order: ['password'], password: () => new Promise(() => {}) },
    })
    new ServerConnection(counting, prepared)
    const client = new RawClient(far)
    await client.service()
    client.request('ann', 'password', new Uint8Array([0, 0, 0, 0, 1, 120]))
    for (let i = 0; i < 40; i++) {
      client.send(one(250_000))
      await new Promise((resolve) => setTimeout(resolve, 0))
    }
    expect(taken).toBeLessThan(3 * 1024 * 1024)
    client.close()
  })

  test('a client that is not in after its time is told to go, whatever it does meanwhile', async () => {
    const { duplex, connection } = serve({ auth: policy, handshakeTimeoutMs: 150 })
    const client = new RawClient(duplex)
    await client.service()
    const timer = setInterval(() => client.core.failure ?? client.send(one(1)), 10)
    await connection.closed
    clearInterval(timer)
    expect(connection.failure).toMatchObject({ code: 'ERR_SSH_TIMEOUT' })
  })

  test('a client that says nothing at all is told to go', async () => {
    const { connection } = serve({ auth: policy, handshakeTimeoutMs: 50 })
    await connection.closed
    expect(connection.failure).toMatchObject({ code: 'ERR_SSH_TIMEOUT' })
  })

  test('a client that is in is not told to go', async () => {
    const { client, connection } = await loggedIn({ handshakeTimeoutMs: 60 })
    await new Promise((resolve) => setTimeout(resolve, 120))
    await client.global('keepalive@openssh.com')
    expect(connection.failure).toBeUndefined()
  })

  test.each([
    ['HTTP', 'GET / HTTP/1.1\r\n'],
    ['SSH 1', 'SSH-1.5-old\r\n'],
    ['a line before the identification', 'hello\r\nSSH-2.0-x\r\n'],
    ['an empty line before the identification', '\r\nSSH-2.0-x\r\n'],
    ['an identification of 300 bytes', `SSH-2.0-${'x'.repeat(300)}\r\n`],
  ])('%s ends the connection', async (_, line) => {
    const { duplex, connection } = serve({ auth: policy })
    duplex.start({ reserve: () => new Uint8Array(4096), commit: () => {}, end: () => {} })
    duplex.write(new TextEncoder().encode(line), () => {})
    await connection.closed
    expect(connection.failure).toBeInstanceOf(ProtocolError)
  })
})

describe('host keys', () => {
  test('a server without host keys, or with none for the algorithms named, is a usage error', () => {
    const base = { crypto: nodeCrypto, auth: {} }
    expect(() => prepareServer({ ...base, hostKeys: [] })).toThrow(/host key/)
    expect(() =>
      prepareServer({ ...base, hostKeys: [freshSigner()], algorithms: { hostKeys: ['rsa-sha2-512'] } }),
    ).toThrow(/rsa-sha2-512/)
  })

  test('of several host keys the client gets the one it prefers', async () => {
    const keys = [freshSigner(), freshSigner('ecdsa-sha2-nistp256')]
    const prepared = prepareServer({ crypto: nodeCrypto, auth: {}, hostKeys: keys })
    expect(prepared.offer.hostKeys).toEqual(['ssh-ed25519', 'ecdsa-sha2-nistp256'])
    const { duplex } = serve({ auth: policy, hostKeys: keys.slice().reverse() })
    const client = new RawClient(duplex)
    await client.keys
    expect(client.core.proof?.hostKey).toEqual(keys[0]?.publicKeyBlob)
  })
})
