import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { nodeCrypto } from '../../../packages/transport/src/crypto/node.ts'
import { systemRandom } from '../../../packages/transport/src/crypto/random.ts'
import { KeyFormatError } from '../../../packages/transport/src/errors.ts'
import { generateKeyPair } from '../../../packages/transport/src/keys/generate.ts'
import { generateRsaKeyPair } from '../../../packages/transport/src/keys/node-generate.ts'
import { parsePrivateKey } from '../../../packages/transport/src/keys/private-key.ts'
import { verifySignature } from '../../../packages/transport/src/keys/signature.ts'
import { signerFromAgent, signerFromPrivateKey } from '../../../packages/transport/src/keys/signer.ts'
import { utf8Bytes } from '../../../packages/transport/src/wire/bytes.ts'
import { Writer } from '../../../packages/transport/src/wire/writer.ts'
import { clientKey } from '../../support/keys.ts'
import { describeWith, needsPrograms } from '../../support/requirements.ts'
import { certify } from './certificates.ts'
import { softwareToken } from './sk-key.ts'

const data = utf8Bytes('data')

test('a private key signs under its own name, RSA with SHA-2 only, SHA-512 first', async () => {
  for (const key of [
    generateKeyPair(nodeCrypto, 'ed25519', systemRandom, 'c'),
    await generateRsaKeyPair(2048, 'c'),
  ]) {
    const signer = signerFromPrivateKey(nodeCrypto, key)
    expect(signer).toMatchObject({ publicKeyBlob: key.publicKey.blob, keyType: key.type, comment: 'c' })
    expect(signer.algorithms).toEqual(
      key.type === 'ssh-rsa' ? ['rsa-sha2-512', 'rsa-sha2-256'] : ['ssh-ed25519'],
    )
    for (const algorithm of signer.algorithms) {
      expect(
        await verifySignature(nodeCrypto, key.publicKey, algorithm, data, await signer.sign(algorithm, data)),
      ).toBe(true)
    }
    expect(() => signer.sign('ssh-rsa', data)).toThrow(KeyFormatError)
  }
})

describeWith([needsPrograms('ssh-keygen', ['ssh-keygen'], 'openssh-client')], 'certificates', () => {
  test.each(['ed25519', 'rsa-2048'] as const)(
    '%s: offered as the certificate, signed by the key',
    async (type) => {
      const pair = await clientKey(type)
      const key = await parsePrivateKey(nodeCrypto, readFileSync(pair.privateFile))
      const certificate = await certify(await clientKey('ecdsa-256'), pair, ['-n', 'somebody'])
      const signer = signerFromPrivateKey(nodeCrypto, key, { certificate })
      expect(signer.publicKeyBlob).toBe(certificate.blob)
      expect(signer.keyType).toBe(certificate.type)
      expect(signer.algorithms[0]).toBe(
        type === 'ed25519' ? 'ssh-ed25519-cert-v01@openssh.com' : 'rsa-sha2-512-cert-v01@openssh.com',
      )
      for (const algorithm of signer.algorithms) {
        expect(
          await verifySignature(nodeCrypto, certificate, algorithm, data, await signer.sign(algorithm, data)),
        ).toBe(true)
      }
      const stranger = generateKeyPair(nodeCrypto, 'ed25519', systemRandom)
      expect(() => signerFromPrivateKey(nodeCrypto, stranger, { certificate })).toThrow(
        /not one of this private key/,
      )
    },
  )
})

test('a security key signs through an agent only', () => {
  const token = softwareToken('sk-ssh-ed25519@openssh.com')
  expect(() => signerFromPrivateKey(nodeCrypto, token.privateKey)).toThrow(/agent/)
  const agent = { sign: async () => new Uint8Array(0) }
  expect(signerFromAgent(agent, { keyBlob: token.publicKey.blob, comment: '' }).algorithms).toEqual([
    token.type,
  ])
})

test('an agent is asked with the flags of the algorithm', async () => {
  const asked: number[] = []
  const agent = {
    sign: async (_: Uint8Array, __: Uint8Array, flags: number) => {
      asked.push(flags)
      return new Uint8Array(0)
    },
  }
  const rsa = await generateRsaKeyPair(2048)
  const signer = signerFromAgent(agent, { keyBlob: rsa.publicKey.blob, comment: '' })
  for (const algorithm of signer.algorithms) await signer.sign(algorithm, data)
  const ed25519 = signerFromAgent(agent, {
    keyBlob: generateKeyPair(nodeCrypto, 'ed25519', systemRandom).publicKey.blob,
    comment: '',
  })
  await ed25519.sign('ssh-ed25519', data)
  expect(asked).toEqual([4, 2, 0])
  expect(() => signer.sign('ssh-rsa', data)).toThrow(KeyFormatError)
  expect(() => ed25519.sign('rsa-sha2-512', data)).toThrow(KeyFormatError)
})

test('an agent identity of a type that is not known, or malformed, is a KeyFormatError', () => {
  const agent = { sign: async () => new Uint8Array(0) }
  const blobs = [
    new Uint8Array(0),
    new Writer().text('ssh-dss').copy(),
    new Writer().text('ssh-ed25519').copy(),
  ]
  for (const keyBlob of blobs)
    expect(() => signerFromAgent(agent, { keyBlob, comment: '' })).toThrow(KeyFormatError)
})
