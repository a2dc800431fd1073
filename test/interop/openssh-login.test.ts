import { writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import type { AuthMethod, HostKeyPolicy, NodeClientOptions, Session } from '@sshblock/transport/node'
import {
  addKnownHost,
  agentAuth,
  connect,
  insecureAcceptAnyHostKey,
  KnownHosts,
  keyFileAuth,
  knownHostsFilesPolicy,
  nodeCrypto,
  pinnedFingerprint,
  publicKeyFromText,
} from '@sshblock/transport/node'
import { beforeAll, expect, it } from 'vitest'
import { freePort } from '../support/free-port.ts'
import { clientKey, hexFingerprint, strangerHostKey, unknownClientKey } from '../support/keys.ts'
import {
  needsOpenssh,
  needsOpensshAccounts,
  type OpensshPeer,
  startOpensshServer,
} from '../support/openssh-server.ts'
import { signal } from '../support/process-tree.ts'
import { startProxy } from '../support/proxy.ts'
import { describeWith } from '../support/requirements.ts'
import { sessionsOf } from '../support/server-process.ts'
import { needsAgent, startAgent } from '../support/ssh-agent.ts'
import { tempDir } from '../support/temp-dir.ts'

const any = insecureAcceptAnyHostKey()

function to(
  peer: { host: string; port: number; user: string },
  auth: AuthMethod[],
  more: Partial<NodeClientOptions> = {},
): Promise<Session> {
  return connect({ host: peer.host, port: peer.port, username: peer.user, hostKeyPolicy: any, auth, ...more })
}

async function failure(
  work: Promise<Session>,
): Promise<Error & { code: string; attempts?: { method: string; reason: string }[]; allowed?: string[] }> {
  try {
    await (await work).close()
  } catch (error) {
    return error as Error & { code: string }
  }
  throw new Error('expected a failure')
}

describeWith([needsOpenssh(), needsAgent()], 'logging in to OpenSSH', () => {
  let peer: OpensshPeer
  beforeAll(async () => {
    peer = await startOpensshServer({ scope: 'file' })
  })

  it('uses the identities of an agent in its order, and stops at the one that fits', async () => {
    const agent = await startAgent({
      keys: [await unknownClientKey('ed25519'), await clientKey('rsa-2048'), await clientKey('ed25519')],
    })
    const session = await to(peer, [agentAuth({ socketPath: agent.socket })])
    expect(session.info.authentication?.publicKey).toEqual(new Uint8Array((await clientKey('rsa-2048')).blob))
    await session.close()
  })

  it('uses only the identities it is told to', async () => {
    const agent = await startAgent({ keys: [await clientKey('ed25519'), await clientKey('rsa-2048')] })
    const only = [new Uint8Array((await clientKey('rsa-2048')).blob)]
    const session = await to(peer, [agentAuth({ socketPath: agent.socket, only })])
    expect(session.info.authentication?.publicKey).toEqual(only[0])
    await session.close()
  })

  it.each(['ed25519', 'ecdsa-256', 'ecdsa-384', 'ecdsa-521', 'rsa-2048'] as const)(
    'signs by an agent with a key of type %s',
    async (type) => {
      const agent = await startAgent({ keys: [await clientKey(type)] })
      const session = await to(peer, [agentAuth({ socketPath: agent.socket })])
      expect(session.info.authentication?.method).toBe('publickey')
      await session.close()
    },
  )

  it('binds the session, so that a key constrained to this host signs here and nowhere else', async () => {
    const key = await clientKey('ed25519')
    for (const [hosts, works] of [
      [`[${peer.host}]:${peer.port}`, true],
      ['[127.0.0.9]:1', false],
    ] as const) {
      const agent = await startAgent()
      const file = join(tempDir('constraints'), 'known_hosts')
      const lines = peer.hostKeys.map(({ publicLine }) => `[${peer.host}]:${peer.port} ${publicLine}`)
      const other = await strangerHostKey('ed25519')
      writeFileSync(file, `${lines.join('\n')}\n[127.0.0.9]:1 ${other.publicLine}\n`)
      await agent.add(key, { args: ['-h', hosts, '-H', file] })
      const login = to(peer, [agentAuth({ socketPath: agent.socket })])
      if (works) await (await login).close()
      else expect(await failure(login)).toMatchObject({ code: 'ERR_SSH_AUTH' })
    }
  })

  it('leaves tries for the methods after an agent with many keys', async () => {
    const keys = []
    for (let i = 0; i < 8; i++) keys.push(await unknownClientKey('ed25519'))
    const agent = await startAgent({ keys })
    const many = agentAuth({ socketPath: agent.socket })
    const session = await to(peer, [many, keyFileAuth((await clientKey('ed25519')).privateFile)])
    expect(session.info.authentication?.source).toMatch(/key file/)
    await session.close()
  })

  it.each(['aes256-ctr', 'aes256-gcm@openssh.com', 'chacha20-poly1305@openssh.com'])(
    'opens a key file encrypted with %s',
    async (cipher) => {
      const key = await clientKey('ed25519', { passphrase: 'open sesame', cipher })
      const own = await startOpensshServer({ authorizedKeys: [key.publicLine] })
      const session = await to(own, [keyFileAuth(key.privateFile, { passphrase: 'open sesame' })])
      await session.close()
      const wrong = await failure(to(own, [keyFileAuth(key.privateFile, { passphrase: 'wrong' })]))
      expect(wrong).toMatchObject({ code: 'ERR_SSH_AUTH' })
      expect(wrong.message).toMatch(/passphrase/)
      const none = await failure(to(own, [keyFileAuth(key.privateFile)]))
      expect(none.message).toMatch(/passphrase/)
    },
  )

  it('says what was tried, what the server allows and why each failed', async () => {
    const stranger = await unknownClientKey('ed25519')
    const error = await failure(
      to(peer, [
        keyFileAuth(stranger.privateFile),
        keyFileAuth('/nowhere/key'),
        { type: 'password', password: 'x' },
      ]),
    )
    expect(error.code).toBe('ERR_SSH_AUTH')
    expect(error.attempts?.map(({ reason }) => reason)).toEqual([
      'refused by the server',
      expect.stringMatching(/ENOENT/),
      expect.any(String),
    ])
    expect(error.allowed).toContain('publickey')
    expect(error.message).toMatch(/the server allows .*publickey.*tried publickey/)
  })

  it('learns the methods with "none" when it has nothing to offer', async () => {
    const error = await failure(to(peer, []))
    expect(error.allowed).toContain('publickey')
    expect(error.message).toMatch(/no authentication method was given/)
  })

  it('names methods tried when the user does not exist', async () => {
    const error = await failure(
      to({ ...peer, user: 'invalid user' }, [keyFileAuth((await clientKey('ed25519')).privateFile)]),
    )
    expect(error.message).toMatch(/"invalid user".*publickey/)
  })

  it('stops before the server closes the connection for too many tries', async () => {
    const methods: AuthMethod[] = []
    for (let i = 0; i < 9; i++) methods.push(keyFileAuth((await unknownClientKey('ed25519')).privateFile))
    const error = await failure(to(peer, methods))
    expect(error).toMatchObject({ code: 'ERR_SSH_AUTH' })
    expect(error.message).toMatch(/stopped after 5 refused attempts/)
  })
})

describeWith([needsOpenssh(), needsOpensshAccounts()], 'passwords and several methods', () => {
  const passwordUser = { name: 'reader', password: 'correct horse' }

  it('logs in by password, and asks again up to three times', async () => {
    const peer = await startOpensshServer({ passwordUser })
    const user = { ...peer, user: passwordUser.name }
    const session = await to(user, [{ type: 'password', password: passwordUser.password }])
    expect(session.info.authentication?.method).toBe('password')
    await session.close()
    const given = ['wrong', 'also wrong', passwordUser.password]
    const again = await to(user, [{ type: 'password', password: async (attempt) => given[attempt - 1] }])
    await again.close()
    expect((await failure(to(user, [{ type: 'password', password: 'wrong' }]))).attempts).toHaveLength(1)
  })

  it('answers keyboard-interactive prompts', async () => {
    const peer = await startOpensshServer({ passwordUser, pam: true })
    const seen: string[] = []
    const session = await to({ ...peer, user: passwordUser.name }, [
      {
        type: 'keyboard-interactive',
        respond: ({ prompts }) => {
          seen.push(...prompts.map(({ prompt, echo }) => `${prompt}${echo}`))
          return prompts.map(() => passwordUser.password)
        },
      },
    ])
    expect(seen).toEqual(['Password: false'])
    expect(session.info.authentication).toMatchObject({ method: 'keyboard-interactive', proved: true })
    await session.close()
  })

  it.each(['publickey,password', 'password,publickey', 'publickey,keyboard-interactive'])(
    'passes %s one after the other (partial success)',
    async (methods) => {
      const peer = await startOpensshServer({ passwordUser, pam: true, authenticationMethods: methods })
      const session = await to({ ...peer, user: passwordUser.name }, [
        keyFileAuth((await clientKey('ed25519')).privateFile),
        { type: 'password', password: passwordUser.password },
        { type: 'keyboard-interactive', respond: ({ prompts }) => prompts.map(() => passwordUser.password) },
      ])
      await session.close()
      const error = await failure(
        to({ ...peer, user: passwordUser.name }, [keyFileAuth((await clientKey('ed25519')).privateFile)]),
      )
      expect(error.message).toMatch(
        methods.startsWith('publickey') ? /accepted, but the server wants more/ : /refused by the server/,
      )
    },
  )
})

describeWith([needsOpenssh()], 'trusting the server', () => {
  let peer: OpensshPeer
  let key: AuthMethod
  beforeAll(async () => {
    peer = await startOpensshServer({ scope: 'file' })
    key = keyFileAuth((await clientKey('ed25519')).privateFile)
  })
  const policy = (text: string): Promise<HostKeyPolicy> => {
    const file = join(tempDir('known'), 'known_hosts')
    writeFileSync(file, text)
    return knownHostsFilesPolicy({ host: peer.host, port: peer.port, files: [file] })
  }
  const line = (index: number): string => `[${peer.host}]:${peer.port} ${peer.hostKeys[index]!.publicLine}\n`

  it('refuses to connect without a policy', async () => {
    const options = {
      host: peer.host,
      port: peer.port,
      username: peer.user,
      auth: [key],
    } as unknown as NodeClientOptions
    expect(await failure(connect(options))).toMatchObject({ code: 'ERR_SSH_HOST_KEY_NO_POLICY' })
  })

  it('accepts each host key that known_hosts names, and asks for that type', async () => {
    for (const [index, type] of [
      [0, 'ssh-ed25519'],
      [1, 'ecdsa-sha2-nistp256'],
      [2, 'ssh-rsa'],
    ] as const) {
      const session = await to(peer, [key], { hostKeyPolicy: await policy(line(index)) })
      expect(session.info.hostKey.type).toBe(type)
      await session.close()
    }
  })

  it('accepts a hashed name that OpenSSH would', async () => {
    const file = join(tempDir('hashed'), 'known_hosts')
    const { publicKey } = publicKeyFromText(peer.hostKeys[0]!.publicLine)
    await addKnownHost(nodeCrypto, file, { host: peer.host, port: peer.port, key: publicKey, hash: true })
    const session = await to(peer, [key], {
      hostKeyPolicy: await knownHostsFilesPolicy({ host: peer.host, port: peer.port, files: [file] }),
    })
    await session.close()
  })

  it.each([
    ['unknown', async (): Promise<string> => '', 'ERR_SSH_HOST_KEY_UNKNOWN'],
    [
      'another key of the type',
      async (): Promise<string> =>
        `[127.0.0.1]:${peer.port} ${(await strangerHostKey('ed25519')).publicLine}\n`,
      'ERR_SSH_HOST_KEY_CHANGED',
    ],
    [
      'revoked',
      async (): Promise<string> => `@revoked * ${peer.hostKeys[0]!.publicLine}\n${line(0)}`,
      'ERR_SSH_HOST_KEY_REVOKED',
    ],
  ] as const)('refuses a host that is %s, and sends nothing of the user', async (_, text, code) => {
    const before = peer.log().length
    const error = await failure(to(peer, [key], { hostKeyPolicy: await policy(await text()) }))
    expect(error.code).toBe(code)
    expect(error.message).toMatch(/SHA256:/)
    expect(peer.log().slice(before)).not.toMatch(/userauth|Accepted|Failed/)
  })

  it('takes a key of another type than the known one for a change, not for an unknown host', async () => {
    const own = await startOpensshServer({ hostKeyTypes: ['rsa-2048'] })
    const known = KnownHosts.parse(
      `[${own.host}]:${own.port} ${(await strangerHostKey('ed25519')).publicLine}\n`,
    )
    const { knownHostsPolicy } = await import('@sshblock/transport')
    const error = await failure(to(own, [key], { hostKeyPolicy: knownHostsPolicy(nodeCrypto, known, own) }))
    expect(error.code).toBe('ERR_SSH_HOST_KEY_CHANGED')
  })

  it.each(['md5', 'sha1', 'sha256'] as const)(
    'accepts the right %s fingerprint and refuses a wrong one',
    async (hash) => {
      const hex = hexFingerprint(peer.hostKeys[0]!.blob, hash)
      const right = await to(peer, [key], {
        hostKeyPolicy: pinnedFingerprint(nodeCrypto, hash, hex),
        algorithms: { hostKeys: ['ssh-ed25519'] },
      })
      await right.close()
      const wrong = hex.replace(/^./, (digit) => (digit === '0' ? '1' : '0'))
      const error = await failure(
        to(peer, [key], {
          hostKeyPolicy: pinnedFingerprint(nodeCrypto, hash, wrong),
          algorithms: { hostKeys: ['ssh-ed25519'] },
        }),
      )
      expect(error.code).toBe('ERR_SSH_HOST_KEY_MISMATCH')
    },
  )

  it('fails closed when the policy throws or answers nonsense', async () => {
    const throwing = await failure(
      to(peer, [key], { hostKeyPolicy: () => Promise.reject(new Error('database away')) }),
    )
    expect(throwing.message).toMatch(/database away/)
    const nonsense = await failure(to(peer, [key], { hostKeyPolicy: (() => true) as never }))
    expect(nonsense.code).toBe('ERR_SSH_HOST_KEY_NO_POLICY')
  })
})

describeWith([needsOpenssh()], 'a connection that does not come about, or ends', () => {
  let key: AuthMethod
  beforeAll(async () => {
    key = keyFileAuth((await clientKey('ed25519')).privateFile)
  })

  it('gives each wrong thing its own code', async () => {
    const closed = await freePort()
    expect(await failure(to({ host: '127.0.0.1', port: closed, user: 'x' }, [key]))).toMatchObject({
      code: 'ECONNREFUSED',
      phase: 'connecting',
    })
    expect(await failure(to({ host: 'no-such-host.invalid', port: 22, user: 'x' }, [key]))).toMatchObject({
      code: expect.stringMatching(/ENOTFOUND|EAI_AGAIN/),
    })
    const peer = await startOpensshServer({ sftp: null })
    const session = await to(peer, [key])
    await expect(session.openSubsystem('sftp')).rejects.toMatchObject({ code: 'ERR_SSH_REQUEST_REFUSED' })
    await expect(session.openDirectTcpip('127.0.0.1', closed)).rejects.toMatchObject({
      code: 'ERR_SSH_CHANNEL_OPEN',
    })
    await session.close()
    await expect(session.exec('true')).rejects.toMatchObject({ code: 'ERR_CLOSED' })
    const picky = await startOpensshServer({ ciphers: 'aes256-ctr' })
    const nothing = await failure(to(picky, [key], { algorithms: { ciphers: ['aes128-ctr'] } }))
    expect(nothing).toMatchObject({
      code: 'ERR_SSH_NEGOTIATION',
      ours: ['aes128-ctr'],
      theirs: ['aes256-ctr'],
    })
  })

  it('tells a server that is not SSH from one that is silent', async () => {
    const http = createServer(
      (socket) => socket.on('error', () => {}).write('HTTP/1.1 400 Bad Request\r\n\r\n') && socket.end(),
    )
    const silent = createServer((socket) => void socket.on('error', () => {}))
    for (const server of [http, silent])
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const port = (server: typeof http): number => (server.address() as { port: number }).port
    const notSsh = await failure(to({ host: '127.0.0.1', port: port(http), user: 'x' }, [key]))
    expect(notSsh.code).toMatch(/ERR_SSH_CONNECTION_LOST|ERR_SSH_NOT_SSH/)
    const quiet = await failure(
      to({ host: '127.0.0.1', port: port(silent), user: 'x' }, [key], { handshakeTimeoutMs: 300 }),
    )
    expect(quiet).toMatchObject({ code: 'ERR_SSH_TIMEOUT', phase: 'identification' })
    for (const server of [http, silent]) server.close()
  })

  it('can be cancelled at any moment of connecting', async () => {
    const peer = await startOpensshServer()
    let finished = 0
    for (let ms = 0; ms < 40; ms += 4) {
      const work = to(peer, [key], { signal: AbortSignal.timeout(ms) })
      const error = await work.then(
        (session) => session.close().then(() => undefined),
        (caught: Error & { code: string }) => caught,
      )
      if (error === undefined) finished++
      else expect(error.code).toBe('ABORT_ERR')
    }
    expect(finished).toBeLessThan(10)
  })

  it('settles everything pending with ConnectionLost when the server dies', async () => {
    const peer = await startOpensshServer()
    const session = await to(peer, [key])
    const channel = await session.exec('sleep 60')
    const pending = [
      channel.exit,
      session.ping().then(() => session.ping()),
      session.exec('sleep 1').then((other) => other.exit),
    ]
    const results = Promise.allSettled(pending)
    for (const { pid } of sessionsOf(peer)) signal(pid, 'SIGKILL')
    for (const result of await results)
      expect(result).toMatchObject({
        status: 'rejected',
        reason: { code: expect.stringMatching(/ERR_SSH_CONNECTION_LOST|ERR_SSH_DISCONNECTED|ECONNRESET/) },
      })
    await session.closed
    expect(session.failure).toBeDefined()
  })

  it('notices a peer that went silent by keepalive', async () => {
    const peer = await startOpensshServer()
    const proxy = await startProxy({ target: { host: peer.host, port: peer.port } })
    const session = await to({ ...peer, port: proxy.port }, [key], {
      keepalive: { intervalMs: 50, maxMissed: 2 },
    })
    const channel = await session.exec('sleep 60')
    await new Promise((resolve) => setTimeout(resolve, 300))
    expect(session.failure).toBeUndefined()
    proxy.stall()
    await expect(channel.exit).rejects.toMatchObject({ code: 'ERR_SSH_KEEPALIVE' })
  })
})

describeWith([needsOpenssh()], 'a session over a channel of another session', () => {
  it('is a jump host', async () => {
    const key = keyFileAuth((await clientKey('ed25519')).privateFile)
    const outer = await startOpensshServer()
    const inner = await startOpensshServer()
    const { connectOver, channelDuplex } = await import('@sshblock/transport/node')
    const first = await to(outer, [key])
    const second = await connectOver(
      async () => channelDuplex(await first.openDirectTcpip(inner.host, inner.port)),
      {
        host: inner.host,
        port: inner.port,
        username: inner.user,
        hostKeyPolicy: pinnedFingerprint(nodeCrypto, 'openssh', inner.hostKeys[0]!.fingerprint),
        algorithms: { hostKeys: ['ssh-ed25519'] },
        auth: [key],
        crypto: nodeCrypto,
      },
    )
    const command = await second.exec('head -c 5000000 /dev/zero')
    expect((await command.collect()).stdout).toHaveLength(5_000_000)
    await second.close()
    await first.close()
  })
})
