// Against OpenSSH's own ssh-agent and ssh-add.

import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { connectAgent } from '../../../packages/transport/src/agent/node-socket.ts'
import { nodeCrypto } from '../../../packages/transport/src/crypto/node.ts'
import { AgentError } from '../../../packages/transport/src/errors.ts'
import { type PrivateKey, parsePrivateKey } from '../../../packages/transport/src/keys/private-key.ts'
import { formatPublicKey } from '../../../packages/transport/src/keys/public-key.ts'
import { signWith, verifySignature } from '../../../packages/transport/src/keys/signature.ts'
import { type Signer, signerFromAgent } from '../../../packages/transport/src/keys/signer.ts'
import { toHex, utf8Bytes } from '../../../packages/transport/src/wire/bytes.ts'
import { Writer } from '../../../packages/transport/src/wire/writer.ts'
import { ALL_KEY_TYPES, clientKey, hostKey, type KeyPair, strangerHostKey } from '../../support/keys.ts'
import { runOrThrow } from '../../support/program.ts'
import { describeWith, needsPrograms } from '../../support/requirements.ts'
import { needsAgent, startAgent } from '../../support/ssh-agent.ts'
import { tempDir } from '../../support/temp-dir.ts'
import { certify } from '../keys/certificates.ts'
import { softwareToken } from '../keys/sk-key.ts'

const data = utf8Bytes('data')

const connect = (agent: { socket: string }) => connectAgent({ crypto: nodeCrypto, path: agent.socket })
const load = async (pair: KeyPair) => await parsePrivateKey(nodeCrypto, readFileSync(pair.privateFile))

/** What a client signs to log in (RFC 4252 s7; OpenSSH PROTOCOL "publickey-hostbound-v00"). */
function loginRequest(sessionId: Uint8Array, user: string, signer: Signer, host?: Uint8Array): Uint8Array {
  const writer = new Writer().string(sessionId).u8(50).text(user).text('ssh-connection')
  writer.text(host === undefined ? 'publickey' : 'publickey-hostbound-v00@openssh.com').bool(true)
  writer.text(signer.algorithms[0]!).string(signer.publicKeyBlob)
  if (host !== undefined) writer.string(host)
  return writer.copy()
}

describeWith(
  [needsAgent(), needsPrograms('ssh-keygen', ['ssh-keygen'], 'openssh-client')],
  'OpenSSH ssh-agent',
  () => {
    test('lists what ssh-add added, and signs with every key and algorithm', async () => {
      const pairs = await Promise.all(ALL_KEY_TYPES.map((type) => clientKey(type)))
      const agent = await startAgent({ keys: pairs })
      await using client = await connect(agent)
      const identities = await client.list()
      expect(identities.map(({ keyBlob, comment }) => [toHex(keyBlob), comment])).toEqual(
        pairs.map((pair, i) => [toHex(pair.blob), `client-${ALL_KEY_TYPES[i]}`]),
      )
      for (const identity of identities) {
        const signer = signerFromAgent(client, identity)
        const key = (await load(pairs[identities.indexOf(identity)]!)).publicKey
        for (const algorithm of signer.algorithms) {
          expect(
            await verifySignature(nodeCrypto, key, algorithm, data, await signer.sign(algorithm, data)),
          ).toBe(true)
        }
      }
    })

    test('takes every type of key from us, with certificates, and ssh-add sees them', async () => {
      const agent = await startAgent()
      await using client = await connect(agent)
      const ca = await clientKey('ecdsa-256')
      const expected: string[] = []
      for (const type of ALL_KEY_TYPES) {
        const pair = await clientKey(type)
        const key = await load(pair)
        const certificate = await certify(ca, pair, ['-n', 'somebody'])
        await client.add(key, { comment: `plain ${type}` })
        await client.add(key, { comment: `cert ${type}`, certificate })
        expected.push(
          formatPublicKey(key.publicKey, `plain ${type}`),
          formatPublicKey(certificate, `cert ${type}`),
        )
      }
      expect(await agent.list()).toEqual(expected)
      for (const identity of await client.list()) {
        const signer = signerFromAgent(client, identity)
        for (const algorithm of signer.algorithms) await signer.sign(algorithm, data)
      }
    })

    test('takes security key handles from us', async () => {
      const agent = await startAgent()
      await using client = await connect(agent)
      for (const type of ['sk-ssh-ed25519@openssh.com', 'sk-ecdsa-sha2-nistp256@openssh.com'] as const) {
        const { privateKey } = softwareToken(type)
        await client.add(privateKey, { comment: type })
        expect(await agent.list()).toContain(formatPublicKey(privateKey.publicKey, type))
      }
    })

    test('forgets one key, then all; a key that it has not is refused', async () => {
      const pairs = [await clientKey('ed25519'), await clientKey('ecdsa-256')] as const
      const agent = await startAgent({ keys: pairs })
      await using client = await connect(agent)
      await client.remove(pairs[0].blob)
      expect((await client.list()).map(({ keyBlob }) => toHex(keyBlob))).toEqual([toHex(pairs[1].blob)])
      await expect(client.remove(pairs[0].blob)).rejects.toMatchObject({ code: 'ERR_SSH_AGENT_REFUSED' })
      await client.removeAll()
      expect(await client.list()).toEqual([])
    })

    test('locked, by ssh-add or by us, it shows nothing and signs nothing', async () => {
      const pair = await clientKey('ed25519')
      const agent = await startAgent({ keys: [pair] })
      await using client = await connect(agent)
      await agent.lock('secret')
      expect(await client.list()).toEqual([])
      await expect(client.sign(pair.blob, data, 0)).rejects.toMatchObject({ code: 'ERR_SSH_AGENT_REFUSED' })
      await expect(client.unlock('wrong')).rejects.toThrow(AgentError)
      await client.unlock('secret')
      expect(await client.list()).toHaveLength(1)
      await client.lock('other')
      expect(await client.list()).toEqual([])
      await client.unlock('other')
      await client.sign(pair.blob, data, 0)
    })

    test('a lifetime ends', async () => {
      const agent = await startAgent()
      await using client = await connect(agent)
      await client.add(await load(await clientKey('ed25519')), { lifetimeSeconds: 1 })
      expect(await client.list()).toHaveLength(1)
      await expect.poll(() => client.list(), { timeout: 5000, interval: 200 }).toEqual([])
    })

    test('a key that wants confirmation does not sign where nobody can confirm', async () => {
      const pair = await clientKey('ed25519')
      const agent = await startAgent()
      await using client = await connect(agent)
      await client.add(await load(pair), { confirm: true })
      await expect(client.sign(pair.blob, data, 0)).rejects.toMatchObject({ code: 'ERR_SSH_AGENT_REFUSED' })
    })

    test('does not say which extensions it has, or names session-bind', async () => {
      const agent = await startAgent()
      await using client = await connect(agent)
      const names = await client.queryExtensions()
      expect(names === undefined || names.includes('session-bind@openssh.com')).toBe(true)
      expect(await client.list()).toEqual([])
    })

    test('is killed while we wait: a typed error', async () => {
      const agent = await startAgent({ keys: [await clientKey('ed25519')] })
      await using client = await connect(agent)
      await client.list()
      process.kill(agent.pid, 'SIGSTOP')
      const waiting = client.list()
      process.kill(agent.pid, 'SIGKILL')
      await expect(waiting).rejects.toMatchObject({ code: 'ERR_SSH_AGENT_CLOSED' })
    })

    const bindingOf = async (host: PrivateKey, sessionId: Uint8Array, forwarding: boolean) => ({
      hostKey: host.publicKey.blob,
      sessionId,
      signature: await signWith(
        nodeCrypto,
        host,
        host.type === 'ssh-rsa' ? 'rsa-sha2-512' : host.type,
        sessionId,
      ),
      forwarding,
    })

    test('binds sessions whose host signature is right, of every type of host key', async () => {
      const agent = await startAgent()
      for (const type of ALL_KEY_TYPES) {
        await using client = await connect(agent)
        const host = await load(await hostKey(type))
        const binding = await bindingOf(host, utf8Bytes('session'), false)
        expect(await client.bindSession({ ...binding, sessionId: utf8Bytes('another') })).toBe(false)
        expect(await client.bindSession(binding)).toBe(true)
        // Bound for authentication is bound for good.
        expect(await client.bindSession(await bindingOf(host, utf8Bytes('second'), false))).toBe(false)
      }
    })

    test.each(['ssh-add -h', 'our own constraint'] as const)(
      '%s: the key works for that host, and for no other',
      async (how) => {
        const pair = await clientKey('ed25519')
        const [here, elsewhere] = [
          await load(await hostKey('ed25519')),
          await load(await strangerHostKey('ed25519')),
        ]
        const agent = await startAgent()
        if (how === 'ssh-add -h') {
          const knownHosts = join(tempDir('kh'), 'known_hosts')
          writeFileSync(
            knownHosts,
            `here ${formatPublicKey(here.publicKey)}\nelsewhere ${formatPublicKey(elsewhere.publicKey)}\n`,
          )
          const env = { SSH_AUTH_SOCK: agent.socket }
          await runOrThrow('ssh-add', ['-q', '-H', knownHosts, '-h', 'somebody@here', pair.privateFile], {
            env,
          })
        } else {
          await using client = await connect(agent)
          const to = { hostname: 'here', user: 'somebody', keys: [{ keyBlob: here.publicKey.blob }] }
          await client.add(await load(pair), { destinations: [{ to }] })
        }
        const sessionId = utf8Bytes('session id')
        const attempt = async (host: PrivateKey, user: string, hops: PrivateKey[] = []) => {
          await using client = await connect(agent)
          for (const [i, hop] of hops.entries()) {
            expect(await client.bindSession(await bindingOf(hop, utf8Bytes(`hop ${i}`), true))).toBe(true)
          }
          expect(await client.bindSession(await bindingOf(host, sessionId, false))).toBe(true)
          const signer = signerFromAgent(client, { keyBlob: pair.blob, comment: '' })
          const request = loginRequest(sessionId, user, signer, host.publicKey.blob)
          try {
            await signer.sign('ssh-ed25519', request)
            return 'signed'
          } catch (error) {
            return (error as AgentError).code
          }
        }
        expect(await attempt(here, 'somebody')).toBe('signed')
        expect(await attempt(here, 'root')).toBe('ERR_SSH_AGENT_REFUSED')
        expect(await attempt(elsewhere, 'somebody')).toBe('ERR_SSH_AGENT_REFUSED')
        expect(await attempt(here, 'somebody', [elsewhere])).toBe('ERR_SSH_AGENT_REFUSED')
        // Through a connection that is bound to no session the agent does not sign with a constrained key at all.
        await using client = await connect(agent)
        const signer = signerFromAgent(client, { keyBlob: pair.blob, comment: '' })
        const unbound = signer.sign(
          'ssh-ed25519',
          loginRequest(sessionId, 'somebody', signer, here.publicKey.blob),
        )
        await expect(unbound).rejects.toMatchObject({ code: 'ERR_SSH_AGENT_REFUSED' })
      },
    )
  },
)
