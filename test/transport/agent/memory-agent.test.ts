import { readFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { AgentClient } from '../../../packages/transport/src/agent/client.ts'
import { handlerChannel } from '../../../packages/transport/src/agent/handler-channel.ts'
import { MemoryAgent, type MemoryAgentOptions } from '../../../packages/transport/src/agent/memory-agent.ts'
import * as messages from '../../../packages/transport/src/agent/messages.ts'
import { connectAgent, socketChannel } from '../../../packages/transport/src/agent/node-socket.ts'
import {
  type AgentHandler,
  forwardingFilter,
  relayTo,
  serveAgent,
} from '../../../packages/transport/src/agent/server.ts'
import { nodeCrypto } from '../../../packages/transport/src/crypto/node.ts'
import { systemRandom } from '../../../packages/transport/src/crypto/random.ts'
import { UsageError } from '../../../packages/transport/src/errors.ts'
import { generateKeyPair } from '../../../packages/transport/src/keys/generate.ts'
import { type PrivateKey, parsePrivateKey } from '../../../packages/transport/src/keys/private-key.ts'
import { signWith } from '../../../packages/transport/src/keys/signature.ts'
import { signerFromAgent } from '../../../packages/transport/src/keys/signer.ts'
import { concat, toHex, utf8Bytes } from '../../../packages/transport/src/wire/bytes.ts'
import { Writer } from '../../../packages/transport/src/wire/writer.ts'
import { askpass } from '../../support/askpass.ts'
import { registerCleanup } from '../../support/cleanup.ts'
import { ALL_KEY_TYPES, clientKey, type KeyPair } from '../../support/keys.ts'
import { run, runOrThrow } from '../../support/program.ts'
import { describeWith, needsPrograms } from '../../support/requirements.ts'
import { needsAgent, startAgent } from '../../support/ssh-agent.ts'
import { tempDir } from '../../support/temp-dir.ts'
import { flipped, providers } from '../crypto/providers.ts'
import { certify, certifyFile } from '../keys/certificates.ts'
import { softwareToken } from '../keys/sk-key.ts'
import { ScriptedChannel } from './scripted-channel.ts'

const crypto = nodeCrypto
const data = utf8Bytes('data')
const newKey = (): PrivateKey => generateKeyPair(crypto, 'ed25519', systemRandom, 'mine')
const load = async (pair: KeyPair) => await parsePrivateKey(crypto, readFileSync(pair.privateFile))

function setting(options: Partial<MemoryAgentOptions> = {}) {
  const agent = new MemoryAgent({ crypto, ...options })
  const connect = () => new AgentClient(handlerChannel(agent.connection()), { crypto })
  return { agent, connect, client: connect() }
}

async function bindingOf(host: PrivateKey, sessionId: Uint8Array, forwarding: boolean) {
  const signature = await signWith(crypto, host, 'ssh-ed25519', sessionId)
  return { hostKey: host.publicKey.blob, sessionId, signature, forwarding }
}

describe('the agent in memory', () => {
  test.each(providers)('lists and signs as a client of it sees it (%s)', async (_, provider) => {
    const agent = new MemoryAgent({ crypto: provider })
    const client = new AgentClient(handlerChannel(agent.connection()), { crypto: provider })
    agent.add(newKey(), { comment: 'first' })
    agent.add(generateKeyPair(crypto, 'ecdsa-sha2-nistp384', systemRandom, 'second'))
    const identities = await client.list()
    expect(identities.map(({ comment }) => comment)).toEqual(['first', 'second'])
    for (const identity of identities) {
      const signer = signerFromAgent(client, identity)
      await signer.sign(signer.algorithms[0]!, data)
    }
    client.close()
  })

  test('takes keys over the wire, replaces one that comes again, and removes them', async () => {
    const { client } = setting()
    const [a, b] = [newKey(), newKey()]
    await client.add(a, { comment: 'a' })
    await client.add(b, { comment: 'b' })
    await client.add(a, { comment: 'again' })
    expect((await client.list()).map(({ comment }) => comment)).toEqual(['b', 'again'])
    await client.remove(a.publicKey.blob)
    await expect(client.remove(a.publicKey.blob)).rejects.toMatchObject({ code: 'ERR_SSH_AGENT_REFUSED' })
    await client.removeAll()
    expect(await client.list()).toEqual([])
    await expect(client.sign(b.publicKey.blob, data, 0)).rejects.toMatchObject({
      code: 'ERR_SSH_AGENT_REFUSED',
    })
  })

  test('a lifetime ends, and the key is wiped', async () => {
    let now = 0
    const { agent, client } = setting({ now: () => now })
    const key = newKey()
    agent.add(key, { lifetimeSeconds: 10 })
    await client.add(newKey(), { lifetimeSeconds: 20 })
    now = 9999
    expect(await client.list()).toHaveLength(2)
    now = 10_000
    expect(await client.list()).toHaveLength(1)
    expect(
      key.kind === 'software' &&
        key.signingKey.type === 'ed25519' &&
        key.signingKey.seed.every((byte) => byte === 0),
    ).toBe(true)
    now = 20_000
    expect(await client.list()).toEqual([])
  })

  test('a key that wants confirmation signs only after a yes', async () => {
    const answers = [true, false]
    const asked: string[] = []
    const { client } = setting({
      confirm: async ({ comment }) => {
        asked.push(comment)
        return answers.shift()!
      },
    })
    const key = newKey()
    await client.add(key, { confirm: true })
    await client.sign(key.publicKey.blob, data, 0)
    await expect(client.sign(key.publicKey.blob, data, 0)).rejects.toMatchObject({
      code: 'ERR_SSH_AGENT_REFUSED',
    })
    expect(asked).toEqual(['mine', 'mine'])
    const mute = setting()
    await expect(mute.client.add(key, { confirm: true })).rejects.toMatchObject({
      code: 'ERR_SSH_AGENT_REFUSED',
    })
    expect(() => mute.agent.add(key, { confirm: true })).toThrow(UsageError)
    expect(await mute.client.list()).toEqual([])
  })

  test('a constraint that it does not know makes it refuse the key', async () => {
    const { client } = setting()
    const to = { hostname: 'h', keys: [{ keyBlob: newKey().publicKey.blob }] }
    await expect(client.add(newKey(), { destinations: [{ to }] })).rejects.toMatchObject({
      code: 'ERR_SSH_AGENT_REFUSED',
    })
    expect(await client.list()).toEqual([])
  })

  test.each<[string, (key: Writer) => Writer]>([
    ['an unknown number', (writer) => writer.u8(3).u32(1)],
    ['an unknown extension', (writer) => writer.u8(255).text('x@example.org').text('')],
    ['a lifetime twice', (writer) => writer.u8(1).u32(5).u8(1).u32(5)],
    ['a lifetime cut off', (writer) => writer.u8(1).u8(0)],
    ['an extension cut off', (writer) => writer.u8(255).u8(0)],
  ])('%s among the constraints makes it refuse the key', async (_, more) => {
    const { client } = setting()
    let plain: Uint8Array | undefined
    const recorder = new AgentClient(
      new ScriptedChannel((request) => {
        plain = request.slice(1)
        return messages.success.bytes({})
      }),
      { crypto },
    )
    await recorder.add(newKey())
    const constrained = (writer: Writer) => messages.addIdentityConstrained.bytes({ key: writer.bytes() })
    expect((await client.request(constrained(new Writer().raw(plain!))))[0]).toBe(6)
    await client.removeAll()
    expect((await client.request(constrained(more(new Writer().raw(plain!)))))[0]).toBe(5)
    expect(
      (
        await client.request(
          messages.addIdentity.bytes({ key: concat(plain!, Uint8Array.of(1, 0, 0, 0, 9)) }),
        )
      )[0],
    ).toBe(5)
    expect(await client.list()).toEqual([])
  })

  test('locked it shows nothing, signs nothing, takes nothing; only the same passphrase unlocks it', async () => {
    const { agent, client } = setting()
    const key = newKey()
    agent.add(key)
    await client.lock('secret')
    expect(await client.list()).toEqual([])
    for (const attempt of [
      () => client.sign(key.publicKey.blob, data, 0),
      () => client.add(newKey()),
      () => client.removeAll(),
      () => client.lock('again'),
      () => client.unlock('wrong'),
      () => client.unlock(''),
    ]) {
      await expect(attempt()).rejects.toMatchObject({ code: 'ERR_SSH_AGENT_REFUSED' })
    }
    expect(await client.bindSession(await bindingOf(newKey(), data, false))).toBe(false)
    await client.unlock('secret')
    expect(await client.list()).toHaveLength(1)
    await expect(client.unlock('secret')).rejects.toMatchObject({ code: 'ERR_SSH_AGENT_REFUSED' })
  })

  test("session-bind: only with the host's signature, once for logging in, one key for one session", async () => {
    const { connect } = setting()
    const [host, other] = [newKey(), newKey()]
    const client = connect()
    const binding = await bindingOf(host, utf8Bytes('one'), true)
    expect(await client.bindSession({ ...binding, signature: flipped(binding.signature, 40) })).toBe(false)
    expect(await client.bindSession({ ...binding, hostKey: other.publicKey.blob })).toBe(false)
    expect(await client.bindSession({ ...binding, signature: new Uint8Array(3) })).toBe(false)
    expect(await client.bindSession(binding)).toBe(true)
    expect(await client.bindSession(binding)).toBe(true)
    expect(await client.bindSession(await bindingOf(other, utf8Bytes('one'), true))).toBe(false)
    for (let i = 1; i < 16; i++)
      expect(await client.bindSession(await bindingOf(host, utf8Bytes(`${i}`), true))).toBe(true)
    expect(await client.bindSession(await bindingOf(host, utf8Bytes('17th'), true))).toBe(false)
    const login = connect()
    expect(await login.bindSession(await bindingOf(host, utf8Bytes('one'), false))).toBe(true)
    expect(await login.bindSession(await bindingOf(host, utf8Bytes('two'), false))).toBe(false)
  })

  test('a connection bound to a forwarding may use keys, not manage them', async () => {
    const { agent, client } = setting()
    const key = newKey()
    agent.add(key)
    expect(await client.bindSession(await bindingOf(newKey(), data, true))).toBe(true)
    await client.sign(key.publicKey.blob, data, 0)
    for (const attempt of [
      () => client.add(newKey()),
      () => client.removeAll(),
      () => client.lock('x'),
      () => client.remove(key.publicKey.blob),
    ]) {
      await expect(attempt()).rejects.toMatchObject({ code: 'ERR_SSH_AGENT_REFUSED' })
    }
    expect(await client.list()).toHaveLength(1)
  })

  test('says which extensions it has', async () => {
    expect(await setting().client.queryExtensions()).toEqual(['query', 'session-bind@openssh.com'])
  })

  test('2048 identities fit, one more does not', () => {
    const { agent } = setting()
    // The same numbers under certificates would be slow to make: keys without meaning will do.
    const key = newKey()
    if (key.kind !== 'software') throw new Error('unreachable')
    for (let i = 0; i < 2048; i++) {
      const blob = new Writer().text('ssh-ed25519').u32(i).copy()
      agent.add({ ...key, publicKey: { ...key.publicKey, blob } })
    }
    expect(() => agent.add(key)).toThrow(/2048/)
  })

  test('security keys are refused, here and over the wire', async () => {
    const { agent, client } = setting()
    const { privateKey } = softwareToken('sk-ssh-ed25519@openssh.com')
    expect(() => agent.add(privateKey)).toThrow(UsageError)
    await expect(client.add(privateKey)).rejects.toMatchObject({ code: 'ERR_SSH_AGENT_REFUSED' })
  })

  test('every truncation of every request is answered with FAILURE, and nothing changes', async () => {
    const key = newKey()
    const requests: Uint8Array[] = []
    const recorder = new AgentClient(
      new ScriptedChannel((request) => {
        requests.push(request)
        return messages.failure.bytes({})
      }),
      { crypto },
    )
    const binding = await bindingOf(newKey(), data, true)
    await Promise.allSettled([
      recorder.sign(key.publicKey.blob, data, 0),
      recorder.add(newKey(), { comment: 'a comment' }),
      recorder.add(newKey(), { lifetimeSeconds: 5 }),
      recorder.remove(key.publicKey.blob),
      recorder.lock('secret'),
      recorder.bindSession(binding),
    ])
    expect(requests).toHaveLength(6)
    for (const request of requests) {
      const { agent, client } = setting()
      agent.add(key)
      for (let length = 1; length < request.length; length++) {
        // "Add" without its constraints is a whole request; everything else is not.
        const [type] = await client.request(request.subarray(0, length))
        if (type !== 5) expect(request[0] === 25 && type === 6, `${request[0]} cut to ${length}`).toBe(true)
      }
      const grown = await client.request(concat(request, Uint8Array.of(9)))
      expect(grown[0]).toBe(5)
      client.close()
    }
  })

  test('unknown requests are answered with FAILURE', async () => {
    const { client } = setting()
    for (let type = 0; type < 256; type++) {
      if ([11, 19].includes(type)) continue
      expect((await client.request(Uint8Array.of(type)))[0], `${type}`).toBe(5)
    }
  })
})

describe('serving a channel', () => {
  const echo: AgentHandler = (request) => request.slice()

  test('requests are answered one after the other, in order, however they arrive', async () => {
    let running = 0
    const channel = new ScriptedChannel()
    void serveAgent(channel, async (request) => {
      expect(++running).toBe(1)
      await new Promise((resolve) => setTimeout(resolve, 2))
      running--
      return request.slice()
    })
    const frames = concat(...Array.from({ length: 5 }, (_, i) => Uint8Array.of(0, 0, 0, 2, 11, i)))
    for (let at = 0; at < frames.length; at += 4) channel.sendRaw(frames.subarray(at, at + 4))
    expect(channel.paused).toBe(true)
    await expect.poll(() => channel.requests.length).toBe(5)
    expect(channel.requests.map((reply) => reply[1])).toEqual([0, 1, 2, 3, 4])
    await expect.poll(() => channel.paused).toBe(false)
  })

  test('a peer that does not take its answers is not read from', async () => {
    const channel = new ScriptedChannel()
    void serveAgent(channel, echo)
    channel.writableBytes = 0
    channel.sendRaw(Uint8Array.of(0, 0, 0, 1, 11))
    await new Promise((resolve) => setTimeout(resolve, 5))
    expect(channel.requests).toHaveLength(0)
    expect(channel.paused).toBe(true)
    channel.writableBytes = 1000
    channel.drained()
    await expect.poll(() => channel.requests.length).toBe(1)
    expect(channel.paused).toBe(false)
  })

  test.each([0, 262_145, 0xffff_ffff])('a frame of %i bytes ends the connection', async (length) => {
    const channel = new ScriptedChannel()
    const done = serveAgent(channel, echo)
    channel.sendRaw(new Writer().u32(length).copy())
    await done
    expect(channel.closed).toBe(true)
    expect(channel.requests).toHaveLength(0)
  })

  test('what was asked before the peer ended its side is still answered', async () => {
    const channel = new ScriptedChannel()
    const done = serveAgent(channel, async (request) => {
      await new Promise((resolve) => setTimeout(resolve, 2))
      return request.slice()
    })
    channel.sendRaw(Uint8Array.of(0, 0, 0, 1, 11))
    channel.end()
    await done
    expect(channel.requests).toHaveLength(1)
  })

  test('the request is wiped after its answer', async () => {
    const channel = new ScriptedChannel()
    let seen: Uint8Array | undefined
    void serveAgent(channel, (request) => {
      seen = request
      return Uint8Array.of(6)
    })
    channel.sendRaw(Uint8Array.of(0, 0, 0, 3, 17, 1, 2))
    await expect.poll(() => channel.requests.length).toBe(1)
    expect(seen).toEqual(new Uint8Array(3))
  })
})

describe('forwarding', () => {
  test('of all 256 message types only list, sign and session-bind reach the agent', async () => {
    const reached: number[] = []
    const filtered = forwardingFilter((request) => {
      reached.push(request[0]!)
      return Uint8Array.of(6)
    })
    const extension = (name: string) => messages.extension.bytes({ name, contents: new Uint8Array(0) })
    for (let type = 0; type < 256; type++) {
      const reply = await filtered(type === 27 ? extension('other@example.org') : Uint8Array.of(type))
      expect(reply[0]).toBe(type === 11 || type === 13 ? 6 : 5)
    }
    expect(reached).toEqual([11, 13])
    expect((await filtered(extension('session-bind@openssh.com')))[0]).toBe(6)
    for (const name of ['query', 'session-bind@openssh.com\0', '', 'SESSION-BIND@openssh.com']) {
      expect((await filtered(extension(name)))[0]).toBe(5)
    }
    expect((await filtered(Uint8Array.of(27)))[0]).toBe(5)
    expect((await filtered(new Uint8Array(0)))[0]).toBe(5)
    expect(reached).toEqual([11, 13, 27])
  })

  test('a relayed agent signs, and what changes it never arrives', async () => {
    const { agent, client } = setting()
    const key = newKey()
    agent.add(key)
    const remote = new AgentClient(handlerChannel(forwardingFilter(relayTo(client))), { crypto })
    expect(await remote.list()).toHaveLength(1)
    await remote.sign(key.publicKey.blob, data, 0)
    await expect(remote.add(newKey())).rejects.toMatchObject({ code: 'ERR_SSH_AGENT_REFUSED' })
    await expect(remote.removeAll()).rejects.toMatchObject({ code: 'ERR_SSH_AGENT_REFUSED' })
    await expect(remote.lock('x')).rejects.toMatchObject({ code: 'ERR_SSH_AGENT_REFUSED' })
    expect(await remote.queryExtensions()).toBeUndefined()
    expect(await client.list()).toHaveLength(1)
    client.close()
    await expect(remote.list()).rejects.toMatchObject({ code: 'ERR_SSH_AGENT_REFUSED' })
    remote.close()
  })
})

/** Our agent on a socket, for OpenSSH's programs. */
async function listen(handler: () => AgentHandler): Promise<string> {
  const path = join(tempDir('agent'), 's')
  const server = createServer((socket) => void serveAgent(socketChannel(socket), handler()))
  await new Promise<void>((resolve) => server.listen(path, resolve))
  registerCleanup(() => void server.close())
  return path
}

describeWith(
  [needsAgent(), needsPrograms('ssh-keygen', ['ssh-keygen'], 'openssh-client')],
  'OpenSSH as the client',
  () => {
    test('ssh-add adds every type of key and its certificate, lists, tests, removes and locks', async () => {
      const { agent, client } = setting()
      const path = await listen(() => agent.connection())
      const env = { SSH_AUTH_SOCK: path, ...askpass(['secret', 'secret']) }
      for (const type of ALL_KEY_TYPES)
        await runOrThrow('ssh-add', ['-q', (await clientKey(type)).privateFile], { env })
      const pairs = await Promise.all(ALL_KEY_TYPES.map((type) => clientKey(type)))
      expect((await client.list()).map(({ keyBlob }) => toHex(keyBlob))).toEqual(
        pairs.map(({ blob }) => toHex(blob)),
      )
      const { stdout } = await runOrThrow('ssh-add', ['-L'], { env })
      expect(stdout.trim().split('\n')).toEqual(pairs.map(({ publicLine }) => publicLine))
      for (const pair of pairs) {
        // ssh-add -T asks for SHA-1 signatures of RSA keys, which we do not make; ssh-keygen -Y asks for SHA-2.
        const tested = await run('ssh-add', ['-T', pair.publicFile], { env })
        if (pair.algorithm !== 'ssh-rsa') expect(tested).toMatchObject({ code: 0 })
        await runOrThrow('ssh-keygen', ['-q', '-Y', 'sign', '-n', 'x', '-f', pair.publicFile], {
          env,
          input: 'data',
        })
      }
      await runOrThrow('ssh-add', ['-q', '-d', pairs[0]!.publicFile], { env })
      expect(await client.list()).toHaveLength(pairs.length - 1)
      await runOrThrow('ssh-add', ['-x'], { env })
      expect((await run('ssh-add', ['-l'], { env })).code).toBe(1)
      await runOrThrow('ssh-add', ['-X'], { env: { ...env, ...askpass(['secret']) } })
      await runOrThrow('ssh-add', ['-q', '-D'], { env })
      expect(await client.list()).toEqual([])
    })

    test('ssh-keygen signs a certificate and a file with keys in our agent', async () => {
      const { agent, client } = setting()
      const path = await listen(() => agent.connection())
      const env = { SSH_AUTH_SOCK: path }
      const ca = await clientKey('ecdsa-384')
      agent.add(await load(ca))
      const certFile = await certifyFile(await clientKey('ed25519'), ca, ['-n', 'a'])
      await runOrThrow(
        'ssh-keygen',
        [
          '-q',
          '-U',
          '-s',
          ca.publicFile,
          '-I',
          'by our agent',
          '-n',
          'b',
          certFile.replace('-cert.pub', '.pub'),
        ],
        { env },
      )
      const { stdout } = await runOrThrow('ssh-keygen', ['-L', '-f', certFile])
      expect(stdout).toContain('by our agent')
      const certificate = await certify(ca, ca, ['-n', 'x'])
      agent.add(await load(ca), { certificate })
      expect(await client.list()).toHaveLength(2)
    })

    test('a lifetime given to ssh-add is kept, a destination constraint is refused', async () => {
      let now = 0
      const { agent, client } = setting({ now: () => now })
      const env = { SSH_AUTH_SOCK: await listen(() => agent.connection()) }
      const pair = await clientKey('ed25519')
      await runOrThrow('ssh-add', ['-q', '-t', '10', pair.privateFile], { env })
      expect(await client.list()).toHaveLength(1)
      now = 10_000
      expect(await client.list()).toEqual([])
      const confirmed = await run('ssh-add', ['-q', '-c', pair.privateFile], { env })
      expect(confirmed.code).not.toBe(0)
      expect(await client.list()).toEqual([])
    })

    test('a forwarded ssh-agent: ssh-add can list and test, not add or remove', async () => {
      const pair = await clientKey('ed25519')
      const real = await startAgent({ keys: [pair] })
      const upstream = await connectAgent({ crypto, path: real.socket })
      registerCleanup(() => upstream.close())
      const env = { SSH_AUTH_SOCK: await listen(() => forwardingFilter(relayTo(upstream))) }
      expect((await runOrThrow('ssh-add', ['-L'], { env })).stdout).toContain(pair.publicLine)
      await runOrThrow('ssh-add', ['-T', pair.publicFile], { env })
      expect((await run('ssh-add', ['-D'], { env })).code).not.toBe(0)
      expect((await run('ssh-add', [(await clientKey('ecdsa-256')).privateFile], { env })).code).not.toBe(0)
      expect(await real.list()).toEqual([pair.publicLine])
    })
  },
)
