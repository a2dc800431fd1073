// hostkeys-00@openssh.com and hostkeys-prove-00@openssh.com (OpenSSH PROTOCOL 2.5) of our server.

import type { Signer } from '@sshblock/transport'
import { nodeCrypto, parsePublicKey, signerFromPrivateKey } from '@sshblock/transport'
import { generateRsaKeyPair } from '@sshblock/transport/node'
import { beforeAll, expect, test, vi } from 'vitest'
import { parseSignature, verifySignature } from '../../../packages/transport/src/keys/signature.ts'
import { globalRequest } from '../../../packages/transport/src/messages/connection.ts'
import * as number from '../../../packages/transport/src/messages/numbers.ts'
import { HostKeyProof } from '../../../packages/transport/src/session/host-key-proof.ts'
import { Reader } from '../../../packages/transport/src/wire/reader.ts'
import { Writer } from '../../../packages/transport/src/wire/writer.ts'
import { freshSigner, loggedIn, RawClient, serve } from './raw-client.ts'

let keys: Signer[]

beforeAll(async () => {
  keys = [
    freshSigner(),
    freshSigner('ecdsa-sha2-nistp256'),
    signerFromPrivateKey(nodeCrypto, await generateRsaKeyPair(2048)),
  ]
})

const prove = (...blobs: Uint8Array[]): Uint8Array => {
  const writer = new Writer()
  for (const blob of blobs) writer.string(blob)
  return writer.copy()
}
const request = 'hostkeys-prove-00@openssh.com'

test('all host keys are announced right after login, and not before', async () => {
  const { duplex } = serve({ auth: { insecureAllowNone: () => true }, hostKeys: keys })
  const client = new RawClient(duplex)
  await client.service()
  expect(client.all.map((message) => message.number)).toEqual([number.SERVICE_ACCEPT])
  await client.none('ann')
  const {
    payload,
    request: name,
    wantReply,
  } = globalRequest.decode((await client.expect(number.GLOBAL_REQUEST)).payload)
  expect([name, wantReply]).toEqual(['hostkeys-00@openssh.com', false])
  const reader = new Reader(payload)
  expect(keys.map((key) => key.publicKeyBlob)).toEqual([
    reader.string().slice(),
    reader.string().slice(),
    reader.string().slice(),
  ])
  expect(reader.remaining).toBe(0)
})

test('each key is proved by a signature over the session and the key', async () => {
  const { client } = await loggedIn({ hostKeys: keys })
  const reply = await client.global(request, prove(...keys.map((key) => key.publicKeyBlob)))
  expect(reply.number).toBe(number.REQUEST_SUCCESS)
  const reader = new Reader(reply.payload, 1)
  for (const key of keys) {
    const signature = reader.string().slice()
    const data = new Writer()
      .text(request)
      .string(client.core.proof!.sessionId)
      .string(key.publicKeyBlob)
      .copy()
    const { name } = parseSignature(signature)
    expect(await verifySignature(nodeCrypto, parsePublicKey(key.publicKeyBlob), name, data, signature)).toBe(
      true,
    )
    expect(name).not.toBe('ssh-rsa')
  }
  expect(reader.remaining).toBe(0)
})

test('each key signs at most once per connection', async () => {
  const sign = vi.spyOn(keys[0]!, 'sign')
  const { client } = await loggedIn({ hostKeys: keys, announceHostKeys: false })
  const inHandshake = sign.mock.calls.length
  const first = prove(keys[0]!.publicKeyBlob)
  expect((await client.global(request, first)).number).toBe(number.REQUEST_SUCCESS)
  expect((await client.global(request, first)).number).toBe(number.REQUEST_FAILURE)
  expect((await client.global(request, prove(keys[1]!.publicKeyBlob, keys[0]!.publicKeyBlob))).number).toBe(
    number.REQUEST_FAILURE,
  )
  expect(sign.mock.calls.length - inHandshake).toBe(1)
  sign.mockRestore()
})

test.each([
  ['no key', () => prove()],
  ['a key twice', () => prove(keys[0]!.publicKeyBlob, keys[0]!.publicKeyBlob)],
  ['a key that is not ours', () => prove(freshSigner().publicKeyBlob)],
  ['an empty key', () => prove(new Uint8Array(0))],
])('a request with %s is refused without a signature', async (_, payload) => {
  const { client } = await loggedIn({ hostKeys: keys })
  expect((await client.global(request, payload())).number).toBe(number.REQUEST_FAILURE)
})

test('a request that is cut short ends the connection', async () => {
  const { client } = await loggedIn({ hostKeys: keys })
  client.send(
    globalRequest.bytes({ request, wantReply: true, payload: prove(keys[0]!.publicKeyBlob).subarray(0, -1) }),
  )
  expect((await client.ended()).message).toContain('reason 2')
})

test('a request before authentication ends the connection without a signature', async () => {
  const sign = vi.spyOn(keys[1]!, 'sign')
  const { duplex } = serve({ auth: {}, hostKeys: keys })
  const client = new RawClient(duplex)
  await client.service()
  client.send(globalRequest.bytes({ request, wantReply: true, payload: prove(keys[1]!.publicKeyBlob) }))
  await client.ended()
  expect(sign).not.toHaveBeenCalled()
  sign.mockRestore()
})

test('an RSA key signs with the hash that the key exchange used', async () => {
  const proof = new HostKeyProof(keys)
  const blob = keys[2]!.publicKeyBlob
  const used = async (negotiated: string): Promise<string> => {
    const reply = await new HostKeyProof(keys).prove([keys[2]!], new Uint8Array(32), negotiated)
    return parseSignature(new Reader(reply).string()).name
  }
  expect(await used('rsa-sha2-256')).toBe('rsa-sha2-256')
  expect(await used('rsa-sha2-512')).toBe('rsa-sha2-512')
  expect(await used('ssh-ed25519')).toBe('rsa-sha2-512')
  expect(proof.take(prove(blob))).toEqual([keys[2]])
})

test('replies to other global requests keep their order behind a proof', async () => {
  const { client } = await loggedIn({ hostKeys: keys, announceHostKeys: false })
  client.queue(globalRequest.bytes({ request, wantReply: true, payload: prove(keys[2]!.publicKeyBlob) }))
  client.queue(
    globalRequest.bytes({ request: 'keepalive@openssh.com', wantReply: true, payload: new Uint8Array(0) }),
  )
  client.flush()
  expect((await client.expect(number.REQUEST_SUCCESS, number.REQUEST_FAILURE)).number).toBe(
    number.REQUEST_SUCCESS,
  )
  expect((await client.expect(number.REQUEST_SUCCESS, number.REQUEST_FAILURE)).number).toBe(
    number.REQUEST_FAILURE,
  )
})
