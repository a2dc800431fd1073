/** Which lane a write of an upload takes, when lanes are added, and how they end; on files that only count. */
import { expect, test } from 'vitest'
import type { RemoteFile } from '../../packages/sftp/src/file.ts'
import { type LaneClient, UploadLanes } from '../../packages/sftp/src/transfer-lanes.ts'
import { settle } from './scripted-server.ts'

const windowBytes = 1000

/** A file on a channel whose window lets 1000 bytes out; `acknowledge` answers all that was written. */
class WindowedFile {
  readonly path = '/f.part'
  readonly append = false
  roundTripMs: number | undefined
  written = 0
  peerWindowBytes: number | undefined = windowBytes
  closed = 0
  #waiting: (() => void)[] = []

  constructor(roundTripMs: number | undefined) {
    this.roundTripMs = roundTripMs
  }

  startWrite(_offset: number, from: Uint8Array) {
    this.written += from.length
    if (this.peerWindowBytes !== undefined)
      this.peerWindowBytes -= Math.min(from.length, this.peerWindowBytes)
    return {
      sent: Promise.resolve(),
      acknowledged: new Promise<void>((resolve) => this.#waiting.push(resolve)),
    }
  }

  acknowledge(): void {
    if (this.peerWindowBytes !== undefined) this.peerWindowBytes = windowBytes
    for (const answer of this.#waiting.splice(0)) answer()
  }

  async close(): Promise<void> {
    this.closed++
  }
}

function lanesOn(
  first: WindowedFile,
  options: { maxChannels?: number; most?: number; closing?: Error } = {},
) {
  const files = [first]
  let clientsOpen = 0
  const openChannel = async (): Promise<LaneClient> => {
    if (files.length >= (options.most ?? 100)) throw new Error('no more sessions')
    const file = new WindowedFile(first.roundTripMs)
    if (options.closing !== undefined) file.close = () => Promise.reject(options.closing)
    files.push(file)
    clientsOpen++
    return {
      open: async (path, flags) => {
        expect([path, flags]).toEqual(['/f.part', { write: true }])
        return file as unknown as RemoteFile
      },
      close: async () => void clientsOpen--,
    }
  }
  const { most, closing, ...limits } = options
  const lanes = new UploadLanes(first as unknown as RemoteFile, { openChannel, ...limits })
  const write = (count: number): void => {
    for (let i = 0; i < count; i++) lanes.startWrite(0, new Uint8Array(250), {})
  }
  return { lanes, files, write, clientsOpen: () => clientsOpen }
}

test('lanes are added while the window is what limits, twice as many each time, up to the most', async () => {
  const { lanes, write } = lanesOn(new WindowedFile(10), { maxChannels: 6 })
  write(4)
  await settle()
  expect(lanes.count).toBe(1)
  const counts: number[] = []
  for (let round = 0; round < 5; round++) {
    write(40)
    await settle()
    counts.push(lanes.count)
  }
  expect(counts).toEqual([2, 4, 6, 6, 6])
})

test('over a long way all lanes are added at once: each round of opening would cost many round trips', async () => {
  const { lanes, write } = lanesOn(new WindowedFile(50), { maxChannels: 6 })
  write(40)
  await settle()
  expect(lanes.count).toBe(6)
})

test('a write takes the lane with the least that is not acknowledged', async () => {
  const { files, write } = lanesOn(new WindowedFile(50), { maxChannels: 2 })
  write(5)
  await settle()
  write(5)
  expect(files.map(({ written }) => written)).toEqual([1250, 1250])
  files[0]!.acknowledge()
  await settle()
  write(2)
  expect(files.map(({ written }) => written)).toEqual([1750, 1250])
})

test('no lane is added where the server is near, nor where nothing counts bytes', async () => {
  const near = lanesOn(new WindowedFile(1))
  near.write(40)
  await settle()
  expect(near.lanes.count).toBe(1)
  const pipe = new WindowedFile(50)
  pipe.peerWindowBytes = undefined
  const windowless = lanesOn(pipe)
  windowless.write(40)
  await settle()
  expect(windowless.lanes.count).toBe(1)
})

test('a refusal ends the asking, not the upload', async () => {
  const { lanes, files, write, clientsOpen } = lanesOn(new WindowedFile(50), { most: 3 })
  for (let round = 0; round < 4; round++) {
    write(40)
    await settle()
  }
  expect(lanes.count).toBe(3)
  expect(files.reduce((sum, { written }) => sum + written, 0)).toBe(4 * 40 * 250)
  await lanes.close()
  expect(clientsOpen()).toBe(0)
  expect(files.map(({ closed }) => closed)).toEqual([0, 1, 1])
})

test('a file that could not be closed is an error: its bytes may be lost', async () => {
  const { lanes, write, clientsOpen } = lanesOn(new WindowedFile(50), { closing: new Error('quota') })
  write(40)
  await settle()
  await expect(lanes.close()).rejects.toThrow('quota')
  expect(clientsOpen()).toBe(0)
})

test('the files are closed before the channels are given back, and nobody has to wait for these', async () => {
  let giveBack!: () => void
  const gone = new Promise<void>((resolve) => {
    giveBack = resolve
  })
  const first = new WindowedFile(50)
  const second = new WindowedFile(50)
  const lanes = new UploadLanes(first as unknown as RemoteFile, {
    maxChannels: 2,
    openChannel: async () => ({ open: async () => second as unknown as RemoteFile, close: () => gone }),
  })
  for (let i = 0; i < 8; i++) lanes.startWrite(0, new Uint8Array(250), {})
  await settle()
  expect(lanes.count).toBe(2)
  await lanes.close()
  expect(second.closed).toBe(1)
  let hasEnded = false
  const ended = lanes.ended.then(() => {
    hasEnded = true
  })
  await settle()
  expect(hasEnded).toBe(false)
  giveBack()
  await ended
})
