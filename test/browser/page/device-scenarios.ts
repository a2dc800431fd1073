// The block device in a page and in a worker, compared with a device in memory.

import { deviceFromPort, type PortDevice, serveDevice } from '@sshblock/blockdev/adapters'
import { type BlockDevice, MemoryDevice, openBlockDevice } from '@sshblock/blockdev/browser'
import {
  parsePrivateKey,
  pinnedFingerprint,
  signerFromPrivateKey,
  webCrypto,
  webSocketDuplex,
} from '@sshblock/transport/browser'
import { type Connection, relayUrl } from './connection.ts'

export async function openDevice(connection: Connection, path: string): Promise<BlockDevice> {
  const crypto = webCrypto()
  const key = await parsePrivateKey(crypto, connection.privateKey ?? '')
  const { host, port, user } = connection
  return openBlockDevice(
    { server: { host, port }, user, path },
    {
      open: (signal) => webSocketDuplex(relayUrl(connection), signal === undefined ? {} : { signal }),
      hostKeyPolicy: pinnedFingerprint(crypto, 'openssh', connection.fingerprint),
      auth: [{ type: 'publickey', signer: signerFromPrivateKey(crypto, key) }],
      writable: true,
    },
  )
}

export interface Exercise {
  readonly seed: number
  readonly operations: number
  readonly maxBytes: number
}

/** Random reads and writes, many at once, on the device and on the model; and everything read at the end. */
async function exerciseAgainstModel(device: BlockDevice, exercise: Exercise): Promise<{ compared: number }> {
  const { seed, operations, maxBytes } = exercise
  const random = randomNumbers(seed)
  const model = new MemoryDevice({ size: device.size })
  const before = new Uint8Array(device.size)
  await device.read(0, before)
  await model.write(0, before)
  let compared = 0
  const calls: Promise<void>[] = []
  for (let i = 0; i < operations; i++) {
    const length = 1 + random(maxBytes)
    const offset = random(device.size - length)
    if (random(3) === 0) {
      const bytes = new Uint8Array(length).fill(1 + random(255))
      calls.push(Promise.all([device.write(offset, bytes), model.write(offset, bytes)]).then(() => {}))
    } else {
      const [actual, expected] = [new Uint8Array(length), new Uint8Array(length)]
      // The model answers for the moment of the call, which is what the device promises for overlapping calls.
      calls.push(
        Promise.all([device.read(offset, actual), model.read(offset, expected)]).then(() => {
          compared += compare(actual, expected, offset)
        }),
      )
    }
    if (calls.length >= 16) await calls.shift()
  }
  await Promise.all(calls)
  await device.flush()
  const whole = new Uint8Array(device.size)
  await device.read(0, whole)
  compared += compare(whole, model.snapshot(), 0)
  return { compared }
}

function compare(actual: Uint8Array, expected: Uint8Array, offset: number): number {
  for (let i = 0; i < expected.length; i++)
    if (actual[i] !== expected[i])
      throw new Error(`byte ${offset + i} is ${actual[i]}, expected ${expected[i]}`)
  return expected.length
}

function randomNumbers(seed: number): (below: number) => number {
  let state = seed >>> 0 || 1
  return (below) => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return (state >>> 0) % below
  }
}

export interface ExerciseReport {
  readonly compared: number
  readonly size: number
  readonly error: { name: string; code: string; message: string; offset: number | undefined }
  readonly cancelled: string
}

/** Random work, then a call that must fail, a cancelled one, and the end. */
async function useDevice(device: BlockDevice, exercise: Exercise): Promise<ExerciseReport> {
  const { compared } = await exerciseAgainstModel(device, exercise)
  const { size } = device
  const error = await device.write(size - 1, new Uint8Array(10)).then(
    () => ({ name: 'none', code: 'none', message: '', offset: undefined }),
    ({ name, code, message, offset }) => ({ name, code, message, offset }),
  )
  const abort = new AbortController()
  const pending = device.read(0, new Uint8Array(size), { signal: abort.signal }).then(
    () => 'read',
    (failure: { code: string }) => failure.code,
  )
  abort.abort()
  const cancelled = await pending
  await device.close()
  return { compared, size, error, cancelled }
}

export async function deviceHere(
  connection: Connection,
  options: { path: string } & Exercise,
): Promise<ExerciseReport> {
  return useDevice(await openDevice(connection, options.path), options)
}

let held: BlockDevice | undefined

/** Opens the device that `useHeldDevice` goes on with. */
export async function holdDevice(connection: Connection, path: string): Promise<number> {
  held = await openDevice(connection, path)
  return held.size
}

/** Random work on the device that is held. */
export async function useHeldDevice(exercise: Exercise): Promise<ExerciseReport> {
  return useDevice(held!, exercise)
}

/** In a worker: opens the device and serves it on the port that came along. */
export async function serveInWorker(
  connection: Connection,
  { path }: { path: string },
  port: MessagePort,
): Promise<void> {
  serveDevice(await openDevice(connection, path), port)
}

/** In the page: a worker has the device, this thread the handle. */
export async function deviceInWorker(
  connection: Connection,
  options: { path: string } & Exercise,
): Promise<ExerciseReport & { afterClose: string; abandoned: string }> {
  const { worker, device } = await deviceOfWorker(connection, options.path)
  const report = await useDevice(device, options)
  const afterClose = await device.read(0, new Uint8Array(512)).then(
    () => 'read',
    (error: { code: string }) => error.code,
  )
  worker.terminate()
  const second = await deviceOfWorker(connection, options.path)
  second.worker.terminate()
  const pending = second.device.read(0, new Uint8Array(512)).then(
    () => 'read',
    (error: { code: string }) => error.code,
  )
  second.device.abandon('terminated')
  return { ...report, afterClose, abandoned: await pending }
}

async function deviceOfWorker(
  connection: Connection,
  path: string,
): Promise<{ worker: Worker; device: PortDevice }> {
  const worker = new Worker('/worker.js', { type: 'module' })
  const { port1, port2 } = new MessageChannel()
  worker.postMessage({ name: 'serveInWorker', args: [connection, { path }], port: port2 }, [port2])
  return { worker, device: await deviceFromPort(port1) }
}
