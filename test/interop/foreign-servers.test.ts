import { SftpClient } from '@sshblock/sftp'
import type { NodeClientOptions, Session } from '@sshblock/transport/node'
import { connect, keyFileAuth } from '@sshblock/transport/node'
import { expect, it } from 'vitest'
import { needsAsyncssh, startAsyncssh } from '../support/asyncssh-server.ts'
import { needsDropbear, startDropbear } from '../support/dropbear-server.ts'
import { needsGesftp, startGesftpServer } from '../support/gesftp-server.ts'
import { clientKey, type KeyType } from '../support/keys.ts'
import { needsParamiko, startParamiko } from '../support/paramiko-server.ts'
import type { Peer } from '../support/peer.ts'
import { describeWith } from '../support/requirements.ts'
import { needsTinyssh, startTinyssh } from '../support/tinyssh-server.ts'
import { needsTrixie } from '../support/trixie.ts'
import { seededRandom } from '../transport/core/pair.ts'

type AnyPeer = Pick<Peer, 'host' | 'port' | 'user' | 'hostKeys' | 'paths'>

async function login(
  peer: AnyPeer,
  options: Partial<NodeClientOptions> = {},
  key: KeyType = 'ed25519',
): Promise<Session> {
  const fingerprints = new Set(peer.hostKeys.map(({ fingerprint }) => fingerprint))
  return connect({
    host: peer.host,
    port: peer.port,
    username: peer.user,
    hostKeyPolicy: (shown) =>
      fingerprints.has(shown.fingerprint) ? 'trusted' : { problem: 'mismatch', message: shown.fingerprint },
    auth: [keyFileAuth((await clientKey(key)).privateFile)],
    ...options,
  })
}

/** What every server can do: files up and down by hash, listing, renaming, errors with a name. */
async function exerciseSftp(session: Session, dir: string): Promise<void> {
  const sftp = await SftpClient.open(await session.openSubsystem('sftp'), {
    serverIdentification: session.info.peerIdentification,
  })
  const bytes = new Uint8Array(1_500_003)
  seededRandom(7)(bytes)
  await sftp.mkdir(`${dir}/sub`)
  await sftp.writeFile(`${dir}/sub/a.bin`, bytes)
  expect(Buffer.compare(await sftp.readFile(`${dir}/sub/a.bin`), bytes)).toBe(0)
  expect((await sftp.stat(`${dir}/sub/a.bin`)).size).toBe(bytes.length)
  await sftp.rename(`${dir}/sub/a.bin`, `${dir}/sub/b.bin`)
  await sftp.symlink('b.bin', `${dir}/sub/link`)
  expect(await sftp.readlink(`${dir}/sub/link`)).toMatch(/b\.bin$/)
  const names: string[] = []
  for await (const entry of sftp.readdir(`${dir}/sub`)) names.push(entry.name)
  expect(names.sort()).toEqual(['b.bin', 'link'])
  const file = await sftp.open(`${dir}/sub/b.bin`, 'r+')
  await file.write(1000, Uint8Array.of(1, 2, 3))
  const piece = new Uint8Array(5)
  expect(await file.read(999, piece)).toBe(5)
  expect([...piece.subarray(1, 4)]).toEqual([1, 2, 3])
  expect(await file.read(bytes.length + 10, piece)).toBe(0)
  await file.close()
  await expect(sftp.stat(`${dir}/nowhere`)).rejects.toMatchObject({ code: 'ENOENT' })
  await sftp.rm(`${dir}/sub`, { recursive: true })
  await sftp.close()
}

const trixie = await needsTrixie()

describeWith([needsDropbear()], 'our client with dropbear', () => {
  it.each(['ed25519', 'ecdsa-256', 'rsa-2048'] as const)(
    'logs in with %s, runs a command, moves files',
    async (key) => {
      const peer = await startDropbear()
      const session = await login(peer, {}, key)
      const { stdout, exit } = await (await session.exec('printf hi; exit 5')).collect()
      expect([...stdout]).toEqual([104, 105])
      expect(exit).toEqual({ type: 'status', status: 5 })
      await exerciseSftp(session, peer.paths.data)
      session.rekey()
      await exerciseSftp(session, peer.paths.data)
      await session.close()
    },
  )
})

describeWith([needsDropbear(), trixie], 'our client with dropbear 2025', () => {
  it('negotiates each direction on its own and takes ML-KEM', async () => {
    const peer = await startDropbear({ release: 'trixie' })
    const session = await login(peer)
    expect(session.info.algorithms.kex).toBe('mlkem768x25519-sha256')
    expect((await (await session.exec('printf hi')).collect()).stdout).toHaveLength(2)
    await session.close()
  })
})

describeWith([needsAsyncssh()], 'our client with asyncssh', () => {
  it.each(['ed25519', 'ecdsa-384', 'rsa-2048'] as const)('logs in with %s and moves files', async (key) => {
    const peer = await startAsyncssh()
    const session = await login(peer, {}, key)
    await exerciseSftp(session, peer.paths.data)
    await session.close()
  })

  it('tells by name that asyncssh 2.10 goes on sending data after its own KEXINIT (RFC 4253 s7.1)', async () => {
    const peer = await startAsyncssh({ options: { rekey_bytes: 65_536 } })
    const session = await login(peer)
    await expect(exerciseSftp(session, peer.paths.data)).rejects.toThrow()
    expect(session.failure).toMatchObject({
      code: 'ERR_SSH_PROTOCOL',
      phase: 'rekeying',
      message: expect.stringMatching(/CHANNEL_\w+ \(\d+\) is not allowed/),
    })
  })
})

describeWith([trixie], 'our client with a newer asyncssh', () => {
  it.each([1_000_000_000, 65_536])('moves files while it rekeys every %i bytes', async (rekeyBytes) => {
    const peer = await startAsyncssh({ release: 'trixie', options: { rekey_bytes: rekeyBytes } })
    const session = await login(peer)
    await exerciseSftp(session, peer.paths.data)
    await session.close()
  })
})

describeWith([needsParamiko()], 'our client with paramiko', () => {
  it.each(['ed25519', 'ecdsa-256', 'rsa-2048'] as const)('logs in with %s and moves files', async (key) => {
    const peer = await startParamiko()
    const session = await login(peer, {}, key)
    await exerciseSftp(session, peer.paths.data)
    await session.close()
  })

  it('connects again without encrypt-then-MAC where strict key exchange is missing', async () => {
    const peer = await startParamiko()
    const session = await login(peer)
    const { strict, cipherClientToServer, macClientToServer } = session.info.algorithms
    if (!strict) expect(`${cipherClientToServer} ${macClientToServer}`).not.toMatch(/chacha|etm/)
    await session.close()
  })
})

describeWith([needsGesftp()], 'our client with gesftpserver', () => {
  it('moves files', async () => {
    const peer = await startGesftpServer()
    const session = await login(peer)
    await exerciseSftp(session, peer.paths.data)
    await session.close()
  })
})

describeWith([needsTinyssh()], 'our client with tinyssh', () => {
  it('says which option lets it use the only cipher there is, and then works over one channel', async () => {
    const peer = await startTinyssh()
    const refused = await login(peer).then(
      async (session) => {
        const { strict } = session.info.algorithms
        await session.close()
        return strict ? undefined : new Error('connected without strict key exchange')
      },
      (error: Error & { code: string }) => error,
    )
    if (refused !== undefined)
      expect(refused).toMatchObject({
        code: expect.stringMatching(/TERRAPIN|NEGOTIATION/),
        message: expect.stringMatching(/allowTerrapin|no common/),
      })
    const session = await login(peer, { allowTerrapin: true })
    expect(session.info.algorithms.cipherClientToServer).toBe('chacha20-poly1305@openssh.com')
    const { stdout } = await (await session.exec('printf hi')).collect()
    expect(stdout).toHaveLength(2)
    await session.close()
  })
})
