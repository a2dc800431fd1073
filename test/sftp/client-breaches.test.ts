/** What a server that breaks the protocol can do: end the channel with one error. Never more. */
import { concat, utf8Bytes, Writer } from '@sshblock/transport/wire'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type RemoteFile, SftpClient, SftpProtocolError } from '../../packages/sftp/src/index.ts'
import { extended, packetType, replies } from '../../packages/sftp/src/messages/index.ts'
import {
  framed,
  nameEntry,
  packetOf,
  pattern,
  ScriptedServer,
  type ScriptedServerOptions,
  settle,
} from './scripted-server.ts'

async function opened(
  options: ScriptedServerOptions = {},
): Promise<{ server: ScriptedServer; client: SftpClient; file: RemoteFile; spare: RemoteFile }> {
  const server = new ScriptedServer({ files: [['/f', pattern(100_000)]], ...options })
  const client = await SftpClient.open(server.channel)
  const file = await client.open('/f', 'r+')
  const spare = await client.open('/f')
  return { server, client, file, spare }
}

/** Two calls that wait, so that "all pending reject" means something; none may resolve. */
async function expectBreach(
  { server, client, file }: Awaited<ReturnType<typeof opened>>,
  calls: Promise<unknown>[],
  message: RegExp,
): Promise<void> {
  const outcomes = await Promise.allSettled([...calls, client.closed])
  const errors = outcomes.map((outcome) => {
    expect(outcome.status).toBe('rejected')
    return (outcome as PromiseRejectedResult).reason
  })
  // One sticky error, the same for all.
  expect(new Set(errors).size).toBe(1)
  expect(errors[0]).toBeInstanceOf(SftpProtocolError)
  expect(errors[0]).toMatchObject({ code: 'ERR_SFTP_PROTOCOL' })
  expect(errors[0].message).toMatch(message)
  expect(server.closed).toBe(true)
  await expect(client.stat('/f')).rejects.toBe(errors[0])
  await expect(file.read(0, new Uint8Array(10))).rejects.toBe(errors[0])
  await expect(file.write(0, new Uint8Array(10))).rejects.toBe(errors[0])
}

describe('an answer that matches no request ends the channel', () => {
  test('unknown id', async () => {
    const all = await opened()
    all.server.hold()
    const calls = [all.client.stat('/f'), all.file.read(0, new Uint8Array(1000))]
    await settle()
    all.server.sendRaw(packetOf(replies.data, { id: 77_777, data: pattern(1000, 9) }))
    await expectBreach(all, calls, /DATA for id 77777, which no request waits for/)
  })

  test('duplicate answer', async () => {
    const all = await opened()
    all.server.hold()
    const first = all.client.stat('/f')
    const others = [all.client.lstat('/f'), all.file.read(0, new Uint8Array(10))]
    await settle()
    all.server.release((answers) => [answers[0]!, answers[0]!, ...answers.slice(1)])
    // The first answer is right; its repetition ends the channel before the others are looked at.
    await expect(first).resolves.toMatchObject({ size: 100_000 })
    await expectBreach(all, others, /ATTRS for id \d+, which no request waits for/)
  })

  test('duplicate DATA with other bytes never reaches the buffer', async () => {
    const all = await opened()
    all.server.hold()
    const into = new Uint8Array(1000)
    const read = all.file.read(0, into)
    const other = all.client.stat('/f')
    await settle()
    const id = all.server.requests('READ').at(-1)!.id
    all.server.sendRaw(packetOf(replies.data, { id, data: pattern(100_000).subarray(0, 1000) }))
    await expect(read).resolves.toBe(1000)
    all.server.sendRaw(packetOf(replies.data, { id, data: new Uint8Array(1000).fill(0xff) }))
    await expectBreach(all, [other], /DATA for id/)
    expect(into).toEqual(pattern(100_000).subarray(0, 1000))
  })

  test('a second VERSION', async () => {
    const all = await opened()
    all.server.hold()
    const call = all.client.stat('/f')
    await settle()
    all.server.sendRaw(packetOf(replies.version, { version: 3, extensions: [] }))
    await expectBreach(all, [call], /second VERSION/)
  })
})

describe('an answer of the wrong type ends the channel', () => {
  const answers: Record<string, (id: number) => Uint8Array> = {
    'STATUS OK': (id) => packetOf(replies.status, { id, code: 0, message: '', language: '' }),
    HANDLE: (id) => packetOf(replies.handle, { id, handle: utf8Bytes('h9') }),
    DATA: (id) => packetOf(replies.data, { id, data: utf8Bytes('x') }),
    NAME: (id) => packetOf(replies.name, { id, names: [nameEntry('/x')] }),
    ATTRS: (id) => packetOf(replies.attrs, { id, attrs: {} }),
    EXTENDED_REPLY: (id) => packetOf(extended.extendedReply, { id, data: new Uint8Array(88) }),
    INIT: (id) => framed(new Writer().u8(packetType.init).u32(id).copy()),
    'packet type 99': (id) => framed(new Writer().u8(99).u32(id).copy()),
  }
  const calls: Record<
    string,
    { right: string; call(all: Awaited<ReturnType<typeof opened>>): Promise<unknown> }
  > = {
    OPEN: { right: 'HANDLE', call: ({ client }) => client.open('/f') },
    READ: { right: 'DATA', call: ({ file }) => file.read(0, new Uint8Array(10)) },
    WRITE: { right: 'STATUS OK', call: ({ file }) => file.write(0, new Uint8Array(10)) },
    CLOSE: { right: 'STATUS OK', call: ({ spare }) => spare.close() },
    STAT: { right: 'ATTRS', call: ({ client }) => client.stat('/f') },
    MKDIR: { right: 'STATUS OK', call: ({ client }) => client.mkdir('/d') },
    REALPATH: { right: 'NAME', call: ({ client }) => client.realpath('.') },
    OPENDIR: { right: 'HANDLE', call: ({ client }) => client.readdir('/').next() },
    'statvfs@openssh.com': { right: 'EXTENDED_REPLY', call: ({ client }) => client.statvfs('/') },
    'fsync@openssh.com': { right: 'STATUS OK', call: ({ file }) => file.sync() },
  }
  for (const [request, { right, call }] of Object.entries(calls)) {
    for (const [answer, make] of Object.entries(answers)) {
      if (answer === right) continue
      test(`${answer} for ${request}`, async () => {
        const all = await opened({
          extensions: [
            ['statvfs@openssh.com', '2'],
            ['fsync@openssh.com', '1'],
          ],
        })
        all.server.hold()
        const pending = call(all)
        const other = all.client.stat('/f')
        await settle()
        const id = all.server.requests(request).at(-1)!.id
        all.server.sendRaw(make(id))
        const message =
          answer === 'STATUS OK' ? /STATUS OK in answer to/ : new RegExp(`${answer} in answer to`)
        await expectBreach(all, [pending, other], message)
      })
    }
  }
})

describe('DATA', () => {
  test('exactly what was asked is taken; one byte more ends the channel', async () => {
    const all = await opened()
    all.server.hold()
    const into = new Uint8Array(100)
    const good = all.file.read(0, into)
    await settle()
    all.server.sendRaw(
      packetOf(replies.data, { id: all.server.requests('READ').at(-1)!.id, data: pattern(100, 5) }),
    )
    await expect(good).resolves.toBe(100)

    const bad = all.file.read(0, into)
    await settle()
    all.server.sendRaw(
      packetOf(replies.data, { id: all.server.requests('READ').at(-1)!.id, data: new Uint8Array(101) }),
    )
    await expectBreach(all, [bad], /101 bytes in answer to a READ of 100/)
    expect(into).toEqual(pattern(100, 5))
  })

  test('more than the missing tail ends the channel', async () => {
    let answered = 0
    const all = await opened({
      onRequest: (request, server) => {
        if (request.name !== 'READ') return false
        server.answer(
          request,
          packetOf(replies.data, { id: request.id, data: new Uint8Array(answered++ === 0 ? 60 : 41) }),
        )
        return true
      },
    })
    await expectBreach(all, [all.file.read(0, new Uint8Array(100))], /41 bytes in answer to a READ of 40/)
  })

  test('without a byte is asked again once; a second time ends the channel', async () => {
    const all = await opened({
      onRequest: (request, server) => {
        if (request.name !== 'READ') return false
        server.answer(request, packetOf(replies.data, { id: request.id, data: new Uint8Array(0) }))
        return true
      },
    })
    await expectBreach(all, [all.file.read(0, new Uint8Array(100))], /second DATA without any byte/)
    expect(all.server.requests('READ')).toHaveLength(2)
  })

  test('without a byte once, then whole, is fine', async () => {
    let empties = 0
    const { file } = await opened({
      onRequest: (request, server) => {
        if (request.name !== 'READ' || empties++ > 0) return false
        server.answer(request, packetOf(replies.data, { id: request.id, data: new Uint8Array(0) }))
        return true
      },
    })
    const into = new Uint8Array(1000)
    await expect(file.read(0, into)).resolves.toBe(1000)
    expect(into).toEqual(pattern(100_000).subarray(0, 1000))
  })
})

describe('counts and sizes', () => {
  /** Answers the given request with raw packet bytes from the id on. */
  const answering = (name: string, body: (id: number) => Uint8Array): ScriptedServerOptions => ({
    extensions: [['limits@openssh.com', '1']],
    onRequest: (request, server) => {
      if (request.name !== name && request.extension !== name) return false
      server.answer(request, framed(body(request.id)))
      return true
    },
  })
  const handle = (length: number) => (id: number) =>
    replies.handle.bytes({ id, handle: new Uint8Array(length).fill(0x68) })
  const names = (count: number, entries: Uint8Array) => (id: number) =>
    new Writer().u8(packetType.name).u32(id).u32(count).raw(entries).copy()
  const entry = new Writer().string(utf8Bytes('/x')).string(new Uint8Array(0)).u32(0).copy()

  test.each([1, 256])('a handle of %i bytes is taken', async (length) => {
    const { file } = await opened(answering('OPEN', handle(length)))
    expect(file.handle).toHaveLength(length)
  })

  const breaches: [string, ScriptedServerOptions, (client: SftpClient) => Promise<unknown>, RegExp][] = [
    ['a handle of 0 bytes', answering('OPEN', handle(0)), (client) => client.open('/f'), /handle of 0 bytes/],
    [
      'a handle of 257 bytes',
      answering('OPEN', handle(257)),
      (client) => client.open('/f'),
      /handle of 257 bytes/,
    ],
    [
      'REALPATH with no name',
      answering('REALPATH', names(0, new Uint8Array(0))),
      (client) => client.realpath('.'),
      /0 names/,
    ],
    [
      'REALPATH with two names',
      answering('REALPATH', names(2, concat(entry, entry))),
      (client) => client.realpath('.'),
      /2 names/,
    ],
    [
      'REALPATH with an empty name',
      answering('REALPATH', names(1, new Uint8Array(12))),
      (client) => client.realpath('.'),
      /empty name/,
    ],
    [
      'NAME with 2^32 - 1 names',
      answering('READDIR', names(2 ** 32 - 1, entry)),
      (client) => client.readdir('/').next(),
      /4294967295 names/,
    ],
    [
      'NAME with one name too many',
      answering('READDIR', names(2, entry)),
      (client) => client.readdir('/').next(),
      /2 names/,
    ],
    [
      'ATTRS with 2^32 - 1 extended attributes',
      answering('STAT', (id) =>
        new Writer()
          .u8(packetType.attrs)
          .u32(id)
          .u32(0x8000_0000)
          .u32(2 ** 32 - 1)
          .copy(),
      ),
      (client) => client.stat('/f'),
      /4294967295 extended attributes/,
    ],
    [
      'ATTRS that end early',
      answering('STAT', (id) => new Writer().u8(packetType.attrs).u32(id).u32(0xf).u32(0).copy()),
      (client) => client.stat('/f'),
      /ATTRS.attrs/,
    ],
    ...[0x20_0000, 0x8000_0000, 0xffff_ffff].map((high): (typeof breaches)[number] => [
      `a size of ${high.toString(16)}00000000`,
      answering('STAT', (id) => new Writer().u8(packetType.attrs).u32(id).u32(1).u32(high).u32(0).copy()),
      (client) => client.stat('/f'),
      /above 2\^53 - 1/,
    ]),
    [
      'STATUS without a code',
      answering('MKDIR', (id) => new Writer().u8(packetType.status).u32(id).copy()),
      (client) => client.mkdir('/d'),
      /STATUS without a code/,
    ],
    [
      'a reply of limits@openssh.com that is too short',
      answering('limits@openssh.com', (id) =>
        new Writer().u8(packetType.extendedReply).u32(id).u32(1).copy(),
      ),
      (client) => client.limitsKnown,
      /limits@openssh.com reply/,
    ],
  ]
  test.each(breaches)('%s ends the channel', async (_name, options, call, message) => {
    const server = new ScriptedServer({ files: [['/f', pattern(10)]], ...options })
    const client = await SftpClient.open(server.channel)
    const error = await call(client).then(
      () => expect.unreachable(),
      (reason) => reason,
    )
    expect(error).toBeInstanceOf(SftpProtocolError)
    expect(error.message).toMatch(message)
    await expect(client.stat('/f')).rejects.toBe(error)
    expect(server.closed).toBe(true)
  })

  test('a packet above 256 KiB ends the channel before it came', async () => {
    const all = await opened()
    all.server.hold()
    const call = all.client.stat('/f')
    await settle()
    all.server.sendRaw(new Writer().u32(262_145).u8(packetType.attrs).copy())
    await expectBreach(all, [call], /packet of 262145 bytes/)
  })

  test('STATUS without message and language is an ordinary refusal, an unknown code a failure', async () => {
    for (const [code, expected] of [
      [2, 'ENOENT'],
      [4, 'EIO'],
      [4711, 'EIO'],
    ] as const) {
      const server = new ScriptedServer(
        answering('MKDIR', (id) => new Writer().u8(packetType.status).u32(id).u32(code).copy()),
      )
      const client = await SftpClient.open(server.channel)
      await expect(client.mkdir('/d')).rejects.toMatchObject({
        code: expected,
        status: code,
        serverMessage: '',
      })
      await expect(client.realpath('.')).resolves.toBe('.')
    }
  })
})

describe('VERSION', () => {
  const withVersion = (packet: Uint8Array): ScriptedServer =>
    new ScriptedServer({
      onRequest: (request, server) => {
        if (request.name !== 'INIT') return false
        server.answer(request, framed(packet))
        return true
      },
    })

  test.each([0, 2, 4, 6, 2 ** 32 - 1])('%i in answer to 3 is refused', async (version) => {
    const server = withVersion(replies.version.bytes({ version, extensions: [] }))
    await expect(SftpClient.open(server.channel)).rejects.toThrow(`version ${version} in answer to 3`)
    expect(server.closed).toBe(true)
  })

  test('anything else before it is refused', async () => {
    const server = withVersion(replies.status.bytes({ id: 0, code: 0, message: '', language: '' }))
    await expect(SftpClient.open(server.channel)).rejects.toThrow(/STATUS before VERSION/)
  })

  test('a shell banner instead of SFTP is refused at once', async () => {
    const server = new ScriptedServer({
      onRequest: (_request, scripted) => {
        scripted.sendRaw(utf8Bytes('This service allows sftp connections only.\r\n'))
        return true
      },
    })
    await expect(SftpClient.open(server.channel)).rejects.toBeInstanceOf(SftpProtocolError)
  })

  test('extension names such as __proto__ are only names', async () => {
    const server = new ScriptedServer({
      extensions: [
        ['__proto__', '1'],
        ['constructor', '1'],
        ['twice', 'first'],
        ['twice', 'second'],
      ],
    })
    const client = await SftpClient.open(server.channel)
    expect([...client.extensions.keys()]).toEqual(['__proto__', 'constructor', 'twice'])
    expect(client.extensions.get('twice')).toEqual(utf8Bytes('first'))
    expect(client.supports('twice', 'second')).toBe(true)
    expect(client.supports('hasOwnProperty')).toBe(false)
  })
})

test('garbage ends in one typed error, whatever it is', async () => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ minLength: 9, maxLength: 300 }), async (garbage) => {
      const { server, client, file } = await opened()
      server.hold()
      const calls = [client.stat('/f'), file.read(0, new Uint8Array(50)), file.write(0, new Uint8Array(50))]
      await settle(2)
      server.sendRaw(garbage)
      // A length field that promises more than came leaves everything pending: the end of the channel settles it.
      server.close()
      for (const outcome of await Promise.allSettled(calls)) {
        if (outcome.status === 'fulfilled') continue
        expect(['ERR_SFTP_PROTOCOL', 'ERR_SSH_CHANNEL_CLOSED', 'ENOENT', 'EIO']).toContain(
          outcome.reason.code,
        )
      }
    }),
    { numRuns: 60 },
  )
})
