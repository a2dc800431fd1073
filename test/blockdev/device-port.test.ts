/** A device in another thread when things go wrong: a page that errs, a thread that ends or never answers, several pages. */
import { MessageChannel, type MessagePort, Worker } from 'node:worker_threads'
import { MemoryDevice } from '@sshblock/blockdev'
import { type DevicePort, deviceFromPort, serveDevice } from '@sshblock/blockdev/adapters'
import { describe, expect, it, vi } from 'vitest'
import { portProtocol } from '../../packages/blockdev/src/adapters/device-port.ts'
import { registerCleanup } from '../support/cleanup.ts'

const noise = (length: number): Uint8Array => Uint8Array.from({ length }, (_, i) => (i * 31 + (i >> 8)) & 255)
const asPort = (port: MessagePort): DevicePort => port as unknown as DevicePort

function channel(): { near: MessagePort; far: MessagePort } {
  const { port1: near, port2: far } = new MessageChannel()
  registerCleanup(() => {
    near.close()
    far.close()
  })
  return { near, far }
}

/** What the device's side answers, by id. */
async function ask(
  near: MessagePort,
  messages: readonly unknown[],
): Promise<Map<unknown, { error?: unknown }>> {
  const answers = new Map<unknown, { error?: unknown }>()
  near.on('message', (message) => answers.set(message.id, message))
  for (const message of messages) near.postMessage(message)
  near.postMessage({ protocol: portProtocol, id: 'last', request: { type: 'describe' } })
  await vi.waitFor(() => expect(answers.has('last')).toBe(true))
  return answers
}

describe('a request that no handle makes', () => {
  const wrong: [string, unknown][] = [
    ['none', undefined],
    ['null', null],
    ['text', 'read'],
    ['an unknown type', { type: 'format' }],
    ['a property of objects as type', { type: 'constructor' }],
    ['a type that is no text', { type: ['flush'] }],
    ['a read without a length', { type: 'read', offset: 0 }],
    ['a read of a negative length', { type: 'read', offset: 0, length: -1 }],
    ['a read before the beginning', { type: 'read', offset: -512, length: 512 }],
    ['a read of parts of bytes', { type: 'read', offset: 0.5, length: 1 }],
    ['a read of nothing countable', { type: 'read', offset: 0, length: Number.NaN }],
    ['a read of more than there is', { type: 'read', offset: 512, length: 4096 }],
    ['a read of 1 PiB', { type: 'read', offset: 0, length: 2 ** 50 }],
    ['a read in text', { type: 'read', offset: '0', length: '512' }],
    ['a write of text', { type: 'write', offset: 0, bytes: 'text', fua: false }],
    ['a write of an array', { type: 'write', offset: 0, bytes: [1, 2, 3], fua: false }],
    ['a write of other numbers', { type: 'write', offset: 0, bytes: new Float64Array(8), fua: false }],
    ['a write with a wrong flag', { type: 'write', offset: 0, bytes: new Uint8Array(1), fua: 1 }],
    ['a write beyond the end', { type: 'write', offset: 4000, bytes: new Uint8Array(200), fua: false }],
    ['zeros for ever', { type: 'writeZeroes', offset: 0, length: Number.POSITIVE_INFINITY, fua: false }],
    ['a size of no bytes', { type: 'resize', size: {}, shrink: true }],
  ]
  it.each(wrong)('%s gets an error, and the device is as before', async (_, request) => {
    const device = new MemoryDevice({ content: noise(4096), grow: false })
    const { near, far } = channel()
    serveDevice(device, asPort(far))
    const answers = await ask(near, [{ protocol: portProtocol, id: 7, request }])
    expect(answers.get(7)).toMatchObject({ error: { code: 'EINVAL', isDeviceError: true } })
    expect(Buffer.compare(device.snapshot(), noise(4096))).toBe(0)
  })

  it('allocates nothing before it is refused', async () => {
    const device = new MemoryDevice({ content: noise(4096), grow: false })
    const { near, far } = channel()
    serveDevice(device, asPort(far))
    const before = process.memoryUsage().arrayBuffers
    const huge = { type: 'read', offset: 0, length: 2 ** 31 }
    let most = 0
    const read = vi.spyOn(device, 'read').mockImplementation(async () => {
      most = process.memoryUsage().arrayBuffers - before
    })
    await ask(near, [{ protocol: portProtocol, id: 1, request: huge }])
    expect(read).not.toHaveBeenCalled()
    expect(most).toBe(0)
  })

  it('is left alone where it is not ours, and so are cancels of what is not there', async () => {
    const { near, far } = channel()
    serveDevice(new MemoryDevice({ content: noise(512) }), asPort(far))
    const others = [null, 5, 'text', [], {}, { protocol: 'another' }, { id: 3, request: { type: 'close' } }]
    const cancels = [{ protocol: portProtocol, id: 99, cancel: true }]
    expect([...(await ask(near, [...others, ...cancels])).keys()]).toEqual(['last'])
  })

  it('with an id that is under way is answered too, and a cancel reaches the newer one', async () => {
    const device = new MemoryDevice({ content: noise(512) })
    const signals: AbortSignal[] = []
    const release: (() => void)[] = []
    device.flush = async (options) => {
      signals.push(options!.signal!)
      await new Promise<void>((resolve) => release.push(resolve))
    }
    const { near, far } = channel()
    serveDevice(device, asPort(far))
    const flush = { protocol: portProtocol, id: 1, request: { type: 'flush' } }
    await ask(near, [flush, flush])
    release[0]!()
    await ask(near, [{ protocol: portProtocol, id: 1, cancel: true }])
    expect(signals.map(({ aborted }) => aborted)).toEqual([false, true])
    release[1]!()
  })
})

describe('a handle whose other end', () => {
  it('never answers is given up by its signal, and lets the port go', async () => {
    const { near, far } = channel()
    const abort = new AbortController()
    const pending = deviceFromPort(asPort(near), { signal: abort.signal })
    abort.abort()
    await expect(pending).rejects.toMatchObject({ code: 'ABORT_ERR' })
    expect(near.listenerCount('message')).toBe(0)
    far.close()
  })

  it('stopped serving fails, what is under way and what comes later', async () => {
    const device = new MemoryDevice({ content: noise(512) })
    device.flush = (options) =>
      new Promise((_, reject) =>
        options!.signal!.addEventListener('abort', () => reject(options!.signal!.reason)),
      )
    const { near, far } = channel()
    const stop = serveDevice(device, asPort(far))
    const handle = await deviceFromPort(asPort(near))
    const waiting = expect(handle.flush()).rejects.toMatchObject({ code: expect.stringMatching(/^E/) })
    await handle.read(0, new Uint8Array(10))
    stop()
    stop()
    await waiting
    await expect(handle.read(0, new Uint8Array(10))).rejects.toMatchObject({ code: 'EBADF' })
    // The device itself goes on.
    await device.read(0, new Uint8Array(10))
  })

  it('is a thread that ended fails: the port tells', async () => {
    const { near, far } = channel()
    const worker = new Worker('require("node:worker_threads").parentPort.once("message", () => {})', {
      eval: true,
    })
    registerCleanup(() => void worker.terminate())
    worker.postMessage({ port: far }, [far as never])
    const pending = deviceFromPort(asPort(near))
    const failed = expect(pending).rejects.toMatchObject({
      code: 'EIO',
      message: expect.stringMatching(/gone/),
    })
    await worker.terminate()
    await failed
  })

  it('closed the device meanwhile fails with the error of the device', async () => {
    const device = new MemoryDevice({ content: noise(512) })
    const { near, far } = channel()
    serveDevice(device, asPort(far))
    const handle = await deviceFromPort(asPort(near))
    const calls = [handle.read(0, new Uint8Array(512)), handle.write(0, new Uint8Array(512)), handle.close()]
    const outcomes = await Promise.allSettled([...calls, handle.flush(), handle.read(0, new Uint8Array(1))])
    expect(outcomes.map(({ status }) => status)).toEqual([
      'fulfilled',
      'fulfilled',
      'fulfilled',
      'rejected',
      'rejected',
    ])
    for (const outcome of outcomes.slice(3)) expect(outcome).toMatchObject({ reason: { code: 'EBADF' } })
    await handle.close()
  })
})

it('what is cancelled ends at once, though the other end goes on, and its bytes come to nothing', async () => {
  const device = new MemoryDevice({ content: noise(512) })
  let open = (): void => {}
  const gate = new Promise<void>((resolve) => {
    open = resolve
  })
  const read = device.read.bind(device)
  device.read = async (offset, into) => {
    await gate
    await read(offset, into)
  }
  const { near, far } = channel()
  serveDevice(device, asPort(far))
  const handle = await deviceFromPort(asPort(near))
  const abort = new AbortController()
  const into = new Uint8Array(512)
  const pending = handle.read(0, into, { signal: abort.signal })
  abort.abort(new Error('enough'))
  await expect(pending).rejects.toMatchObject({ code: 'ABORT_ERR', offset: 0, cause: { message: 'enough' } })
  open()
  await handle.flush()
  expect(into.every((byte) => byte === 0)).toBe(true)
})

it('transfers the bytes of a write and nothing around them, and leaves the caller its buffer', async () => {
  const device = new MemoryDevice({ size: 4096 })
  const { near, far } = channel()
  serveDevice(device, asPort(far))
  const post = vi.spyOn(near, 'postMessage')
  const handle = await deviceFromPort(asPort(near))
  const large = noise(1024 * 1024)
  const writing = handle.write(512, large.subarray(1000, 1100))
  // The caller may use it at once.
  large.fill(0)
  await writing
  const [message, transfer] = post.mock.calls.at(-1) as unknown as [
    { request: { bytes: Uint8Array } },
    ArrayBuffer[],
  ]
  expect(transfer).toHaveLength(1)
  expect(message.request.bytes.byteLength).toBe(0)
  expect(large.buffer.byteLength).toBe(1024 * 1024)
  expect(Buffer.compare(device.snapshot().subarray(512, 612), noise(1100).subarray(1000))).toBe(0)
})

it('several pages have one device: each sees what the others wrote, and the size that one of them set', async () => {
  const device = new MemoryDevice({ content: noise(1024) })
  const handles = await Promise.all(
    [0, 1, 2].map(() => {
      const { near, far } = channel()
      serveDevice(device, asPort(far))
      return deviceFromPort(asPort(near))
    }),
  )
  await Promise.all(handles.map((handle, i) => handle.write(i * 10, new Uint8Array(10).fill(i + 1))))
  const into = new Uint8Array(30)
  await handles[2]!.read(0, into)
  expect([...into]).toEqual([1, 2, 3].flatMap((each) => Array(10).fill(each)))
  await handles[0]!.resize(4096)
  // Though this one has not heard of it.
  expect(handles[1]!.size).toBe(1024)
  await handles[1]!.write(4000, into)
  await handles[1]!.read(4000, into)
  expect(handles[1]!.size).toBe(4096)
  await handles[1]!.read(4000, new Uint8Array(96))
})

it('a read-only device is one over a port too', async () => {
  const device = new MemoryDevice({ content: noise(512), readOnly: true })
  const { near, far } = channel()
  serveDevice(device, asPort(far))
  const handle = await deviceFromPort(asPort(near))
  expect(handle.readOnly).toBe(true)
  for (const call of [handle.write(0, new Uint8Array(1)), handle.writeZeroes(0, 1), handle.resize(1024)])
    await expect(call).rejects.toMatchObject({ name: 'BlockDeviceError', code: 'EROFS' })
})
