/** The subsystem, and what is said to it, in one go: round trips counted by the path, and what a refusal looks like. */
import { expect, test } from 'vitest'
import { SftpClient } from '../../packages/sftp/src/index.ts'
import { connect, insecureAcceptAnyHostKey, keyFileAuth } from '../../packages/transport/src/node.ts'
import { clientKey } from '../support/keys.ts'
import { needsOpenssh, type OpensshOptions, startOpensshServer } from '../support/openssh-server.ts'
import { startOurServer } from '../support/our-server.ts'
import { startProxy } from '../support/proxy.ts'
import { describeWith } from '../support/requirements.ts'

const openssh = (options: OpensshOptions = {}) => startOpensshServer(options)

async function loggedIn(peer: { host: string; port: number; user: string }) {
  const proxy = await startProxy({ target: { host: peer.host, port: peer.port }, delayMs: 5 })
  const session = await connect({
    host: proxy.host,
    port: proxy.port,
    username: peer.user,
    hostKeyPolicy: insecureAcceptAnyHostKey(),
    auth: [keyFileAuth((await clientKey('ed25519')).privateFile)],
  })
  return { session, turns: () => proxy.counters().turns }
}

describeWith([needsOpenssh()], 'a subsystem that is asked for and used in one go', () => {
  test('takes a round trip less to SFTP, and works as any', async () => {
    const count = async (pipelined: boolean): Promise<number> => {
      // Ours: OpenSSH's gives the channel no window before it took the request.
      const { session, turns } = await loggedIn(await startOurServer())
      const before = turns()
      const client = await SftpClient.open(await session.openSubsystem('sftp', { pipelined }))
      const used = turns() - before
      await client.limitsKnown
      await expect(client.realpath('.')).resolves.toMatch(/^\//)
      await session.close()
      return used
    }
    expect(await count(false)).toBe(3)
    expect(await count(true)).toBe(2)
  })

  test('is refused with the same error, only later', async () => {
    const { session } = await loggedIn(await openssh({ sftp: null }))
    const refused = { code: 'ERR_SSH_REQUEST_REFUSED' }
    await expect(session.openSubsystem('sftp')).rejects.toMatchObject(refused)
    const channel = await session.openSubsystem('sftp', { pipelined: true })
    await expect(SftpClient.open(channel)).rejects.toMatchObject(refused)
    await session.close()
  })

  test('a login takes four round trips: one for TCP, identification and proposals, key exchange, authentication', async () => {
    const { session, turns } = await loggedIn(await openssh())
    expect(1 + turns()).toBe(4)
    await session.close()
  })

  test('the cipher agreed on is the fastest of the runtime, and the session says why', async () => {
    const { session } = await loggedIn(await openssh())
    const { algorithms, cipherOrder } = session.info
    expect(algorithms.cipherServerToClient).toBe(cipherOrder.names[0])
    expect(cipherOrder.names[0]).toBe('aes256-gcm@openssh.com')
    expect(cipherOrder.reason).toContain('OpenSSL')
    await session.close()
  })
})
