// Where writes wait while further lanes are being opened: for a lane with room, and not behind others on a full one.

import { expect, test } from 'vitest'
import type { Lane } from '../../packages/blockdev/src/image/host.ts'
import {
  ResilientImage,
  type ResilientImageOptions,
} from '../../packages/blockdev/src/image/resilient-image.ts'
import { seededRandom } from './scripted-file.ts'
import { ManualClock, ScriptedServer, turns } from './scripted-host.ts'

const MiB = 1 << 20

/** An image whose connection has begun two more lanes, which open when `openLanes` is called. */
async function withBegunLanes(options: Partial<ResilientImageOptions> = {}) {
  const server = new ScriptedServer(new Uint8Array(16 * MiB))
  const { signal } = new AbortController()
  const connection = await server.connect(signal)
  const open = connection.openLane.bind(connection)
  const lane = await open({ signal, epoch: 1, serial: 1 })
  // Its channel takes no more.
  Object.assign(lane, { writableBytes: 0 })
  let openLanes!: () => void
  const opened = new Promise<void>((resolve) => {
    openLanes = resolve
  })
  const openLane = async (options: Parameters<typeof open>[0]): Promise<Lane> => {
    await opened
    return open(options)
  }
  const random = seededRandom(7)
  const image = new ResilientImage({
    host: server,
    connection: Object.assign(connection, { begunLanes: 2, openLane }),
    lane,
    writable: true,
    kind: 'file',
    size: 16 * MiB,
    clock: new ManualClock(),
    random: () => random(1 << 30) / (1 << 30),
    maxChannels: 3,
    minChannels: 3,
    // Who serves us is not asked: the first lane may write at once.
    fence: 'none',
    ...options,
  })
  await turns()
  server.holdsWrites = true
  const heldBytes = () => {
    const sums = connection.lanes.map(() => 0)
    for (const held of server.held) sums[connection.lanes.indexOf(held.lane)]! += held.bytes.length
    return sums
  }
  const write = (count: number) =>
    Array.from({ length: count }, (_, i) => image.write(i * MiB, new Uint8Array(MiB).fill(i + 1)))
  const answerAll = () => {
    for (const { answer } of server.held.splice(0)) answer()
  }
  return { server, connection, image, openLanes, heldBytes, write, answerAll }
}

test('a write that finds the only lane full goes to one that is opened meanwhile', async () => {
  const { server, image, openLanes, heldBytes, write, answerAll } = await withBegunLanes()
  const writes = write(8)
  await turns()
  expect(heldBytes()).toEqual([4 * MiB])
  openLanes()
  await turns()
  // The second is left to reads.
  expect(heldBytes()).toEqual([4 * MiB, 0, 4 * MiB])
  server.holdsWrites = false
  answerAll()
  await Promise.all(writes)
  const into = new Uint8Array(8 * MiB)
  await image.read(0, into)
  expect(Array.from({ length: 8 }, (_, i) => into[i * MiB + 5])).toEqual([1, 2, 3, 4, 5, 6, 7, 8])
  await image.close()
})

test('a write that finds all lanes full goes on when one of them has answered', async () => {
  const { server, image, heldBytes, write, answerAll } = await withBegunLanes()
  const writes = write(6)
  await turns()
  expect(heldBytes()).toEqual([4 * MiB])
  answerAll()
  await turns()
  expect(heldBytes()).toEqual([2 * MiB])
  server.holdsWrites = false
  answerAll()
  await Promise.all(writes)
  await image.close()
})

test('a write that waits for room is cancelled at once', async () => {
  const { server, image, write, answerAll } = await withBegunLanes()
  const writes = write(4)
  await turns()
  const cancel = new AbortController()
  const late = image.write(8 * MiB, new Uint8Array(MiB), { signal: cancel.signal })
  await turns()
  cancel.abort(new Error('enough'))
  await expect(late).rejects.toThrow('enough')
  server.holdsWrites = false
  answerAll()
  await Promise.all(writes)
  await image.close()
})

test('one command tells who serves all the lanes that were begun together, and no write goes before it', async () => {
  const { server, connection, image, openLanes, heldBytes, write, answerAll } = await withBegunLanes({
    fence: 'auto',
  })
  let commands = 0
  const { exec } = connection
  connection.exec = (command) => {
    commands++
    return exec(command)
  }
  const writes = write(8)
  await turns()
  expect(heldBytes()).toEqual([0])
  openLanes()
  await turns()
  expect(commands).toBe(1)
  expect(heldBytes()).toEqual([4 * MiB, 0, 4 * MiB])
  expect(image.info).toMatchObject({ fence: 'processes', channels: 3 })
  server.holdsWrites = false
  answerAll()
  await Promise.all(writes)
  await image.close()
})
