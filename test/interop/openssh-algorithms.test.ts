import { SftpClient } from '@sshblock/sftp'
import type { NodeClientOptions, Session } from '@sshblock/transport/node'
import { connect, keyFileAuth, nodeCrypto, pinnedFingerprint, webCrypto } from '@sshblock/transport/node'
import { expect, it } from 'vitest'
import { ALL_KEY_TYPES, clientKey, type KeyType } from '../support/keys.ts'
import {
  needsOpenssh,
  type OpensshOptions,
  type OpensshPeer,
  startOpensshServer,
} from '../support/openssh-server.ts'
import { needsOpenssh10, startOpenssh10 } from '../support/openssh10.ts'
import { describeWith } from '../support/requirements.ts'
import { seededRandom } from '../transport/core/pair.ts'

/** Connects by an ed25519 key file with the host key pinned. */
async function login(
  peer: OpensshPeer,
  options: Partial<NodeClientOptions> = {},
  key: KeyType = 'ed25519',
): Promise<Session> {
  const fingerprints = new Set(peer.hostKeys.map(({ fingerprint }) => fingerprint))
  return connect({
    host: peer.host,
    port: peer.port,
    username: peer.user,
    hostKeyPolicy: (shown) =>
      fingerprints.has(shown.fingerprint)
        ? 'trusted'
        : { problem: 'mismatch', message: `unexpected key ${shown.fingerprint}` },
    auth: [keyFileAuth((await clientKey(key)).privateFile)],
    ...options,
  })
}

/** 3 MB through `cat` and back, and the same through SFTP: what goes in comes out. */
async function exercise(session: Session, peer: OpensshPeer): Promise<void> {
  const bytes = new Uint8Array(3_000_001)
  seededRandom(42)(bytes)
  const cat = await session.exec('cat')
  const output = cat.collect()
  cat.write(bytes)
  cat.end()
  const { stdout, exit } = await output
  expect(Buffer.compare(stdout, bytes)).toBe(0)
  expect(exit).toEqual({ type: 'status', status: 0 })
  const sftp = await SftpClient.open(await session.openSubsystem('sftp'))
  const path = `${peer.paths.data}/exercise`
  await sftp.writeFile(path, bytes)
  expect(Buffer.compare(await sftp.readFile(path), bytes)).toBe(0)
  await sftp.close()
}

async function withServer(
  start: (options: OpensshOptions) => Promise<OpensshPeer>,
  options: OpensshOptions,
  client: Partial<NodeClientOptions>,
): Promise<Session> {
  const peer = await start(options)
  const session = await login(peer, client)
  await exercise(session, peer)
  await session.close()
  return session
}

const kexOld = [
  'curve25519-sha256',
  'curve25519-sha256@libssh.org',
  'ecdh-sha2-nistp256',
  'ecdh-sha2-nistp384',
  'ecdh-sha2-nistp521',
  'diffie-hellman-group14-sha256',
  'diffie-hellman-group16-sha512',
  'diffie-hellman-group18-sha512',
]
const ciphers = [
  'aes256-gcm@openssh.com',
  'aes128-gcm@openssh.com',
  'chacha20-poly1305@openssh.com',
  'aes256-ctr',
  'aes192-ctr',
  'aes128-ctr',
]
const macs = [
  'hmac-sha2-256-etm@openssh.com',
  'hmac-sha2-512-etm@openssh.com',
  'hmac-sha2-256',
  'hmac-sha2-512',
  'hmac-sha1-etm@openssh.com',
  'hmac-sha1',
]

describeWith([needsOpenssh()], 'our client with OpenSSH', () => {
  it.each(kexOld)('exchanges keys by %s when the server has nothing else', async (kex) => {
    const session = await withServer(startOpensshServer, { kexAlgorithms: kex }, {})
    expect(session.info.algorithms.kex).toBe(kex)
  })

  it.each(ciphers)('speaks %s when the server has nothing else', async (cipher) => {
    const session = await withServer(startOpensshServer, { ciphers: cipher }, {})
    expect(session.info.algorithms).toMatchObject({
      cipherClientToServer: cipher,
      cipherServerToClient: cipher,
    })
  })

  it.each(macs)('speaks aes256-ctr with %s', async (mac) => {
    const session = await withServer(
      startOpensshServer,
      { ciphers: 'aes256-ctr', macs: mac },
      { algorithms: { macs: [mac] } },
    )
    expect(session.info.algorithms.macClientToServer).toBe(mac)
  })

  it.each([
    ['ed25519', 'ssh-ed25519'],
    ['ecdsa-256', 'ecdsa-sha2-nistp256'],
    ['ecdsa-384', 'ecdsa-sha2-nistp384'],
    ['ecdsa-521', 'ecdsa-sha2-nistp521'],
    ['rsa-2048', 'rsa-sha2-512'],
    ['rsa-2048', 'rsa-sha2-256'],
  ] as const)('checks a host key of type %s by %s', async (type, algorithm) => {
    const session = await withServer(
      startOpensshServer,
      { hostKeyTypes: [type], hostKeyAlgorithms: algorithm },
      {},
    )
    expect(session.info.algorithms.hostKey).toBe(algorithm)
  })

  it.each(ALL_KEY_TYPES)('logs in with a client key of type %s', async (type) => {
    const peer = await startOpensshServer()
    const session = await login(peer, {}, type)
    expect(session.info.authentication).toMatchObject({ method: 'publickey', proved: true })
    await session.close()
  })

  it.each(['node', 'webcrypto', 'noble'] as const)('works on %s with what is fastest there', async (name) => {
    const crypto = { node: nodeCrypto, webcrypto: webCrypto(), noble: webCrypto({ nobleOnly: true }) }[name]
    const session = await withServer(startOpensshServer, {}, { crypto })
    expect(session.info.algorithms.cipherClientToServer).toBe(crypto.fastestCiphers[0])
  })

  it.each(['aes256-gcm@openssh.com', 'chacha20-poly1305@openssh.com', 'aes128-ctr'])(
    'goes on while the server rekeys every 64 KiB under %s',
    async (cipher) => {
      const peer = await startOpensshServer({ rekeyLimit: '64K', ciphers: cipher })
      let exchanges = 0
      const session = await login(peer, {
        trace: (event) => {
          if (event.event === 'new keys') exchanges++
        },
      })
      await exercise(session, peer)
      await session.close()
      expect(exchanges).toBeGreaterThan(20)
    },
  )

  it('goes on while we rekey every 64 KiB', async () => {
    const peer = await startOpensshServer()
    let exchanges = 0
    const session = await login(peer, {
      rekey: { bytes: 65_536 },
      trace: (event) => {
        if (event.event === 'new keys') exchanges++
      },
    })
    await exercise(session, peer)
    await session.close()
    expect(exchanges).toBeGreaterThan(3)
  })

  it('accepts a fingerprint in any of the forms OpenSSH and QEMU know', async () => {
    const peer = await startOpensshServer({ hostKeyTypes: ['ed25519'] })
    const policy = pinnedFingerprint(nodeCrypto, 'openssh', peer.hostKeys[0]!.fingerprint)
    const session = await login(peer, { hostKeyPolicy: policy })
    await session.close()
  })
})

const openssh10 = await needsOpenssh10()
describeWith([openssh10], 'our client with OpenSSH 10', () => {
  it.each(['mlkem768x25519-sha256', 'curve25519-sha256'])(
    'exchanges keys by %s, a hundred times',
    async (kex) => {
      const peer = await startOpenssh10({ kexAlgorithms: kex, config: ['MaxStartups 200'] })
      for (let i = 0; i < (kex.startsWith('mlkem') ? 100 : 3); i++) {
        const session = await login(peer)
        expect(session.info.algorithms.kex).toBe(kex)
        if (i === 0) await exercise(session, peer)
        await session.close()
      }
    },
  )

  it('takes ML-KEM by default and answers its pings', async () => {
    const session = await withServer(startOpenssh10, {}, {})
    expect(session.info.algorithms.kex).toBe('mlkem768x25519-sha256')
    expect(session.info.extensions).toContain('ping@openssh.com')
  })
})
