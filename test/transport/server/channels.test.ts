// What a client may do once it is in (RFC 4254): only what a handler is there for and the login permits; and how channels end.

import type {
  ByteReceiver,
  Restrictions,
  ServerChannel,
  ServerEvent,
  ServerOptions,
  SessionRequestContext,
  SubsystemHandler,
} from '@sshblock/transport'
import { embeddedServer, nodeCrypto } from '@sshblock/transport'
import { afterEach, describe, expect, test, vi } from 'vitest'
import {
  channelClose,
  channelData,
  channelEof,
  channelExtendedData,
  channelOpen,
  channelOpenFailure,
  channelRequest,
  channelWindowAdjust,
  directStreamlocalFields,
  directTcpipFields,
  envFields,
  execFields,
  exitSignalFields,
  exitStatusFields,
  globalRequest,
  ptyFields,
  signalFields,
  subsystemFields,
  windowChangeFields,
} from '../../../packages/transport/src/messages/connection.ts'
import * as number from '../../../packages/transport/src/messages/numbers.ts'
import { decodeFields, encodeFields } from '../../../packages/transport/src/wire/codec.ts'
import { Writer } from '../../../packages/transport/src/wire/writer.ts'
import type { RawClient } from './raw-client.ts'
import { loggedIn } from './raw-client.ts'

const text = (value: string): Uint8Array => new TextEncoder().encode(value)
const string = (bytes: Uint8Array): string => new TextDecoder().decode(bytes)
const subsystem = (name: string): Uint8Array => encodeFields(subsystemFields, { subsystem: name })
const exec = (command: string): Uint8Array => encodeFields(execFields, { command })
const env = (name: string, value: string): Uint8Array => encodeFields(envFields, { name, value })
const pty = (modes: Uint8Array = new Uint8Array(0)): Uint8Array =>
  encodeFields(ptyFields, { term: 'xterm', columns: 80, rows: 24, widthPixels: 0, heightPixels: 0, modes })

/** Sends back what comes, and ends when the client ends: what an SFTP server does, seen from outside. */
const echo: SubsystemHandler = (channel) => {
  const receiver: ByteReceiver = {
    data: (view) => channel.write(view),
    writable: () => {},
    end: () => channel.close(),
    closed: () => {},
  }
  channel.start(receiver)
}

const restricted = (restrictions: Restrictions): Partial<ServerOptions> => ({
  auth: { insecureAllowNone: () => restrictions },
})
const clients: RawClient[] = []

async function enter(
  options: Partial<ServerOptions> = {},
): Promise<Awaited<ReturnType<typeof loggedIn>> & { events: ServerEvent[] }> {
  const events: ServerEvent[] = []
  const scene = await loggedIn({ onEvent: (event) => void events.push(event), ...options })
  clients.push(scene.client)
  return { ...scene, events }
}

afterEach(() => {
  for (const client of clients.splice(0)) client.close()
})

/** Names of the messages about a channel, in order, with the exit status where it is one. */
function story(client: RawClient): string[] {
  const names = new Map<number, string>([
    [number.CHANNEL_DATA, 'data'],
    [number.CHANNEL_EXTENDED_DATA, 'stderr'],
    [number.CHANNEL_EOF, 'eof'],
    [number.CHANNEL_CLOSE, 'close'],
    [number.CHANNEL_SUCCESS, 'success'],
    [number.CHANNEL_FAILURE, 'failure'],
  ])
  return client.all.flatMap((message) => {
    if (message.number !== number.CHANNEL_REQUEST) return names.get(message.number) ?? []
    const { request, payload } = channelRequest.decode(message.payload)
    if (request === 'exit-status')
      return `exit ${decodeFields('exit-status', exitStatusFields, payload).status}`
    if (request === 'exit-signal')
      return `killed by ${decodeFields('exit-signal', exitSignalFields, payload).signal}`
    return request
  })
}

describe('default deny', () => {
  test.each([
    ['subsystem', subsystem('sftp')],
    ['subsystem', subsystem('__proto__')],
    ['subsystem', subsystem('constructor')],
    ['exec', exec('id')],
    ['shell', new Uint8Array(0)],
    ['pty-req', pty()],
    ['env', env('LD_PRELOAD', '/tmp/x.so')],
    ['x11-req', new Writer().bool(false).text('MIT-MAGIC-COOKIE-1').text('00').u32(0).copy()],
    ['auth-agent-req@openssh.com', new Uint8Array(0)],
    [
      'window-change',
      encodeFields(windowChangeFields, { columns: 1, rows: 1, widthPixels: 0, heightPixels: 0 }),
    ],
    ['signal', encodeFields(signalFields, { signal: 'KILL' })],
    ['exit-status', encodeFields(exitStatusFields, { status: 0 })],
    ['keepalive@openssh.com', new Uint8Array(0)],
    ['no-such-request', text('anything')],
  ])('a server without handlers refuses %s', async (request, payload) => {
    const { client } = await enter()
    const channel = await client.open()
    expect(await client.asked(channel, request, payload)).toBe(false)
  })

  test.each([
    [
      'direct-tcpip',
      encodeFields(directTcpipFields, {
        host: '127.0.0.1',
        port: 22,
        originHost: '127.0.0.1',
        originPort: 1,
      }),
      1,
    ],
    [
      'direct-streamlocal@openssh.com',
      encodeFields(directStreamlocalFields, {
        socketPath: '/run/x',
        reserved: new Uint8Array(0),
        reservedPort: 0,
      }),
      1,
    ],
    ['forwarded-tcpip', new Uint8Array(0), 1],
    ['forwarded-streamlocal@openssh.com', new Uint8Array(0), 1],
    ['x11', new Uint8Array(0), 1],
    ['auth-agent@openssh.com', new Uint8Array(0), 1],
    ['tun@openssh.com', new Uint8Array(0), 1],
    ['no-such-channel', new Uint8Array(0), 3],
    ['', new Uint8Array(0), 3],
  ])('a channel "%s" is refused', async (channelType, payload, reason) => {
    const { client, connection } = await enter()
    client.send(
      channelOpen.bytes({ channelType, senderChannel: 7, initialWindow: 1000, maxPacket: 1000, payload }),
    )
    const { recipientChannel, reason: given } = channelOpenFailure.decode(
      (await client.expect(number.CHANNEL_OPEN_FAILURE)).payload,
    )
    expect([recipientChannel, given]).toEqual([7, reason])
    expect(connection.channelCount).toBe(0)
  })

  test.each([
    'tcpip-forward',
    'cancel-tcpip-forward',
    'streamlocal-forward@openssh.com',
    'no-such-request',
    '',
  ])('the global request "%s" is refused', async (request) => {
    const { client } = await enter()
    expect((await client.global(request)).number).toBe(number.REQUEST_FAILURE)
  })

  test('a global request that wants no reply gets none', async () => {
    const { client } = await enter()
    client.send(
      globalRequest.bytes({ request: 'no-such-request', wantReply: false, payload: new Uint8Array(0) }),
    )
    await client.global('keepalive@openssh.com')
    expect(client.all.filter((message) => message.number === number.REQUEST_FAILURE)).toHaveLength(1)
  })
})

describe('what is started on a session channel', () => {
  test('a subsystem, by its exact name', async () => {
    const { client, events } = await enter({ subsystems: { echo } })
    const channel = await client.open()
    expect(await client.asked(channel, 'subsystem', subsystem('Echo'))).toBe(false)
    expect(await client.asked(channel, 'subsystem', subsystem('echo'))).toBe(true)
    client.send(channelData.bytes({ recipientChannel: channel, data: text('hello') }))
    expect(string(channelData.decode((await client.expect(number.CHANNEL_DATA)).payload).data)).toBe('hello')
    expect(events.filter((event) => event.type === 'request')).toEqual([
      { type: 'request', request: 'subsystem', detail: 'Echo', accepted: false },
      { type: 'request', request: 'subsystem', detail: 'echo', accepted: true },
    ])
  })

  test('a command, with its text as it came', async () => {
    const seen: string[] = []
    const { client } = await enter({
      exec: (channel, command) => {
        seen.push(command)
        channel.write(text('out'))
        channel.writeStderr(text('err'))
        return 3
      },
    })
    const channel = await client.open()
    await client.asked(channel, 'exec', exec("rm -rf 'a b'; $(x)\n"))
    await client.expect(number.CHANNEL_CLOSE)
    expect(seen).toEqual(["rm -rf 'a b'; $(x)\n"])
    expect(story(client)).toEqual(['success', 'data', 'stderr', 'exit 3', 'eof', 'close'])
  })

  test('a shell, with terminal and environment as far as they are allowed', async () => {
    let context: SessionRequestContext | undefined
    const { client } = await enter({
      terminals: true,
      acceptEnvironment: ['LANG', 'LC_*'],
      shell: (_, given) => {
        context = given
      },
    })
    const channel = await client.open()
    expect(await client.asked(channel, 'pty-req', pty(Uint8Array.of(53, 0, 0, 0, 1, 0)))).toBe(true)
    expect(await client.asked(channel, 'pty-req', pty())).toBe(false)
    expect(await client.asked(channel, 'env', env('LC_ALL', 'C'))).toBe(true)
    expect(await client.asked(channel, 'env', env('LD_PRELOAD', '/tmp/x.so'))).toBe(false)
    expect(await client.asked(channel, 'env', env('LC_X=LD_PRELOAD', '/tmp/x.so'))).toBe(false)
    expect(await client.asked(channel, 'env', env('LANG', 'a\0b'))).toBe(false)
    expect(await client.asked(channel, 'shell')).toBe(true)
    expect(context?.terminal).toMatchObject({ term: 'xterm', columns: 80, rows: 24 })
    expect([...(context?.terminal?.modes ?? [])]).toEqual([[53, 1]])
    expect([...(context?.environment ?? [])]).toEqual([['LC_ALL', 'C']])
    expect(await client.asked(channel, 'env', env('LC_ALL', 'late'))).toBe(false)
  })

  test('only one thing succeeds per channel', async () => {
    const started = vi.fn(() => {})
    const { client } = await enter({ subsystems: { a: started }, exec: started, shell: started })
    const channel = await client.open()
    expect(await client.asked(channel, 'exec', exec('x'))).toBe(true)
    expect(await client.asked(channel, 'exec', exec('x'))).toBe(false)
    expect(await client.asked(channel, 'shell')).toBe(false)
    expect(await client.asked(channel, 'subsystem', subsystem('a'))).toBe(false)
    expect(started).toHaveBeenCalledTimes(1)
  })

  test('data right behind the request, before its answer, is kept for the handler', async () => {
    const { client } = await enter({
      subsystems: {
        late: (channel) => {
          setTimeout(() => echo(channel, undefined as never), 20)
        },
      },
    })
    const channel = await client.open()
    client.queue(
      channelRequest.bytes({
        recipientChannel: channel,
        request: 'subsystem',
        wantReply: true,
        payload: subsystem('late'),
      }),
    )
    client.queue(channelData.bytes({ recipientChannel: channel, data: text('early ') }))
    client.queue(channelData.bytes({ recipientChannel: channel, data: text('bird') }))
    client.queue(channelEof.bytes({ recipientChannel: channel }))
    client.flush()
    await client.expect(number.CHANNEL_CLOSE)
    const data = client.all.filter((message) => message.number === number.CHANNEL_DATA)
    expect(data.map((message) => string(channelData.decode(message.payload).data)).join('')).toBe(
      'early bird',
    )
    expect(story(client)).toContain('exit 0')
  })

  test('signals and the size of the terminal reach a handler that listens', async () => {
    const heard: unknown[] = []
    const { client } = await enter({
      terminals: true,
      exec: (channel) => {
        channel.onSignal((signal) => heard.push(signal))
        channel.onResize(({ columns, rows, term }) => heard.push([columns, rows, term]))
      },
    })
    const channel = await client.open()
    await client.asked(channel, 'pty-req', pty())
    await client.asked(channel, 'exec', exec('x'))
    expect(await client.asked(channel, 'signal', encodeFields(signalFields, { signal: 'TERM' }))).toBe(true)
    await client.asked(
      channel,
      'window-change',
      encodeFields(windowChangeFields, { columns: 100, rows: 50, widthPixels: 0, heightPixels: 0 }),
    )
    expect(heard).toEqual(['TERM', [100, 50, 'xterm']])
  })

  test('a handler that throws or rejects ends its channel with status 1 and tells the client nothing', async () => {
    const error = new Error('secret path /srv/x')
    const { client, events } = await enter({
      subsystems: {
        throws: () => {
          throw error
        },
        rejects: async () => {
          throw error
        },
      },
    })
    for (const name of ['throws', 'rejects']) {
      const channel = await client.open()
      await client.asked(channel, 'subsystem', subsystem(name))
      await client.expect(number.CHANNEL_CLOSE)
      client.send(channelClose.bytes({ recipientChannel: channel }))
    }
    expect(story(client).filter((name) => name.startsWith('exit'))).toEqual(['exit 1', 'exit 1'])
    expect(client.all.some((message) => string(message.payload).includes('secret'))).toBe(false)
    expect(events.filter((event) => event.type === 'fault')).toEqual([
      { type: 'fault', error },
      { type: 'fault', error },
    ])
    await client.global('keepalive@openssh.com')
  })

  test('a receiver that throws ends this connection and nothing else', async () => {
    const { client, events } = await enter({
      exec: (channel) => {
        const receiver: ByteReceiver = {
          data: () => {
            throw new Error('receiver')
          },
          writable: () => {},
          end: () => {},
          closed: () => {},
        }
        channel.start(receiver)
      },
    })
    const channel = await client.open()
    await client.asked(channel, 'exec', exec('x'))
    client.send(channelData.bytes({ recipientChannel: channel, data: text('x') }))
    await client.ended()
    expect(events.map((event) => event.type)).toContain('fault')
  })

  test('a login from the none method gives handlers the user and the connection', async () => {
    let context: SessionRequestContext | undefined
    const { client, connection } = await enter({
      exec: (_, __, given) => {
        context = given
        return 0
      },
    })
    await client.asked(await client.open(), 'exec', exec('x'))
    expect(context?.login.user).toBe('user')
    expect(context?.connection).toBe(connection)
    expect(context?.originalCommand).toBeUndefined()
    expect(context?.session.info.peerIdentification).toBe('SSH-2.0-raw')
  })
})

describe('permissions of the login', () => {
  test('a forced command runs instead of command, shell and subsystem, and the wish is told', async () => {
    const ran: [string, string | undefined][] = []
    const other = vi.fn()
    const { client } = await enter({
      ...restricted({ command: 'backup' }),
      exec: (_, command, { originalCommand }) => {
        ran.push([command, originalCommand])
        return 0
      },
      shell: other,
      subsystems: { echo: other },
    })
    for (const [request, payload] of [
      ['exec', exec('rm -rf /')],
      ['shell', new Uint8Array(0)],
      ['subsystem', subsystem('echo')],
      ['subsystem', subsystem('no-such-subsystem')],
    ] as const) {
      expect(await client.asked(await client.open(), request, payload)).toBe(true)
    }
    expect(ran).toEqual([
      ['backup', 'rm -rf /'],
      ['backup', ''],
      ['backup', 'echo'],
      ['backup', 'no-such-subsystem'],
    ])
    expect(other).not.toHaveBeenCalled()
  })

  test('a forced command without an exec handler refuses everything', async () => {
    const other = vi.fn()
    const { client } = await enter({
      ...restricted({ command: 'backup' }),
      shell: other,
      subsystems: { sftp: other },
    })
    for (const [request, payload] of [
      ['exec', exec('x')],
      ['shell', new Uint8Array(0)],
      ['subsystem', subsystem('sftp')],
    ] as const) {
      expect(await client.asked(await client.open(), request, payload)).toBe(false)
    }
    expect(other).not.toHaveBeenCalled()
  })

  test('the forced command internal-sftp is the sftp subsystem, whatever is asked for', async () => {
    const run = vi.fn()
    const { client } = await enter({
      ...restricted({ command: 'internal-sftp -R' }),
      exec: run,
      subsystems: { sftp: echo },
    })
    const channel = await client.open()
    expect(await client.asked(channel, 'exec', exec('id'))).toBe(true)
    client.send(channelEof.bytes({ recipientChannel: channel }))
    await client.expect(number.CHANNEL_CLOSE)
    expect(story(client)).toContain('exit 0')
    expect(run).not.toHaveBeenCalled()
  })

  test('what the login lacks is refused although the server has it', async () => {
    const forward = vi.fn(() => () => {})
    const options: Partial<ServerOptions> = {
      terminals: true,
      agentForwarding: true,
      directTcpip: forward,
      directStreamlocal: forward,
      globalRequest: () => true,
    }
    const tcp = encodeFields(directTcpipFields, { host: 'db', port: 5432, originHost: '', originPort: 0 })
    const unix = encodeFields(directStreamlocalFields, {
      socketPath: '/x',
      reserved: new Uint8Array(0),
      reservedPort: 0,
    })
    const rich = await enter({ ...restricted({}), ...options })
    expect(await rich.client.asked(await rich.client.open(), 'pty-req', pty())).toBe(true)
    expect(await rich.client.asked(await rich.client.open(), 'auth-agent-req@openssh.com')).toBe(true)
    await rich.client.open('direct-tcpip', { payload: tcp })
    await rich.client.open('direct-streamlocal@openssh.com', { payload: unix })
    expect((await rich.client.global('tcpip-forward')).number).toBe(number.REQUEST_SUCCESS)
    expect(forward).toHaveBeenCalledTimes(2)

    const poor = await enter({
      ...restricted({ pty: false, agentForwarding: false, portForwarding: false }),
      ...options,
    })
    expect(await poor.client.asked(await poor.client.open(), 'pty-req', pty())).toBe(false)
    expect(await poor.client.asked(await poor.client.open(), 'auth-agent-req@openssh.com')).toBe(false)
    await expect(poor.client.open('direct-tcpip', { payload: tcp })).rejects.toThrow('open failed')
    await expect(poor.client.open('direct-streamlocal@openssh.com', { payload: unix })).rejects.toThrow(
      'open failed',
    )
    expect((await poor.client.global('tcpip-forward')).number).toBe(number.REQUEST_FAILURE)
    expect(forward).toHaveBeenCalledTimes(2)
  })

  test('permitopen admits its destinations only', async () => {
    const { client } = await enter({
      ...restricted({ permitOpen: ['db:5432'] }),
      directTcpip: () => () => {},
      directStreamlocal: () => () => {},
    })
    const open = (host: string, port: number) =>
      client.open('direct-tcpip', {
        payload: encodeFields(directTcpipFields, { host, port, originHost: '', originPort: 0 }),
      })
    await open('db', 5432)
    await expect(open('db', 5433)).rejects.toThrow('open failed')
    await expect(open('db.evil', 5432)).rejects.toThrow('open failed')
    const unix = encodeFields(directStreamlocalFields, {
      socketPath: '/x',
      reserved: new Uint8Array(0),
      reservedPort: 0,
    })
    await expect(client.open('direct-streamlocal@openssh.com', { payload: unix })).rejects.toThrow(
      'open failed',
    )
  })
})

describe('forwarding by a hook', () => {
  const tcp = encodeFields(directTcpipFields, {
    host: 'db',
    port: 5432,
    originHost: '192.0.2.1',
    originPort: 4000,
  })

  test('undefined refuses, an exception says that connecting failed, a handler serves', async () => {
    const decisions = [
      () => undefined,
      () => Promise.reject(new Error('ECONNREFUSED 10.0.0.3')),
      () => (channel: ServerChannel) =>
        void channel.start({
          data: (view) => channel.write(view),
          writable: () => {},
          end: () => channel.close(),
          closed: () => {},
        }),
    ]
    const requests: unknown[] = []
    const { client } = await enter({
      directTcpip: (request) => {
        requests.push(request)
        return decisions[requests.length - 1]?.()
      },
    })
    const ask = async (): Promise<number> => {
      client.send(
        channelOpen.bytes({
          channelType: 'direct-tcpip',
          senderChannel: 0,
          initialWindow: 1000,
          maxPacket: 1000,
          payload: tcp,
        }),
      )
      const answer = await client.expect(number.CHANNEL_OPEN_FAILURE, number.CHANNEL_OPEN_CONFIRMATION)
      return answer.number === number.CHANNEL_OPEN_FAILURE
        ? channelOpenFailure.decode(answer.payload).reason
        : 0
    }
    expect(await ask()).toBe(number.openFailure.administrativelyProhibited)
    expect(await ask()).toBe(number.openFailure.connectFailed)
    expect(client.all.some((message) => string(message.payload).includes('10.0.0.3'))).toBe(false)
    expect(await ask()).toBe(0)
    expect(requests[0]).toEqual({ host: 'db', port: 5432, originHost: '192.0.2.1', originPort: 4000 })
    client.send(channelData.bytes({ recipientChannel: 0, data: text('ping') }))
    client.send(channelEof.bytes({ recipientChannel: 0 }))
    await client.expect(number.CHANNEL_CLOSE)
    expect(story(client)).toEqual(['data', 'eof', 'close'])
  })

  test('questions that nobody answered yet count as channels', async () => {
    const { client } = await enter({ maxChannels: 3, directTcpip: () => new Promise(() => {}) })
    for (let i = 0; i < 5; i++)
      client.send(
        channelOpen.bytes({
          channelType: 'direct-tcpip',
          senderChannel: i,
          initialWindow: 1,
          maxPacket: 1,
          payload: tcp,
        }),
      )
    await client.global('keepalive@openssh.com')
    const refusals = client.all
      .filter((message) => message.number === number.CHANNEL_OPEN_FAILURE)
      .map((message) => channelOpenFailure.decode(message.payload))
    expect(refusals.map(({ recipientChannel, reason }) => [recipientChannel, reason])).toEqual([
      [3, number.openFailure.resourceShortage],
      [4, number.openFailure.resourceShortage],
    ])
  })

  test('an answer that comes after the end of the connection opens nothing', async () => {
    let answer: ((handler: () => void) => void) | undefined
    const handler = vi.fn()
    const { client, connection } = await enter({
      directTcpip: () =>
        new Promise((resolve) => {
          answer = resolve
        }),
    })
    client.send(
      channelOpen.bytes({
        channelType: 'direct-tcpip',
        senderChannel: 0,
        initialWindow: 1,
        maxPacket: 1,
        payload: tcp,
      }),
    )
    await client.global('keepalive@openssh.com')
    client.close()
    await connection.closed
    answer?.(handler)
    await new Promise((resolve) => setTimeout(resolve, 5))
    expect(handler).not.toHaveBeenCalled()
    expect(connection.channelCount).toBe(0)
  })
})

describe('how channels end', () => {
  test('when the client ends a subsystem: its output, exit-status 0, EOF, CLOSE, and the connection stays', async () => {
    const { client, connection } = await enter({ subsystems: { echo } })
    const channel = await client.open()
    await client.asked(channel, 'subsystem', subsystem('echo'))
    client.send(channelData.bytes({ recipientChannel: channel, data: text('x') }))
    client.send(channelEof.bytes({ recipientChannel: channel }))
    await client.expect(number.CHANNEL_CLOSE)
    expect(story(client)).toEqual(['success', 'data', 'exit 0', 'eof', 'close'])
    client.send(channelClose.bytes({ recipientChannel: channel }))
    await client.global('keepalive@openssh.com')
    expect(connection.channelCount).toBe(0)
    expect(connection.failure).toBeUndefined()
  })

  test('nothing that was written is lost, however small the window of the client', async () => {
    const { client } = await enter({
      exec: (channel) => {
        channel.write(text('0123456789'))
        channel.writeStderr(text('abcdef'))
        channel.write(text('XYZ'))
        return 5
      },
    })
    const channel = await client.open('session', { window: 4, maxPacket: 3 })
    await client.asked(channel, 'exec', exec('x'))
    const parts: string[] = []
    for (;;) {
      const { number: type, payload } = await client.expect(
        number.CHANNEL_DATA,
        number.CHANNEL_EXTENDED_DATA,
        number.CHANNEL_CLOSE,
      )
      if (type === number.CHANNEL_CLOSE) break
      const data =
        type === number.CHANNEL_DATA
          ? channelData.decode(payload).data
          : channelExtendedData.decode(payload).data
      parts.push(`${type === number.CHANNEL_DATA ? '' : '!'}${string(data)}`)
      client.send(channelWindowAdjust.bytes({ recipientChannel: channel, bytes: data.length }))
    }
    expect(parts.join('').replaceAll('!', '')).toBe('0123456789abcdefXYZ')
    expect(
      parts
        .filter((part) => part.startsWith('!'))
        .join('')
        .replaceAll('!', ''),
    ).toBe('abcdef')
    expect(story(client).slice(-3)).toEqual(['exit 5', 'eof', 'close'])
  })

  test('a window that is used up exactly still lets the status, EOF and CLOSE out', async () => {
    const { client } = await enter({
      exec: (channel) => {
        channel.write(text('0123456789'))
        return 0
      },
    })
    const channel = await client.open('session', { window: 4 })
    await client.asked(channel, 'exec', exec('x'))
    client.send(channelWindowAdjust.bytes({ recipientChannel: channel, bytes: 6 }))
    await client.expect(number.CHANNEL_CLOSE)
    expect(story(client).slice(-3)).toEqual(['exit 0', 'eof', 'close'])
  })

  test('a signal as the reason is told', async () => {
    const { client } = await enter({
      exec: (channel) => channel.exitWith({ signal: 'SEGV', coreDumped: true, message: 'oops' }),
    })
    await client.asked(await client.open(), 'exec', exec('x'))
    await client.expect(number.CHANNEL_CLOSE)
    expect(story(client)).toEqual(['success', 'killed by SEGV', 'eof', 'close'])
  })

  test('what comes after the exit status is ignored: a second status, data, EOF', async () => {
    const { client } = await enter({
      exec: (channel) => {
        channel.exitWith(1)
        channel.exitWith(2)
        channel.write(text('late'))
        channel.writeStderr(text('late'))
        channel.end()
        channel.close()
        return 3
      },
    })
    await client.asked(await client.open(), 'exec', exec('x'))
    await client.expect(number.CHANNEL_CLOSE)
    await client.global('keepalive@openssh.com')
    expect(story(client)).toEqual(['success', 'exit 1', 'eof', 'close'])
  })

  test('CLOSE of the client is answered once and reaches the handler as the end, with its signal fired', async () => {
    const seen: string[] = []
    const { client, connection } = await enter({
      subsystems: {
        wait: (channel, { signal }) => {
          signal.addEventListener('abort', () => seen.push('abort'))
          const receiver: ByteReceiver = {
            data: () => {},
            writable: () => {},
            end: () => {},
            closed: (cause) => seen.push(`closed ${cause}`),
          }
          channel.start(receiver)
        },
      },
    })
    const channel = await client.open()
    await client.asked(channel, 'subsystem', subsystem('wait'))
    client.send(channelClose.bytes({ recipientChannel: channel }))
    await client.expect(number.CHANNEL_CLOSE)
    expect(seen).toEqual(['closed undefined', 'abort'])
    expect(connection.channelCount).toBe(0)
    expect(story(client)).toEqual(['success', 'close'])
  })

  test('window that comes for a channel behind its CLOSE is let pass; for one that never was it is not', async () => {
    const { client } = await enter({ exec: () => 0 })
    const channel = await client.open()
    await client.asked(channel, 'exec', exec('x'))
    await client.expect(number.CHANNEL_CLOSE)
    client.send(channelClose.bytes({ recipientChannel: channel }))
    client.send(channelWindowAdjust.bytes({ recipientChannel: channel, bytes: 2 ** 32 - 1 }))
    await client.global('keepalive@openssh.com')
    client.send(channelWindowAdjust.bytes({ recipientChannel: channel + 1, bytes: 1 }))
    expect((await client.ended()).message).toContain('reason 2')
  })

  test('the end of the connection ends every handler, and its stumbling over that is no fault', async () => {
    const { client, connection, events } = await enter({
      exec: async (channel) => {
        for await (const _ of channel.readable());
        return 0
      },
    })
    for (let i = 0; i < 3; i++) await client.asked(await client.open(), 'exec', exec('x'))
    client.close()
    await connection.closed
    await new Promise((resolve) => setTimeout(resolve, 5))
    expect(events.filter((event) => event.type === 'fault')).toEqual([])
    expect(events.at(-1)).toMatchObject({ type: 'closed', failure: { code: 'ERR_SSH_CONNECTION_LOST' } })
  })

  test('a handler that stops reading may still answer', async () => {
    const { client } = await enter({
      exec: async (channel) => {
        const reader = channel.readable().getReader()
        await reader.read()
        await reader.cancel()
        channel.write(text('enough'))
        return 0
      },
    })
    const channel = await client.open()
    await client.asked(channel, 'exec', exec('x'))
    for (let i = 0; i < 3; i++)
      client.send(channelData.bytes({ recipientChannel: channel, data: text('input') }))
    await client.expect(number.CHANNEL_CLOSE)
    expect(story(client)).toEqual(['success', 'data', 'exit 0', 'eof', 'close'])
  })
})

describe('limits', () => {
  test('10 sessions per connection and no 11th, until one is closed by both sides', async () => {
    const { client, connection } = await enter({ subsystems: { echo } })
    const channels = []
    for (let i = 0; i < 10; i++) channels.push(await client.open('session', { sender: i }))
    await expect(client.open('session', { sender: 10 })).rejects.toThrow('open failed')
    client.send(channelClose.bytes({ recipientChannel: channels[3]! }))
    await client.expect(number.CHANNEL_CLOSE)
    await client.open('session', { sender: 11 })
    expect(connection.channelCount).toBe(10)
  })

  test('no-more-sessions@openssh.com is kept', async () => {
    const { client } = await enter({ subsystems: { echo } })
    await client.open()
    client.send(
      globalRequest.bytes({
        request: 'no-more-sessions@openssh.com',
        wantReply: false,
        payload: new Uint8Array(0),
      }),
    )
    await expect(client.open('session', { sender: 1 })).rejects.toThrow('open failed')
  })

  test('a channel with a maximum packet of 0 is refused, of 1 works', async () => {
    const { client } = await enter({
      exec: async (channel) => {
        channel.write(text('abc'))
        return 0
      },
    })
    await expect(client.open('session', { maxPacket: 0 })).rejects.toThrow('open failed')
    const channel = await client.open('session', { maxPacket: 1 })
    await client.asked(channel, 'exec', exec('x'))
    await client.expect(number.CHANNEL_CLOSE)
    expect(story(client)).toEqual(['success', 'data', 'data', 'data', 'exit 0', 'eof', 'close'])
  })

  test('10 000 terminal modes are a small map', async () => {
    let size = 0
    const { client } = await enter({
      terminals: true,
      shell: (_, { terminal }) => {
        size = terminal?.modes.size ?? 0
      },
    })
    const modes = new Uint8Array(50_000)
    for (let i = 0; i < modes.length; i += 5) modes[i] = 1 + ((i / 5) % 159)
    const channel = await client.open()
    expect(await client.asked(channel, 'pty-req', pty(modes))).toBe(true)
    await client.asked(channel, 'shell')
    expect(size).toBe(159)
  })

  test('the environment of a channel is bounded in number and bytes', async () => {
    const { client } = await enter({ acceptEnvironment: ['*'] })
    const channel = await client.open()
    const granted = async (count: number, value: string, prefix: string): Promise<number> => {
      let yes = 0
      for (let i = 0; i < count; i++)
        if (await client.asked(channel, 'env', env(`${prefix}${i}`, value))) yes++
      return yes
    }
    expect(await granted(130, 'x', 'A')).toBe(128)
    const second = await client.open('session', { sender: 1 })
    let yes = 0
    for (let i = 0; i < 5; i++) if (await client.asked(second, 'env', env(`B${i}`, 'x'.repeat(20_000)))) yes++
    expect(yes).toBe(3)
  })
})

describe('malformed requests', () => {
  const whole: [string, Uint8Array][] = [
    ['subsystem', subsystem('echo')],
    ['exec', exec('ls')],
    ['env', env('A', 'b')],
    ['pty-req', pty(Uint8Array.of(53, 0, 0, 0, 1))],
    [
      'window-change',
      encodeFields(windowChangeFields, { columns: 1, rows: 1, widthPixels: 1, heightPixels: 1 }),
    ],
    ['signal', encodeFields(signalFields, { signal: 'TERM' })],
  ]

  test.each(whole)(
    '%s cut short anywhere, or with one byte more, ends the connection with no handler called',
    async (request, payload) => {
      const handler = vi.fn()
      const options: Partial<ServerOptions> = {
        exec: handler,
        subsystems: { echo: handler },
        shell: handler,
        terminals: true,
        acceptEnvironment: ['*'],
      }
      // Every length of a short payload, but not every handshake of a long one.
      const step = Math.max(1, Math.floor(payload.length / 8))
      const bad: Uint8Array[] = [new Uint8Array([...payload, 0])]
      for (let length = 0; length < payload.length; length += step) bad.push(payload.subarray(0, length))
      for (const cut of bad) {
        const { client, connection } = await enter(options)
        const channel = await client.open()
        if (request === 'signal' || request === 'window-change')
          await client.asked(channel, 'exec', exec('x'))
        handler.mockClear()
        client.channelRequest(channel, request, cut)
        await client.ended()
        expect(connection.failure).toMatchObject({ code: 'ERR_SSH_PROTOCOL' })
        expect(handler).not.toHaveBeenCalled()
      }
    },
  )

  test('extended data of any type on a subsystem is swallowed, and the subsystem goes on', async () => {
    const { client } = await enter({ subsystems: { echo } })
    const channel = await client.open()
    await client.asked(channel, 'subsystem', subsystem('echo'))
    for (const dataType of [0, 1, 2 ** 32 - 1]) {
      for (let i = 0; i < 40; i++)
        client.send(
          channelExtendedData.bytes({ recipientChannel: channel, dataType, data: new Uint8Array(32_768) }),
        )
    }
    client.send(channelData.bytes({ recipientChannel: channel, data: text('still here') }))
    expect(string(channelData.decode((await client.expect(number.CHANNEL_DATA)).payload).data)).toBe(
      'still here',
    )
  })
})

describe('in one process', () => {
  test('bulk data both ways arrives whole under back-pressure, over rekeys', async () => {
    const server = embeddedServer({
      crypto: nodeCrypto,
      rekey: { bytes: 300_000 },
      subsystems: {
        echo: async (channel) => {
          await channel.readable().pipeTo(channel.writable())
          return 0
        },
      },
    })
    const session = await server.connect({ rekey: { bytes: 500_000 } })
    const channel = await session.openSubsystem('echo')
    const sent = new Uint8Array(4_000_000)
    const view = new DataView(sent.buffer)
    for (let i = 0; i < sent.length; i += 4) view.setUint32(i, i)
    const got = channel.collect()
    const writer = channel.writable().getWriter()
    for (let at = 0; at < sent.length; at += 100_000) await writer.write(sent.subarray(at, at + 100_000))
    await writer.close()
    const { stdout, exit } = await got
    expect(Buffer.compare(stdout, sent)).toBe(0)
    expect(exit).toEqual({ type: 'status', status: 0 })
    await server.close()
  })

  test('the embedded server lets in its own client only', async () => {
    await using server = embeddedServer({ crypto: nodeCrypto })
    await using other = embeddedServer({ crypto: nodeCrypto })
    const session = await server.connect()
    expect(session.info.user).toBe('user')
    await expect(server.connect({ username: 'root' })).rejects.toMatchObject({ code: 'ERR_SSH_AUTH' })
    await expect(server.connect({ auth: other.clientOptions.auth })).rejects.toMatchObject({
      code: 'ERR_SSH_AUTH',
    })
    await expect(server.connect({ hostKeyPolicy: other.clientOptions.hostKeyPolicy })).rejects.toMatchObject({
      code: 'ERR_SSH_HOST_KEY_MISMATCH',
    })
    await session.close()
  })
})
