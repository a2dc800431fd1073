// Who is let in, by what, and under which restrictions: the policy behind authentication (RFC 4252, RFC 4256), seen from the wire.

import type {
  Login,
  LoginAttempt,
  LoginVerdict,
  Restrictions,
  ServerAuthPolicy,
  ServerEvent,
  ServerOptions,
  Signer,
} from '@sshblock/transport'
import { AuthorizedKeys, formatPublicKey, parsePublicKey } from '@sshblock/transport'
import { describe, expect, test, vi } from 'vitest'
import {
  hostBoundMethod,
  publicKeySignedData,
  writePublicKeyRequest,
} from '../../../packages/transport/src/auth/signed-data.ts'
import * as number from '../../../packages/transport/src/messages/numbers.ts'
import {
  infoRequest,
  infoResponse,
  keyboardInteractiveFields,
  publicKeyOk,
  userauthFailure,
} from '../../../packages/transport/src/messages/userauth.ts'
import { encodeFields } from '../../../packages/transport/src/wire/codec.ts'
import { Writer } from '../../../packages/transport/src/wire/writer.ts'
import type { Received } from './raw-client.ts'
import { freshSigner, RawClient, said, serve, testHostKey } from './raw-client.ts'

interface Scene {
  client: RawClient
  events: ServerEvent[]
  login: () => Login | undefined
  attempts: () => LoginAttempt[]
  failure: () => Error | undefined
}

const line = (signer: Signer, options = ''): string =>
  `${options === '' ? '' : `${options} `}${formatPublicKey(parsePublicKey(signer.publicKeyBlob))}`

/** A server with this policy, and a client that may ask for authentication. Refusals come at once unless the test says otherwise. */
async function knock(
  auth: ServerAuthPolicy,
  options: Partial<ServerOptions> = {},
  address = '192.0.2.7',
): Promise<Scene> {
  const events: ServerEvent[] = []
  const { duplex, connection } = serve(
    {
      auth: { refusalFloorMs: 0, ...auth },
      onEvent: (event) => void events.push(event),
      announceHostKeys: false,
      ...options,
    },
    address,
  )
  const client = new RawClient(duplex)
  await client.service()
  return {
    client,
    events,
    login: () => connection.login,
    attempts: () => events.filter((event) => event.type === 'login-attempt'),
    failure: () => connection.failure,
  }
}

const ann = freshSigner()
const bob = freshSigner('ecdsa-sha2-nistp256')
const stranger = freshSigner()
const keysOf =
  (texts: Readonly<Record<string, string>>): NonNullable<ServerAuthPolicy['authorizedKeys']> =>
  (user) =>
    new Map(Object.entries(texts)).get(user)

describe('default deny', () => {
  test('an empty policy advertises nothing and lets nobody in', async () => {
    const { client } = await knock({})
    expect(said(await client.none('ann'))).toBe('failure')
    expect(said(await client.password('ann', ''))).toBe('failure')
    expect(said(await client.sign('ann', ann))).toBe('failure')
    expect(said(await client.keyboardInteractive('ann'))).toBe('failure')
  })

  test('an unadvertised method is refused without asking the application', async () => {
    const password = vi.fn(() => true)
    const keyboardInteractive = vi.fn(async () => true)
    const publicKey = vi.fn(() => true)
    const methods = { password, keyboardInteractive, publicKey }
    for (const advertised of ['publickey', 'password', 'keyboard-interactive']) {
      const { client } = await knock({ ...methods, order: [advertised] })
      const replies = {
        publickey: async () => said(await client.sign('ann', ann)),
        password: async () => said(await client.password('ann', 'x')),
        'keyboard-interactive': async () => said(await client.keyboardInteractive('ann')),
      }
      for (const [method, ask] of Object.entries(replies)) {
        if (method !== advertised) expect(await ask()).toBe(`failure ${advertised}`)
      }
      client.close()
    }
    expect(password).not.toHaveBeenCalled()
    expect(keyboardInteractive).not.toHaveBeenCalled()
    expect(publicKey).not.toHaveBeenCalled()
  })

  test.each(['hostbased', 'gssapi-with-mic', '', '__proto__', 'publickey,password'])(
    'the method "%s" is refused',
    async (method) => {
      const { client } = await knock({ password: () => true })
      client.request('ann', method)
      expect(said(await client.answer())).toBe('failure password')
    },
  )

  test('none lets in only where the policy says so by name', async () => {
    const closed = await knock({ password: () => true })
    expect(said(await closed.client.none('ann'))).toBe('failure password')
    const open = await knock({ insecureAllowNone: ({ user }) => user === 'guest' })
    expect(said(await open.client.none('ann'))).toBe('failure')
    expect(said(await open.client.none('guest'))).toBe('success')
    expect(open.login()).toMatchObject({ user: 'guest', methods: [{ method: 'none' }] })
  })

  test('an order that names a method without a check is a usage error', async () => {
    await expect(knock({ password: () => true, order: ['publickey,password'] })).rejects.toMatchObject({
      code: 'ERR_USAGE',
    })
    await expect(knock({ password: () => true, order: [] })).rejects.toMatchObject({ code: 'ERR_USAGE' })
  })
})

describe('public keys', () => {
  test('the right key of the right user is let in, and the login holds the key that signed', async () => {
    const scene = await knock({
      authorizedKeys: keysOf({ ann: `# two\n${line(ann)} laptop`, bob: line(bob) }),
    })
    expect(said(await scene.client.sign('ann', ann))).toBe('success')
    expect(scene.login()).toMatchObject({
      user: 'ann',
      address: '192.0.2.7',
      methods: [
        {
          method: 'publickey',
          publicKey: { blob: ann.publicKeyBlob },
          authorizedKey: { line: 2, comment: 'laptop' },
          certificate: undefined,
        },
      ],
    })
  })

  test('the key of another user is refused', async () => {
    const { client } = await knock({ authorizedKeys: keysOf({ ann: line(ann), bob: line(bob) }) })
    expect(said(await client.sign('ann', bob))).toBe('failure publickey')
    expect(said(await client.sign('bob', ann))).toBe('failure publickey')
    expect(said(await client.sign('bob', bob))).toBe('success')
  })

  test('a question is answered with PK_OK for exactly that key, and lets nobody in', async () => {
    const scene = await knock({ authorizedKeys: keysOf({ ann: line(ann) }) })
    const ok = await scene.client.query('ann', ann)
    expect(publicKeyOk.decode(ok.payload)).toEqual({ algorithm: 'ssh-ed25519', publicKey: ann.publicKeyBlob })
    expect(said(await scene.client.query('ann', stranger))).toBe('failure publickey')
    expect(scene.login()).toBeUndefined()
  })

  test('PK_OK for one key does not let in a signature by another', async () => {
    const scene = await knock({ authorizedKeys: keysOf({ ann: `${line(ann)}\n${line(bob)}` }) })
    await scene.client.query('ann', ann)
    expect(said(await scene.client.sign('ann', stranger))).toBe('failure publickey')
    await scene.client.query('ann', ann)
    expect(said(await scene.client.sign('ann', bob))).toBe('success')
    expect(scene.login()?.methods[0]).toMatchObject({ publicKey: { blob: bob.publicKeyBlob } })
  })

  test('a signature of another session, user or service is refused', async () => {
    const policy = { authorizedKeys: keysOf({ ann: line(ann), bob: line(ann) }) }
    const first = await knock(policy)
    const captured = await first.client.signedRequest('ann', ann)
    const second = await knock(policy)
    second.client.send(captured)
    expect(said(await second.client.answer())).toBe('failure publickey')
    // The same signature in a request for another user: the user name is part of what is signed.
    const attempt = second.client.attempt('ann', ann)
    const signature = await ann.sign(
      'ssh-ed25519',
      publicKeySignedData(second.client.core.proof!.sessionId, attempt),
    )
    const writer = new Writer()
    writePublicKeyRequest(writer, { ...attempt, user: 'bob' }, true)
    second.client.send(writer.string(signature).copy())
    expect(said(await second.client.answer())).toBe('failure publickey')
    // And the untouched request still works, so that it was the change that was refused.
    const third = new Writer()
    writePublicKeyRequest(third, attempt, true)
    second.client.send(third.string(signature).copy())
    expect(said(await second.client.answer())).toBe('success')
  })

  test('a service other than ssh-connection ends the connection', async () => {
    const { client } = await knock({ authorizedKeys: keysOf({ ann: line(ann) }) })
    client.request('ann', 'none', new Uint8Array(0), 'ssh-userauth')
    expect((await client.ended()).message).toContain('reason 2')
  })

  test('publickey-hostbound is accepted with our host key and ends the connection with another', async () => {
    const policy = { authorizedKeys: keysOf({ ann: line(ann) }) }
    const send = async (client: RawClient, hostKey: Uint8Array): Promise<void> => {
      const attempt = { ...client.attempt('ann', ann), hostKey }
      const signature = await ann.sign(
        'ssh-ed25519',
        publicKeySignedData(client.core.proof!.sessionId, attempt),
      )
      const writer = new Writer()
      writePublicKeyRequest(writer, attempt, true)
      client.send(writer.string(signature).copy())
    }
    const good = await knock(policy)
    await send(good.client, testHostKey().publicKeyBlob)
    expect(said(await good.client.answer())).toBe('success')
    expect(good.client.extensions.has('publickey-hostbound@openssh.com')).toBe(true)
    const bad = await knock(policy)
    await send(bad.client, stranger.publicKeyBlob)
    expect((await bad.client.ended()).message).toContain('reason 2')
    expect(hostBoundMethod).toBe('publickey-hostbound-v00@openssh.com')
  })

  test.each([
    ['an algorithm other than the key', (blob: Uint8Array) => ({ algorithm: 'ecdsa-sha2-nistp256', blob })],
    ['ssh-rsa', (blob: Uint8Array) => ({ algorithm: 'ssh-rsa', blob })],
    [
      'a key that is cut short',
      (blob: Uint8Array) => ({ algorithm: 'ssh-ed25519', blob: blob.subarray(0, -1) }),
    ],
    ['an empty key', () => ({ algorithm: 'ssh-ed25519', blob: new Uint8Array(0) })],
    ['an algorithm nobody knows', (blob: Uint8Array) => ({ algorithm: 'ssh-x', blob })],
  ])('%s is a refusal, not the end, and the application is not asked', async (_, change) => {
    const publicKey = vi.fn(() => true)
    const { client } = await knock({ publicKey })
    const { algorithm, blob } = change(ann.publicKeyBlob)
    expect(said(await client.query('ann', { publicKeyBlob: blob, algorithms: [algorithm] }))).toBe(
      'failure publickey',
    )
    expect(
      said(
        await client.sign('ann', {
          ...ann,
          publicKeyBlob: blob,
          algorithms: [algorithm],
          sign: () => new Uint8Array(9),
        }),
      ),
    ).toBe('failure publickey')
    expect(publicKey).not.toHaveBeenCalled()
  })

  test('the application is asked about keys that no line has, and may restrict them', async () => {
    const scene = await knock({
      authorizedKeys: keysOf({ ann: line(bob) }),
      publicKey: ({ user, publicKey, fingerprint }) =>
        user === 'ann' && fingerprint.startsWith('SHA256:') && publicKey.type === 'ssh-ed25519'
          ? { pty: false }
          : false,
    })
    expect(said(await scene.client.sign('ann', ann))).toBe('success')
    expect(scene.login()?.permissions.pty).toBe(false)
  })

  test('the first line that admits the client counts', async () => {
    const text = [
      line(ann, 'from="10.0.0.0/8",command="inside"'),
      line(ann, 'command="outside"'),
      line(ann),
    ].join('\n')
    const scene = await knock({ authorizedKeys: () => AuthorizedKeys.parse(text) })
    expect(said(await scene.client.sign('ann', ann))).toBe('success')
    expect(scene.login()?.permissions.command).toBe('outside')
  })

  test('an expired line lets nobody in', async () => {
    const options = { wallClock: () => Date.UTC(2030, 0, 2) }
    const late = await knock({ authorizedKeys: () => line(ann, 'expiry-time="20300101Z"') }, options)
    expect(said(await late.client.sign('ann', ann))).toBe('failure publickey')
    const early = await knock({ authorizedKeys: () => line(ann, 'expiry-time="20300103Z"') }, options)
    expect(said(await early.client.sign('ann', ann))).toBe('success')
  })

  test('environment of authorized_keys is left out unless the policy names the variable', async () => {
    const text = line(ann, 'environment="LC_ALL=C",environment="LD_PRELOAD=/tmp/x.so"')
    const without = await knock({ authorizedKeys: () => text })
    await without.client.sign('ann', ann)
    expect([...(without.login()?.permissions.environment ?? [])]).toEqual([])
    const named = await knock({ authorizedKeys: () => text, userEnvironment: ['LC_*'] })
    await named.client.sign('ann', ann)
    expect([...(named.login()?.permissions.environment ?? [])]).toEqual([['LC_ALL', 'C']])
  })
})

describe('several methods', () => {
  const both: ServerAuthPolicy = {
    authorizedKeys: keysOf({ ann: `${line(ann)}\n${line(stranger)}`, bob: line(bob) }),
    password: ({ password }) => password === 'right',
    keyboardInteractive: async ({ ask }) =>
      (await ask({ prompts: [{ prompt: 'Code: ', echo: false }] }))[0] === '42',
  }

  test('publickey,password: the first gives partial success, the second lets in', async () => {
    const scene = await knock({ ...both, order: ['publickey,password'] })
    expect(said(await scene.client.none('ann'))).toBe('failure publickey')
    expect(said(await scene.client.password('ann', 'right'))).toBe('failure publickey')
    expect(said(await scene.client.sign('ann', ann))).toBe('partial password')
    expect(said(await scene.client.password('ann', 'wrong'))).toBe('failure password')
    expect(said(await scene.client.sign('ann', ann))).toBe('failure password')
    expect(said(await scene.client.password('ann', 'right'))).toBe('success')
    expect(scene.login()?.methods.map(({ method }) => method)).toEqual(['publickey', 'password'])
  })

  test('of several ways each begins with what is advertised', async () => {
    const { client } = await knock({
      ...both,
      order: ['publickey,password', 'publickey,keyboard-interactive', 'password,publickey'],
    })
    expect(said(await client.none('ann'))).toBe('failure publickey,password')
    expect(said(await client.sign('ann', ann))).toBe('partial password,keyboard-interactive')
    expect(said(await client.password('ann', 'right'))).toBe('success')
  })

  test('a change of the user starts from nothing', async () => {
    const scene = await knock({ ...both, order: ['publickey,password'] })
    expect(said(await scene.client.sign('ann', ann))).toBe('partial password')
    expect(said(await scene.client.password('bob', 'right'))).toBe('failure publickey')
    // Coming back does not bring the partial success back either.
    expect(said(await scene.client.password('ann', 'right'))).toBe('failure publickey')
    expect(said(await scene.client.sign('bob', bob))).toBe('partial password')
    expect(said(await scene.client.password('bob', 'right'))).toBe('success')
    expect(scene.login()).toMatchObject({
      user: 'bob',
      methods: [{ publicKey: { blob: bob.publicKeyBlob } }, { method: 'password' }],
    })
  })

  test('one key is not two keys', async () => {
    const { client } = await knock({ ...both, order: ['publickey,publickey'] })
    expect(said(await client.sign('ann', ann))).toBe('partial publickey')
    expect(said(await client.sign('ann', ann))).toBe('failure publickey')
    expect(said(await client.sign('ann', stranger))).toBe('success')
  })

  test('PK_OK is no step on the way', async () => {
    const { client } = await knock({ ...both, order: ['publickey,password'] })
    expect((await client.query('ann', ann)).number).toBe(number.USERAUTH_METHOD_60)
    expect(said(await client.password('ann', 'right'))).toBe('failure publickey')
  })
})

describe('restrictions hold for every method', () => {
  const outside: Restrictions = { from: '10.0.0.0/8' }
  const ways: [
    method: string,
    policy: (verdict: LoginVerdict) => ServerAuthPolicy,
    enter: (client: RawClient) => Promise<Received>,
  ][] = [
    ['publickey', (verdict) => ({ publicKey: () => verdict }), (client) => client.sign('ann', ann)],
    ['password', (verdict) => ({ password: () => verdict }), (client) => client.password('ann', 'x')],
    [
      'keyboard-interactive',
      (verdict) => ({ keyboardInteractive: async () => verdict }),
      (client) => client.keyboardInteractive('ann'),
    ],
    ['none', (verdict) => ({ insecureAllowNone: () => verdict }), (client) => client.none('ann')],
  ]
  const conditions: [what: string, restrictions: Restrictions][] = [
    ['from elsewhere', outside],
    ['an empty from', { from: '' }],
    ['source-address elsewhere', { sourceAddress: '10.0.0.0/8' }],
    ['an expiry time', { expiresAt: 1 }],
  ]
  for (const [method, policy, enter] of ways) {
    for (const [what, restrictions] of conditions) {
      test(`${method} with ${what} is refused, by its own verdict and by the account's`, async () => {
        for (const auth of [policy(restrictions), { ...policy(true), account: () => restrictions }]) {
          const scene = await knock(auth)
          expect(said(await enter(scene.client))).toMatch(/^failure/)
          expect(scene.login()).toBeUndefined()
        }
      })
    }

    test(`${method} is let in under the restrictions of method and account together`, async () => {
      const scene = await knock({
        ...policy({ from: '192.0.2.*', pty: false }),
        account: () => ({ command: 'only this' }),
      })
      expect(said(await enter(scene.client))).toBe('success')
      expect(scene.login()?.permissions).toMatchObject({
        pty: false,
        command: 'only this',
        portForwarding: true,
      })
    })

    test(`${method} is refused where there is no such account`, async () => {
      const scene = await knock({ ...policy(true), account: () => false })
      expect(said(await enter(scene.client))).toMatch(/^failure/)
    })
  }

  test('what the first method restricts still holds after the second', async () => {
    const scene = await knock({
      publicKey: () => ({ pty: false, command: 'a' }),
      password: () => ({ portForwarding: false }),
      order: ['publickey,password'],
    })
    expect(said(await scene.client.sign('ann', ann))).toBe('partial password')
    expect(said(await scene.client.password('ann', 'x'))).toBe('success')
    expect(scene.login()?.permissions).toMatchObject({ pty: false, command: 'a', portForwarding: false })
  })

  test('contradicting forced commands let nobody in', async () => {
    const scene = await knock({
      publicKey: () => ({ command: 'a' }),
      password: () => ({ command: 'b' }),
      order: ['publickey,password'],
    })
    await scene.client.sign('ann', ann)
    expect(said(await scene.client.password('ann', 'x'))).toBe('failure password')
  })

  test('a condition that fails stops partial success, too', async () => {
    const scene = await knock({
      publicKey: () => outside,
      password: () => true,
      order: ['publickey,password'],
    })
    expect(said(await scene.client.sign('ann', ann))).toBe('failure publickey')
    expect(said(await scene.client.query('ann', ann))).toBe('failure publickey')
  })
})

describe('passwords', () => {
  test('1024 bytes are checked, 1025 are refused without asking', async () => {
    const password = vi.fn(() => false)
    const { client } = await knock({ password })
    expect(said(await client.password('ann', 'x'.repeat(1024)))).toBe('failure password')
    expect(password).toHaveBeenCalledTimes(1)
    expect(said(await client.password('ann', 'x'.repeat(1025)))).toBe('failure password')
    expect(password).toHaveBeenCalledTimes(1)
  })

  test('a demand for a new password is asked and its answer handed over', async () => {
    const { client } = await knock({
      password: ({ password, newPassword }) =>
        newPassword === undefined
          ? { change: 'Choose another' }
          : password === 'old' && newPassword === 'new',
    })
    expect((await client.password('ann', 'old')).number).toBe(number.USERAUTH_METHOD_60)
    client.request('ann', 'password', new Writer().bool(true).text('old').text('new').copy())
    expect(said(await client.answer())).toBe('success')
  })

  test('a callback that throws keeps out, tells the client nothing and the application everything', async () => {
    const error = new Error('the directory is down: ldap://10.0.0.1')
    const scene = await knock({
      password: () => {
        throw error
      },
    })
    const refused = await scene.client.password('ann', 'x')
    expect(said(refused)).toBe('failure password')
    expect(Buffer.from(refused.payload).toString()).not.toContain('ldap')
    expect(scene.events).toContainEqual({ type: 'fault', error })
  })

  test('nothing that is not a verdict lets in', async () => {
    for (const verdict of [undefined, false, 0, 1, 'true', null]) {
      const scene = await knock({ password: () => verdict as LoginVerdict })
      expect([verdict, said(await scene.client.password('ann', 'x'))]).toEqual([verdict, 'failure password'])
    }
  })
})

describe('keyboard-interactive', () => {
  const answerWith = (client: RawClient, ...answers: string[]): Promise<Received> => {
    const responses = new Writer()
    for (const answer of answers) responses.text(answer)
    client.send(infoResponse.bytes({ count: answers.length, responses: responses.copy() }))
    return client.answer()
  }

  test('questions of several rounds are asked in order and their answers come back', async () => {
    const seen: (readonly string[])[] = []
    const { client } = await knock({
      keyboardInteractive: async ({ ask }) => {
        seen.push(
          await ask({
            name: 'Login',
            instruction: 'Two questions',
            prompts: [
              { prompt: 'A', echo: true },
              { prompt: 'B', echo: false },
            ],
          }),
        )
        seen.push(await ask({ instruction: 'Fine', prompts: [] }))
        return seen[0]?.[1] === 'b'
      },
    })
    const first = infoRequest.decode((await client.keyboardInteractive('ann')).payload)
    expect(first).toMatchObject({ name: 'Login', instruction: 'Two questions', count: 2 })
    expect(infoRequest.decode((await answerWith(client, 'a', 'b')).payload)).toMatchObject({
      instruction: 'Fine',
      count: 0,
    })
    expect(said(await answerWith(client))).toBe('success')
    expect(seen).toEqual([['a', 'b'], []])
  })

  test.each([
    ['more answers than prompts', 2],
    ['fewer answers than prompts', 0],
  ])('%s end the connection', async (_, count) => {
    const { client } = await knock({
      keyboardInteractive: async ({ ask }) =>
        (await ask({ prompts: [{ prompt: 'A', echo: false }] })).length === 1,
    })
    await client.keyboardInteractive('ann')
    const responses = new Writer()
    for (let i = 0; i < count; i++) responses.text('x')
    client.send(infoResponse.bytes({ count, responses: responses.copy() }))
    expect((await client.ended()).message).toContain('reason 2')
  })

  test('a count of 2^32 - 1 answers in a few bytes ends the connection at once', async () => {
    const { client } = await knock({
      keyboardInteractive: async ({ ask }) =>
        (await ask({ prompts: [{ prompt: 'A', echo: false }] })).length === 1,
    })
    await client.keyboardInteractive('ann')
    const startedAt = performance.now()
    client.send(infoResponse.bytes({ count: 2 ** 32 - 1, responses: new Uint8Array(8) }))
    await client.ended()
    // A loop over what the count says would take many seconds.
    expect(performance.now() - startedAt).toBeLessThan(1000)
  })

  test('answers to no question end the connection', async () => {
    const { client } = await knock({ keyboardInteractive: async () => true })
    client.send(infoResponse.bytes({ count: 0, responses: new Uint8Array(0) }))
    expect((await client.ended()).message).toContain('reason 2')
  })

  test('a new request aborts the exchange in progress, which counts as a try', async () => {
    let aborted = 0
    const { client } = await knock({
      maxTries: 2,
      keyboardInteractive: async ({ ask }) => {
        await ask({ prompts: [{ prompt: 'A', echo: false }] }).catch((error) => {
          aborted++
          throw error
        })
        return true
      },
    })
    await client.keyboardInteractive('ann')
    await client.keyboardInteractive('ann')
    expect(aborted).toBe(1)
    await client.keyboardInteractive('ann')
    client.request(
      'ann',
      'keyboard-interactive',
      encodeFields(keyboardInteractiveFields, { language: '', submethods: '' }),
    )
    expect((await client.ended()).message).toContain('reason 14')
  })

  test('answers given for one user are not taken for another', async () => {
    const { client } = await knock({
      keyboardInteractive: async ({ user, ask }) => {
        await ask({ prompts: [{ prompt: 'A', echo: false }] })
        return user === 'ann'
      },
    })
    await client.keyboardInteractive('ann')
    await client.keyboardInteractive('bob')
    expect(said(await answerWith(client, 'x'))).toBe('failure keyboard-interactive')
  })

  test('more than 10 rounds end the connection', async () => {
    const { client } = await knock({
      keyboardInteractive: async ({ ask }) => {
        for (let i = 0; i < 20; i++) await ask({ prompts: [] })
        return true
      },
    })
    await client.keyboardInteractive('ann')
    for (let i = 1; i < 10; i++) await answerWith(client)
    client.send(infoResponse.bytes({ count: 0, responses: new Uint8Array(0) }))
    expect((await client.ended()).message).toContain('reason 2')
  })

  test('a connection that ends while a question is open ends the wait of the application', async () => {
    let ended: unknown
    const { client } = await knock({
      keyboardInteractive: async ({ ask }) => {
        await ask({ prompts: [{ prompt: 'A', echo: false }] }).catch((error) => {
          ended = error
          throw error
        })
        return true
      },
    })
    await client.keyboardInteractive('ann')
    client.close()
    await vi.waitFor(() => expect(ended).toMatchObject({ code: 'ABORT_ERR' }))
  })
})

describe('tries', () => {
  const attempts: [string, (client: RawClient) => Promise<Received>][] = [
    ['none', (client) => client.none('ann')],
    ['a wrong password', (client) => client.password('ann', 'x')],
    ['a password that is too long', (client) => client.password('ann', 'x'.repeat(2000))],
    ['an unknown key', (client) => client.query('ann', stranger)],
    ['a wrong signature', (client) => client.sign('ann', stranger)],
    ['an unadvertised method', (client) => client.keyboardInteractive('ann')],
  ]

  test.each(attempts)('six times %s are answered, the seventh ends the connection', async (_, attempt) => {
    const scene = await knock({ password: () => false, authorizedKeys: () => undefined })
    for (let i = 0; i < 6; i++) expect(said(await attempt(scene.client))).toMatch(/^failure/)
    await attempt(scene.client)
    expect((await scene.client.ended()).message).toContain('reason 14')
    expect(scene.failure()).toMatchObject({ code: 'ERR_SSH_AUTH_TRIES' })
  })

  test('the seventh try ends the connection whatever the mix and the user', async () => {
    const { client } = await knock({ password: () => false, authorizedKeys: () => undefined })
    for (const [, attempt] of attempts) await attempt(client)
    client.request('bob', 'none')
    expect((await client.ended()).message).toContain('reason 14')
  })

  test('a right answer after six wrong ones still lets in', async () => {
    const { client } = await knock({ password: ({ password }) => password === 'right' })
    for (let i = 0; i < 6; i++) await client.password('ann', 'wrong')
    expect(said(await client.password('ann', 'right'))).toBe('success')
  })
})

describe('names that exist and names that do not', () => {
  /** A clock that moves only when somebody sleeps or works. */
  function clockedPolicy(workMs: (user: string) => number) {
    let now = 0
    const waits: number[] = []
    const work = <T>(user: string, result: T): T => {
      now += workMs(user)
      return result
    }
    const options: Partial<ServerOptions> = {
      now: () => now,
      sleep: async (ms) => {
        waits.push(ms)
        now += ms
      },
    }
    return { options, waits, work, now: () => now }
  }

  const exists = (user: string): boolean => user === 'ann'

  test.each([
    ['password', (client: RawClient, user: string) => client.password(user, 'x')],
    ['a question about a key', (client: RawClient, user: string) => client.query(user, stranger)],
    ['a signature by an unknown key', (client: RawClient, user: string) => client.sign(user, stranger)],
    [
      'a question about garbage',
      (client: RawClient, user: string) =>
        client.query(user, { publicKeyBlob: new Uint8Array(40), algorithms: ['ssh-ed25519'] }),
    ],
    ['keyboard-interactive', (client: RawClient, user: string) => client.keyboardInteractive(user)],
  ])('%s is answered with the same bytes at the same time', async (_, attempt) => {
    const outcomes = []
    for (const user of ['ann', 'nobody']) {
      // Who exists costs 3 ms of work, who does not costs nothing.
      const clock = clockedPolicy((name) => (exists(name) ? 3 : 0))
      const scene = await knock(
        {
          refusalFloorMs: 10,
          account: ({ user: name }) => clock.work(name, exists(name)),
          authorizedKeys: (name) => clock.work(name, exists(name) ? line(ann) : undefined),
          password: ({ user: name }) => clock.work(name, false),
          keyboardInteractive: async ({ user: name }) => clock.work(name, false),
        },
        clock.options,
      )
      const answer = await attempt(scene.client, user)
      outcomes.push({ bytes: [...answer.payload], answeredAt: clock.now() })
    }
    expect(outcomes[0]).toEqual(outcomes[1])
    expect(outcomes[0]?.answeredAt).toBe(10)
  })

  test('the questions of keyboard-interactive wait for the floor, too', async () => {
    const clock = clockedPolicy((user) => (exists(user) ? 4 : 0))
    const scene = await knock(
      {
        refusalFloorMs: 10,
        keyboardInteractive: async ({ user, ask }) => {
          clock.work(user, undefined)
          await ask({ prompts: [{ prompt: 'A', echo: false }] })
          return false
        },
      },
      clock.options,
    )
    await scene.client.keyboardInteractive('ann')
    expect(clock.now()).toBe(10)
  })

  test('work beyond the floor is answered at the next doubling of it', async () => {
    const clock = clockedPolicy(() => 25)
    const scene = await knock(
      { refusalFloorMs: 10, password: ({ user }) => clock.work(user, false) },
      clock.options,
    )
    await scene.client.password('ann', 'x')
    expect(clock.now()).toBe(40)
  })

  test('whoever gets in does not wait', async () => {
    const clock = clockedPolicy(() => 1)
    const scene = await knock(
      { refusalFloorMs: 10, password: ({ user }) => clock.work(user, true) },
      clock.options,
    )
    await scene.client.password('ann', 'x')
    expect(clock.waits).toEqual([])
  })
})

describe('what the application hears', () => {
  test('every attempt with its reason, and the client none of it', async () => {
    const scene = await knock({ authorizedKeys: () => line(ann, 'from="10.0.0.1"'), password: () => false })
    const refused = await scene.client.sign('ann', ann)
    await scene.client.password('ann', 'x')
    expect(scene.attempts()).toEqual([
      {
        type: 'login-attempt',
        user: 'ann',
        method: 'publickey',
        outcome: 'refused',
        reason: 'the client address is not admitted',
      },
      {
        type: 'login-attempt',
        user: 'ann',
        method: 'password',
        outcome: 'refused',
        reason: 'password was refused',
      },
    ])
    expect(userauthFailure.decode(refused.payload)).toEqual({
      methods: ['publickey', 'password'],
      partialSuccess: false,
    })
  })

  test('a listener that throws lets nobody in and keeps nobody out', async () => {
    const { client } = await knock(
      { password: ({ password }) => password === 'right' },
      {
        onEvent: () => {
          throw new Error('listener')
        },
      },
    )
    expect(said(await client.password('ann', 'wrong'))).toBe('failure password')
    expect(said(await client.password('ann', 'right'))).toBe('success')
  })

  test('the banner comes once, before the first answer', async () => {
    const { client } = await knock({ password: () => false }, { banner: 'Private system\r\n' })
    await client.none('ann')
    await client.password('ann', 'x')
    const banners = client.all.filter((message) => message.number === number.USERAUTH_BANNER)
    expect(banners).toHaveLength(1)
    expect(client.all.findIndex((message) => message.number === number.USERAUTH_BANNER)).toBeLessThan(
      client.all.findIndex((message) => message.number === number.USERAUTH_FAILURE),
    )
  })

  test('requests after success are ignored', async () => {
    const password = vi.fn(() => true)
    const scene = await knock({ password })
    await scene.client.password('ann', 'x')
    scene.client.request('root', 'password', new Writer().bool(false).text('x').copy())
    await scene.client.global('keepalive@openssh.com')
    expect(password).toHaveBeenCalledTimes(1)
    expect(scene.login()?.user).toBe('ann')
  })
})
