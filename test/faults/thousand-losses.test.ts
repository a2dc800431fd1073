// A thousand losses of one device: nothing is left behind, and memory does not grow.

import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { expect, test, vi } from 'vitest'
import type { HistorySetup } from './history.ts'
import { World } from './world.ts'

// On a machine that others use too.
vi.setConfig({ testTimeout: 300_000 })

const setup: HistorySetup = {
  blocks: 64,
  channels: 3,
  connections: 2,
  serverChannels: 10,
  onLoss: 'fail',
  permitsExec: true,
  endsOlderSessions: false,
  journalBytes: undefined,
  readAhead: true,
  requestTimeoutMs: 10_000,
  reconnectDelayMs: 30_000,
  keepaliveMs: 500,
  latencyMs: [1, 3],
  roundTripMs: 5,
  windowBytes: 65_536,
  pieceBytes: 32_768,
  reorders: false,
  worldSeed: 1,
}

function collectGarbage(): number {
  setFlagsFromString('--expose-gc')
  runInNewContext('gc')()
  return process.memoryUsage().heapUsed
}

test('no timer, connection, process or memory is left after 1000 losses', async () => {
  const world = new World(setup, {})
  const restore = world.time.install()
  const { stackTraceLimit } = Error
  Error.stackTraceLimit = 0
  const { machine, time, oracle } = world
  const heap: number[] = []
  const timers: number[] = []
  try {
    await world.open()
    for (let loss = 1; loss <= 1000; loss++) {
      world.write(loss % 60, 3)
      world.read((loss * 7) % 60, 4)
      await time.pass(loss % 7)
      const client = loss % 3 === 0 ? 'silent' : 'reset'
      for (const connection of machine.live)
        connection.lose({ client, arriving: (loss % 5) / 4, lateMs: loss % 100, serverSeesMs: 10 })
      world.write((loss * 3) % 60, 2, { fua: loss % 10 === 0 })
      await world.settle()
      if (loss % 250 !== 0) continue
      world.flush()
      await world.settle()
      await time.pass(200_000)
      expect(machine.live.length).toBeLessThanOrEqual(setup.connections)
      expect(machine.processes.filter(({ isDead }) => !isDead).length).toBeLessThanOrEqual(
        setup.channels * setup.connections,
      )
      timers.push(time.pendingTimers)
      // The model's own memory of what there was.
      machine.connections.splice(0, machine.connections.length - 4)
      machine.processes.splice(0, machine.processes.length - 8)
      world.forget()
      heap.push(collectGarbage())
    }
    expect(world.counts.losses).toBeGreaterThanOrEqual(1000)
    expect(world.counts.failed).toBe(0)
    expect(world.device.info.connection!.state).toBe('connected')
    const closing = world.device.close()
    await time.pass(200_000)
    await closing
    expect(time.pendingTimers).toBe(0)
    expect(machine.processes.every(({ isDead }) => isDead)).toBe(true)
  } finally {
    restore()
    Error.stackTraceLimit = stackTraceLimit
  }
  expect(oracle.violations).toEqual([])
  expect(Math.max(...timers)).toBeLessThanOrEqual(2)
  expect(heap.at(-1)! - heap[0]!).toBeLessThan(2 * 1024 * 1024)
})
