/**
 * Channels that are asked for together with what should let us in: round trips counted by the path, and what becomes of them
 * where the server says no, wants more, or is not what it says to be.
 */
import { expect, test } from 'vitest'
import { SftpClient } from '../../packages/sftp/src/index.ts'
import type {
  AuthMethod,
  NodeClientOptions,
  Session,
  SessionChannel,
} from '../../packages/transport/src/node.ts'
import { connect, insecureAcceptAnyHostKey, keyFileAuth } from '../../packages/transport/src/node.ts'
import { clientKey, unknownClientKey } from '../support/keys.ts'
import {
  needsOpenssh,
  needsOpensshAccounts,
  type OpensshOptions,
  startOpensshServer,
} from '../support/openssh-server.ts'
import { needsOpenssh10, startOpenssh10 } from '../support/openssh10.ts'
import { startOurServer } from '../support/our-server.ts'
import type { Peer } from '../support/peer.ts'
import { startProxy } from '../support/proxy.ts'
import { describeWith } from '../support/requirements.ts'

const runs = process.env['SSHBLOCK_LONG'] === undefined ? 3 : 200

const right = async () => keyFileAuth((await clientKey('ed25519')).privateFile)
const wrong = async () => keyFileAuth((await unknownClientKey('ed25519')).privateFile)

type Target = Pick<Peer, 'host' | 'port' | 'user'>

/** Logs in through a path, and tells how many round trips that and what follows took; TCP's is one of them. */
async function loggedIn(peer: Target, auth: AuthMethod[], options: Partial<NodeClientOptions> = {}) {
  const proxy = await startProxy({ target: { host: peer.host, port: peer.port }, delayMs: 1 })
  const session = await connect({
    host: proxy.host,
    port: proxy.port,
    username: peer.user,
    hostKeyPolicy: insecureAcceptAnyHostKey(),
    auth,
    earlyChannels: 1,
    ...options,
  })
  return {
    session,
    connections: () => proxy.counters().connections,
    roundTrips: () => 1 + proxy.counters().turns,
  }
}

async function isUsable(session: Session): Promise<void> {
  const client = await SftpClient.open(await session.openSubsystem('sftp', { pipelined: true }))
  await expect(client.realpath('.')).resolves.toMatch(/^\//)
  await client.close()
}

const releases = [
  { name: 'OpenSSH of this machine', start: startOpensshServer, needs: [needsOpenssh()] },
  { name: 'OpenSSH 10', start: startOpenssh10, needs: [await needsOpenssh10()] },
]

for (const { name, start, needs } of releases) {
  describeWith(needs, `early channels on ${name}`, () => {
    test('cost no round trip: SFTP answers in the sixth', async () => {
      const peer = await start()
      for (let run = 0; run < runs; run++) {
        const { session, roundTrips } = await loggedIn(peer, [await right()])
        await SftpClient.open(await session.openSubsystem('sftp', { pipelined: true }))
        expect(roundTrips()).toBe(6)
        await session.close()
      }
    })

    test('are as many as were asked for, each of use', async () => {
      const peer = await start()
      for (let run = 0; run < runs; run++) {
        const { session, connections } = await loggedIn(peer, [await right()], { earlyChannels: 8 })
        const clients = await Promise.all(
          Array.from({ length: 8 }, async () =>
            SftpClient.open(await session.openSubsystem('sftp', { pipelined: true })),
          ),
        )
        const homes = await Promise.all(clients.map((client) => client.realpath('.')))
        expect(new Set(homes).size).toBe(1)
        expect(connections()).toBe(1)
        await session.close()
      }
    })

    test('asked for behind a key that is refused, are forgotten, and others work after the next key', async () => {
      const peer = await start()
      for (let run = 0; run < runs; run++) {
        const { session, connections } = await loggedIn(peer, [await wrong(), await right()], {
          earlyChannels: 3,
        })
        expect(connections()).toBe(1)
        await isUsable(session)
        await isUsable(session)
        await session.close()
      }
    })

    test('that the server refuses (MaxSessions) leave those that it gave, and what is asked for later', async () => {
      const peer = await start({ maxSessions: 2 })
      const { session } = await loggedIn(peer, [await right()], { earlyChannels: 6 })
      const first = await session.openSubsystem('sftp')
      await isUsable(session)
      const refused = { code: 'ERR_SSH_CHANNEL_OPEN' }
      // sshd counts a channel that was closed a moment ago.
      const again = () => session.openSession('second').catch(() => undefined)
      let second: SessionChannel | undefined
      await expect.poll(async () => (second = await again())).toBeDefined()
      await expect(session.openSession('third')).rejects.toMatchObject(refused)
      second!.close()
      first.close()
      await Promise.all([first.closed, second!.closed])
      await expect
        .poll(() =>
          isUsable(session).then(
            () => true,
            () => false,
          ),
        )
        .toBe(true)
      await session.close()
    })

    test('work for a user who is held to SFTP', async () => {
      const peer = await start({ sftp: 'internal-sftp', config: ['ForceCommand internal-sftp'] })
      const { session } = await loggedIn(peer, [await right()], { earlyChannels: 2 })
      await isUsable(session)
      await session.close()
    })
  })
}

const passwordUser = { name: 'reader', password: 'correct horse' }

describeWith([needsOpenssh(), needsOpensshAccounts()], 'early channels and other ways to log in', () => {
  const password: AuthMethod = { type: 'password', password: passwordUser.password }
  const login = async (options: OpensshOptions, auth: AuthMethod[]) => {
    const peer = await startOpensshServer({ passwordUser, ...options })
    return loggedIn({ ...peer, user: passwordUser.name }, auth, { earlyChannels: 2 })
  }

  test('cost no round trip behind a password', async () => {
    const { session, roundTrips } = await login({}, [password])
    await SftpClient.open(await session.openSubsystem('sftp'))
    expect(roundTrips()).toBe(6)
    await session.close()
  })

  test('are forgotten when the password is wrong, and asked for again one by one', async () => {
    const given = ['wrong', passwordUser.password]
    const { session, connections } = await login({}, [
      { type: 'password', password: async (attempt) => given[attempt - 1] },
    ])
    await isUsable(session)
    expect(connections()).toBe(1)
    await session.close()
  })

  test.each(['publickey,password', 'publickey,keyboard-interactive', 'password,publickey'])(
    'are forgotten where the server wants more (%s)',
    async (authenticationMethods) => {
      const { session, connections } = await login({ pam: true, authenticationMethods }, [
        await right(),
        password,
        { type: 'keyboard-interactive', respond: ({ prompts }) => prompts.map(() => passwordUser.password) },
      ])
      await isUsable(session)
      expect(connections()).toBe(1)
      await session.close()
    },
  )
})

describeWith([needsOpenssh()], 'early channels where they are not borne', () => {
  test('are not asked for', async () => {
    const { session, connections } = await loggedIn(await startOurServer(), [await wrong(), await right()])
    await isUsable(session)
    expect(connections()).toBe(1)
    await session.close()
  })

  test('by a server that only calls itself OpenSSH, are left out of a second connection', async () => {
    const peer = await startOurServer({ identification: 'SSH-2.0-OpenSSH_9.2p1' })
    const { session, connections } = await loggedIn(peer, [await wrong(), await right()])
    await isUsable(session)
    expect(connections()).toBe(2)
    await session.close()
  })

  test('are not what a server hangs up about that counts tries', async () => {
    const peer = await startOpensshServer({ maxAuthTries: 1 })
    const proxy = await startProxy({ target: { host: peer.host, port: peer.port } })
    const login = connect({
      host: proxy.host,
      port: proxy.port,
      username: peer.user,
      hostKeyPolicy: insecureAcceptAnyHostKey(),
      auth: [await wrong(), await wrong()],
      earlyChannels: 1,
    })
    await expect(login).rejects.toMatchObject({ code: 'ERR_SSH_DISCONNECTED' })
    expect(proxy.counters().connections).toBe(1)
  })
})
