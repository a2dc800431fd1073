// Clients that are not OpenSSH against our server: PuTTY's plink, dropbear's dbclient, asyncssh and paramiko.

import { createHash, randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test, vi } from 'vitest'
import { clientKey } from '../../support/keys.ts'
import type { Finished, RunOptions } from '../../support/program.ts'
import { findPython, run, runOrThrow } from '../../support/program.ts'
import { describeWith, needsPrograms, needsPythonModule } from '../../support/requirements.ts'
import { tempDir } from '../../support/temp-dir.ts'
import type { OurServer, OurServerOptions } from './our-server.ts'
import { startOurServer } from './our-server.ts'

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')
const summary = ({ code, stdout, stderr }: Finished) => ({ code, stdout, stderr })

/** No handler stumbled, and no client was cut off for breaking the protocol. */
async function expectPeace(server: OurServer): Promise<void> {
  await vi.waitFor(() => expect(server.server.statistics.connections).toBe(0))
  const bad = server.events.filter(
    (event) =>
      event.type === 'fault' || (event.type === 'closed' && event.failure.code === 'ERR_SSH_PROTOCOL'),
  )
  expect(bad).toEqual([])
}

describeWith([needsPrograms('PuTTY', ['plink', 'puttygen'], 'putty-tools')], 'plink', () => {
  async function plink(
    server: OurServer,
    command: string,
    options: RunOptions & { args?: readonly string[]; auth?: readonly string[] } = {},
  ): Promise<Finished> {
    const dir = tempDir('putty')
    const ppk = join(dir, 'key.ppk')
    await runOrThrow('puttygen', [(await clientKey('ed25519')).privateFile, '-O', 'private', '-o', ppk])
    const hostKeys = server.hostKeys.flatMap((pair) => ['-hostkey', pair.fingerprint])
    const { args = [], auth = ['-i', ppk], ...rest } = options
    return run(
      'plink',
      [
        '-batch',
        '-noagent',
        ...hostKeys,
        ...auth,
        ...args,
        '-P',
        String(server.port),
        `ann@${server.host}`,
        command,
      ],
      {
        ...rest,
        env: { HOME: dir, ...rest.env },
      },
    )
  }

  test('runs commands: output, stderr and exit status arrive', async () => {
    const server = await startOurServer()
    expect(summary(await plink(server, 'echo hello'))).toEqual({ code: 0, stdout: 'hello\n', stderr: '' })
    expect(summary(await plink(server, 'complain loudly'))).toEqual({
      code: 1,
      stdout: '',
      stderr: 'loudly\n',
    })
    expect((await plink(server, 'status 9')).code).toBe(9)
    await expectPeace(server)
  })

  test('moves megabytes both ways over rekeys that we start', async () => {
    const server = await startOurServer({ rekey: { bytes: 400_000 } })
    const input = randomBytes(3_000_000)
    const found = await plink(server, 'cat', { input })
    expect(sha256(found.stdoutBytes)).toBe(sha256(input))
    await expectPeace(server)
  })

  test('logs in by a password', async () => {
    const server = await startOurServer({
      auth: { password: ({ password }) => password === 'right', refusalFloorMs: 0 },
    })
    expect((await plink(server, 'echo in', { auth: ['-pw', 'right'] })).stdout).toBe('in\n')
    expect((await plink(server, 'echo in', { auth: ['-pw', 'wrong'] })).code).not.toBe(0)
  })

  test('starts a subsystem', async () => {
    const server = await startOurServer({
      subsystems: {
        hello: async (channel) => {
          channel.write(new TextEncoder().encode('hi'))
          return 0
        },
      },
    })
    expect(summary(await plink(server, 'hello', { args: ['-s'] }))).toMatchObject({ code: 0, stdout: 'hi' })
  })
})

describeWith(
  [needsPrograms('dropbear client', ['dbclient', 'dropbearconvert'], 'dropbear-bin')],
  'dbclient',
  () => {
    async function dbclient(
      server: OurServer,
      command: string,
      options: RunOptions & { args?: readonly string[] } = {},
    ): Promise<Finished> {
      const dir = tempDir('dropbear')
      const key = join(dir, 'key')
      await runOrThrow('dropbearconvert', [
        'openssh',
        'dropbear',
        (await clientKey('ed25519')).privateFile,
        key,
      ])
      const { args = [], ...rest } = options
      return run(
        'dbclient',
        ['-y', '-y', '-T', '-i', key, ...args, '-p', String(server.port), `ann@${server.host}`, command],
        {
          ...rest,
          env: { HOME: dir, ...rest.env },
        },
      )
    }

    test('runs commands, with its guessed first key exchange packet', async () => {
      const server = await startOurServer()
      expect(await dbclient(server, 'echo hello')).toMatchObject({ code: 0, stdout: 'hello\n' })
      expect(await dbclient(server, 'complain loudly')).toMatchObject({
        code: 1,
        stderr: expect.stringContaining('loudly\n'),
      })
      expect((await dbclient(server, 'status 9')).code).toBe(9)
      await expectPeace(server)
    })

    test('guesses wrongly without harm', async () => {
      const server = await startOurServer({ algorithms: { kex: ['ecdh-sha2-nistp521'] } })
      expect(await dbclient(server, 'echo hello')).toMatchObject({ code: 0, stdout: 'hello\n' })
      await expectPeace(server)
    })

    test('moves megabytes both ways over rekeys that we start', async () => {
      const server = await startOurServer({ rekey: { bytes: 400_000 } })
      const input = randomBytes(3_000_000)
      const found = await dbclient(server, 'cat', { input })
      expect(sha256(found.stdoutBytes)).toBe(sha256(input))
      await expectPeace(server)
    })

    test('logs in by a password', async () => {
      const server = await startOurServer({
        auth: { password: ({ password }) => password === 'right', refusalFloorMs: 0 },
      })
      expect((await dbclient(server, 'echo in', { env: { DROPBEAR_PASSWORD: 'right' } })).stdout).toBe('in\n')
    })
  },
)

async function python(
  module: string,
  program: string,
  server: OurServer,
  options: RunOptions = {},
): Promise<Finished> {
  const file = join(tempDir(module), 'client.py')
  writeFileSync(file, program)
  const key = await clientKey('ed25519')
  return run(
    findPython(module) ?? 'python3',
    ['-W', 'ignore', file, String(server.port), key.privateFile, server.paths.knownHosts],
    options,
  )
}

const start = (options?: OurServerOptions): Promise<OurServer> => startOurServer(options)

describeWith([needsPythonModule('asyncssh')], 'asyncssh', () => {
  const connect = `
import asyncssh, asyncio, sys, hashlib, os
port, key, known = int(sys.argv[1]), sys.argv[2], sys.argv[3]
def connect(**more):
    options = dict(host='127.0.0.1', port=port, username='ann', client_keys=[key], known_hosts=known, agent_path=None, config=None)
    options.update(more)
    return asyncssh.connect(**options)
`

  test('runs several commands at once over one connection, and moves megabytes', async () => {
    const server = await start()
    const { stdout, stderr } = await python(
      'asyncssh',
      `${connect}
async def main():
    async with connect() as c:
        data = os.urandom(1500000)
        results = await asyncio.gather(
            c.run('echo one'), c.run('status 5'), c.run('complain two'),
            c.run('cat', input=data, encoding=None), c.run('sha256', input=data, encoding=None))
        print(results[0].stdout.strip(), results[1].exit_status, results[2].stderr.strip(), results[3].stdout == data,
              results[4].stdout.decode().strip() == hashlib.sha256(data).hexdigest())
asyncio.run(main())
`,
      server,
    )
    expect({ stdout, stderr }).toEqual({ stdout: 'one 5 two True True\n', stderr: '' })
    await expectPeace(server)
  })

  test('logs in by password and by keyboard-interactive, and is refused by name', async () => {
    const server = await start({
      auth: {
        password: ({ password }) => password === 'right',
        keyboardInteractive: async ({ ask }) =>
          (await ask({ prompts: [{ prompt: 'Code: ', echo: false }] }))[0] === '42',
        refusalFloorMs: 0,
      },
    })
    const { stdout, stderr } = await python(
      'asyncssh',
      `${connect}
class Client(asyncssh.SSHClient):
    def kbdint_auth_requested(self): return ''
    def kbdint_challenge_received(self, name, instructions, lang, prompts): return ['42' for _ in prompts]
async def main():
    async with connect(client_keys=None, password='right', preferred_auth='password') as c:
        print((await c.run('echo pw')).stdout.strip())
    async with connect(client_keys=None, client_factory=Client, preferred_auth='keyboard-interactive') as c:
        print((await c.run('echo kbd')).stdout.strip())
    try:
        async with connect(client_keys=None, password='wrong', preferred_auth='password'): print('in')
    except asyncssh.PermissionDenied: print('denied')
asyncio.run(main())
`,
      server,
    )
    expect({ stdout, stderr }).toEqual({ stdout: 'pw\nkbd\ndenied\n', stderr: '' })
  })
})

describeWith([needsPythonModule('paramiko')], 'paramiko', () => {
  const connect = `
import paramiko, sys, hashlib, os, threading
port, key, known = int(sys.argv[1]), sys.argv[2], sys.argv[3]
def connect(**more):
    c = paramiko.SSHClient()
    c.load_host_keys(known)
    options = dict(hostname='127.0.0.1', port=port, username='ann', key_filename=key, allow_agent=False, look_for_keys=False)
    options.update(more)
    c.connect(**options)
    return c
`

  test('runs commands over one connection, and moves megabytes over rekeys of both sides', async () => {
    const server = await start({ rekey: { bytes: 700_000 } })
    const { stdout, stderr } = await python(
      'paramiko',
      `${connect}
c = connect()
def command(text, data=b''):
    i, o, e = c.exec_command(text)
    def feed():
        i.write(data)
        i.channel.shutdown_write()
    # EOF of a thread may come behind CLOSE of another where the command does not wait for it.
    t = threading.Thread(target=feed)
    if data: t.start()
    out = o.read()
    if data: t.join()
    return out, e.read(), o.channel.recv_exit_status()
# Before any channel: a CLOSE that comes while it exchanges keys stops paramiko for good.
c.get_transport().renegotiate_keys()
print(command('echo one'), command('complain two'), command('status 5')[2])
data = os.urandom(2000000)
print(command('cat', data)[0] == data, command('sha256', data)[0].decode().strip() == hashlib.sha256(data).hexdigest())
c.get_transport().send_ignore(100)
print(command('echo three')[0])
c.close()
`,
      server,
    )
    expect({ stdout, stderr }).toEqual({
      stdout: "(b'one\\n', b'', 0) (b'', b'two\\n', 1) 5\nTrue True\nb'three\\n'\n",
      stderr: '',
    })
    await expectPeace(server)
  })

  test('logs in by an RSA key without server-sig-algs of its own, and by password after partial success', async () => {
    const rsa = await clientKey('rsa-2048')
    const server = await start({
      auth: {
        authorizedKeys: () => rsa.publicLine,
        password: ({ password }) => password === 'right',
        order: ['publickey,password'],
        refusalFloorMs: 0,
      },
    })
    const { stdout, stderr } = await python(
      'paramiko',
      `${connect}
c = connect(key_filename='${rsa.privateFile}', password='right')
print(c.exec_command('echo in')[1].read())
c.close()
`,
      server,
    )
    expect({ stdout, stderr }).toEqual({ stdout: "b'in\\n'\n", stderr: '' })
    expect(
      server.events.find((event) => event.type === 'login')?.login.methods.map(({ method }) => method),
    ).toEqual(['publickey', 'password'])
  })
})
