import { nodeCrypto, signerFromPrivateKey, webCrypto } from '@sshblock/transport/node'
import { describe, expect, it } from 'vitest'
import type { CryptoProvider } from '../../../packages/transport/src/crypto/provider.ts'
import { kexMethod, knownKexMethods } from '../../../packages/transport/src/kex/methods.ts'
import { generateKeyPair } from '../../../packages/transport/src/keys/generate.ts'
import { generateRsaKeyPair } from '../../../packages/transport/src/keys/node-generate.ts'
import type { Signer } from '../../../packages/transport/src/keys/signer.ts'
import { isAead, knownCiphers, knownMacs } from '../../../packages/transport/src/packet/suites.ts'
import { ed25519HostKey, Pair, seededRandom } from './pair.ts'

const kexNames = knownKexMethods.filter((name) => kexMethod(name)!.server !== undefined)
const suites = knownCiphers.flatMap((cipher) =>
  isAead(cipher) ? [{ cipher, mac: 'hmac-sha2-256' }] : knownMacs.map((mac) => ({ cipher, mac })),
)
const web = webCrypto()
const noble = webCrypto({ nobleOnly: true })

async function signers(): Promise<Map<string, Signer>> {
  const found = new Map<string, Signer>([['ssh-ed25519', ed25519HostKey()]])
  for (const type of ['ecdsa-sha2-nistp256', 'ecdsa-sha2-nistp384', 'ecdsa-sha2-nistp521'] as const) {
    found.set(type, signerFromPrivateKey(nodeCrypto, generateKeyPair(nodeCrypto, type, seededRandom(5))))
  }
  const rsa = signerFromPrivateKey(nodeCrypto, await generateRsaKeyPair(2048))
  found.set('rsa-sha2-512', rsa)
  found.set('rsa-sha2-256', rsa)
  return found
}

/** A handshake, 40 000 bytes each way on a channel, and new keys in the middle where asked for. */
async function roundTrip(
  kex: string,
  suite: { cipher: string; mac: string },
  hostKey: string,
  signer: Signer,
  client: CryptoProvider,
  server: CryptoProvider,
  rekey = true,
): Promise<void> {
  const algorithms = { kex: [kex], ciphers: [suite.cipher], macs: [suite.mac], hostKeys: [hostKey] }
  const pair = new Pair({
    clientCrypto: client,
    serverCrypto: server,
    hostKeys: [signer],
    clientAlgorithms: algorithms,
    serverAlgorithms: algorithms,
  })
  const received = { client: 0, server: 0 }
  let sum = 0
  pair.onEvent = (side, event) => {
    if (event.type === 'channel-open') {
      const channel = event.incoming.accept()
      channel.write(new Uint8Array(40_000).fill(7))
    }
    if (event.type === 'channel-data') {
      received[side] += event.data.length
      sum += event.data[0]! + event.data[event.data.length - 1]!
      event.channel.consumed(event.data.length)
    }
  }
  await pair.open()
  expect(pair.client.core.transport.algorithms).toMatchObject({
    kex,
    hostKey,
    cipherClientToServer: suite.cipher,
    strict: true,
  })
  pair.client.core.mux.open('session', new Uint8Array(0), (channel) => {
    if (channel instanceof Error) throw channel
    channel.write(new Uint8Array(40_000).fill(9))
  })
  await pair.settle()
  if (rekey) {
    pair.server.core.transport.rekey()
    await pair.settle()
  }
  expect(received).toEqual({ client: 40_000, server: 40_000 })
  expect(sum).toBeGreaterThan(0)
  expect(pair.failure('client')).toBeUndefined()
  expect(pair.failure('server')).toBeUndefined()
}

describe('client and server halves agree', async () => {
  const keys = await signers()

  it.each(kexNames)('%s with every cipher, MAC and host key, on node:crypto', async (kex) => {
    for (const suite of suites)
      for (const [hostKey, signer] of keys)
        await roundTrip(kex, suite, hostKey, signer, nodeCrypto, nodeCrypto, hostKey === 'ssh-ed25519')
  })

  it.each(kexNames)('%s with every host key between node:crypto and WebCrypto, both ways', async (kex) => {
    const suite = suites[0]!
    for (const [hostKey, signer] of keys) {
      await roundTrip(kex, suite, hostKey, signer, web, nodeCrypto)
      await roundTrip(kex, suite, hostKey, signer, nodeCrypto, web)
    }
  })

  it.each(suites)('$cipher $mac between every two providers', async (suite) => {
    const signer = ed25519HostKey()
    const providers = [nodeCrypto, web, noble]
    for (const client of providers)
      for (const server of providers)
        await roundTrip('curve25519-sha256', suite, 'ssh-ed25519', signer, client, server)
  })

  it.each(kexNames)('%s on noble alone with every host key it can check', async (kex) => {
    for (const [hostKey, signer] of keys) {
      if (noble.supportsKey(hostKey.startsWith('rsa') ? 'rsa' : 'ed25519'))
        await roundTrip(kex, suites[2]!, hostKey, signer, noble, noble)
    }
  })
})
