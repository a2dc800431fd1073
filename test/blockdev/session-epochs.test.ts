// A server of ours ends the older sessions of a device before it answers a newer one, so that a write that it still had in
// hand cannot arrive later. The connections here are half open: the server never learns that its client is gone.

import {
  type BackendFile,
  MemoryBackend,
  SessionEpochs,
  type SftpBackend,
  SftpClient,
  type SftpServerSession,
  serveSftp,
} from '@sshblock/sftp'
import { type ByteDuplex, connectOver, embeddedServer, nodeCrypto } from '@sshblock/transport/node'
import { describe, expect, test } from 'vitest'
import { createBlockDevice } from '../../packages/blockdev/src/node.ts'
import type { CreateBlockDeviceOptions } from '../../packages/blockdev/src/ssh-driver.ts'
import { gate, pattern, rejection } from './scripted-file.ts'

/** A back end whose writes wait while they are told to. */
function slowBackend() {
  const inner = new MemoryBackend()
  const state = { held: undefined as Promise<void> | undefined, waiting: 0 }
  const slow = (file: BackendFile): BackendFile =>
    new Proxy(file, {
      get: (target, name) => {
        const value: unknown = Reflect.get(target, name)
        if (name !== 'write') return typeof value === 'function' ? value.bind(target) : value
        return (offset: number, bytes: Uint8Array) => {
          if (state.held === undefined) return target.write(offset, bytes)
          state.waiting++
          const copy = bytes.slice()
          return state.held.then(() => target.write(offset, copy))
        }
      },
    })
  const backend: SftpBackend = new Proxy(inner, {
    get: (target, name) => {
      const value: unknown = Reflect.get(target, name)
      if (name !== 'open') return typeof value === 'function' ? value.bind(target) : value
      return async (...args: Parameters<SftpBackend['open']>) => slow(await target.open(...args))
    },
  })
  return { backend, state, inner }
}

/** A duplex whose client end can be told that all is over, while its server end learns nothing. */
function severable(duplex: ByteDuplex): ByteDuplex & { sever(): void } {
  let isSevered = false
  let tellEnd: ((cause?: Error) => void) | undefined
  return {
    start: (sink) => {
      tellEnd = (cause) => sink.end(cause)
      duplex.start({
        reserve: (least) => sink.reserve(least),
        commit: (count) => {
          if (!isSevered) sink.commit(count)
        },
        end: (cause) => {
          if (!isSevered) sink.end(cause)
        },
      })
    },
    write: (slab, done) => (isSevered ? done() : duplex.write(slab, done)),
    pause: () => duplex.pause(),
    resume: () => duplex.resume(),
    close: () => {
      if (!isSevered) duplex.close()
    },
    sever: () => {
      isSevered = true
      tellEnd?.(new Error('the line is dead'))
    },
  }
}

async function disk(epochs: SessionEpochs | undefined, options: Partial<CreateBlockDeviceOptions> = {}) {
  const { backend, state, inner } = slowBackend()
  const served: SftpServerSession[] = []
  const server = embeddedServer({
    crypto: nodeCrypto,
    subsystems: {
      sftp: (channel) => {
        const session = serveSftp(channel, backend, epochs === undefined ? {} : { epochs })
        served.push(session)
        return session.finished
      },
    },
  })
  const lines: { sever(): void }[] = []
  const device = await createBlockDevice('ssh://test/disk.img', {
    size: 1 << 20,
    connect: () =>
      connectOver(async (signal) => {
        const line = severable(await server.open(signal))
        lines.push(line)
        return line
      }, server.clientOptions),
    firstRetryMs: 5,
    ...options,
  })
  const content = async (): Promise<Uint8Array> => {
    const session = await server.connect()
    const sftp = await SftpClient.open(await session.openSubsystem('sftp'))
    const bytes = await sftp.readFile('/disk.img')
    await session.close()
    return bytes
  }
  return { device, state, inner, lines, served, content, server }
}

describe('a half-open connection to a server of ours', () => {
  test('what the old session had in hand is done before the new one is answered, and never after', async () => {
    const { device, state, lines, content } = await disk(new SessionEpochs())
    expect(device.info.connection?.fence).toBe('session-epoch')
    const held = gate()
    state.held = held.opened
    const old = device.write(0, pattern(65_536, 1))
    await expect.poll(() => state.waiting).toBeGreaterThan(0)
    lines[0]!.sever()
    await expect.poll(() => lines.length).toBeGreaterThan(1)
    const newer = device.write(0, pattern(65_536, 2))
    state.held = undefined
    held.open()
    await Promise.all([old, newer])
    await device.flush()
    expect(Buffer.compare((await content()).subarray(0, 65_536), pattern(65_536, 2))).toBe(0)
    await device.close()
  })

  test('all sessions of the lost epoch are over, and their handles closed', async () => {
    const epochs = new SessionEpochs()
    const { device, lines, served } = await disk(epochs, { minChannels: 3 })
    await expect.poll(() => device.info.channels).toBe(3)
    await device.write(0, pattern(4096, 1))
    lines[0]!.sever()
    await device.read(0, new Uint8Array(10))
    for (const session of served.slice(0, 3))
      expect(await session.finished).toMatchObject({ reason: 'closed' })
    expect(epochs.size).toBe(1)
    await device.close()
  })

  test('without epochs and without commands the device fails', async () => {
    const { device, state, lines } = await disk(undefined)
    state.held = gate().opened
    const old = device.write(0, pattern(4096, 1))
    await expect.poll(() => state.waiting).toBeGreaterThan(0)
    lines[0]!.sever()
    expect(await rejection(old)).toMatchObject({ code: 'EIO', message: expect.stringMatching(/are unknown/) })
    await device.close().catch(() => {})
  })
})

describe('the register of sessions', () => {
  const name = new Uint8Array(16).fill(7)
  function member() {
    let over!: () => void
    const finished = new Promise<void>((resolve) => {
      over = resolve
    })
    return {
      finished,
      over,
      closed: false,
      close() {
        this.closed = true
      },
    }
  }

  test('a later epoch waits until earlier ones are over, and is told their numbers', async () => {
    const epochs = new SessionEpochs()
    const [one, two, three] = [member(), member(), member()]
    expect(await epochs.join(name, 1, 1, one)).toEqual([])
    expect(await epochs.join(name, 1, 2, two)).toEqual([])
    let answer: readonly number[] | undefined
    void epochs.join(name, 2, 3, three).then((ended) => {
      answer = ended
    })
    expect([one.closed, two.closed]).toEqual([true, true])
    one.over()
    await new Promise((resolve) => setImmediate(resolve))
    expect(answer).toBeUndefined()
    two.over()
    await expect.poll(() => answer).toEqual([1, 2])
    expect(three.closed).toBe(false)
  })

  test('an earlier epoch is refused, also one that was overtaken while it waited', async () => {
    const epochs = new SessionEpochs()
    const one = member()
    await epochs.join(name, 1, 1, one)
    const second = rejection(epochs.join(name, 2, 2, member()))
    const third = epochs.join(name, 3, 3, member())
    void third.catch(() => {})
    one.over()
    expect(await rejection(epochs.join(name, 1, 4, member()))).toMatchObject({ name: 'RequestRefused' })
    expect(await second).toMatchObject({ name: 'RequestRefused' })
  })

  test('other devices are left alone, and devices without sessions are forgotten when there are many', async () => {
    const epochs = new SessionEpochs()
    const other = member()
    await epochs.join(new Uint8Array(16).fill(9), 1, 1, other)
    for (let i = 0; i < 2000; i++) {
      const device = new Uint8Array(16)
      new DataView(device.buffer).setUint32(0, i)
      const one = member()
      await epochs.join(device, 5, 1, one)
      one.over()
      await one.finished
    }
    expect(other.closed).toBe(false)
    expect(epochs.size).toBeLessThanOrEqual(1024)
  })

  test('it is offered only where the server was told to', async () => {
    const { server } = await disk(undefined)
    const session = await server.connect()
    const sftp = await SftpClient.open(await session.openSubsystem('sftp'))
    expect(sftp.supports('session-epoch@sshblock')).toBe(false)
    expect(await rejection(sftp.joinDevice({ device: name, epoch: 1, serial: 1 }))).toMatchObject({
      code: 'ENOTSUP',
    })
    await session.close()
  })
})
