// Random histories against a server in this process, with everything on at once: several channels and connections,
// read-ahead, keys exchanged every 64 KiB, and connections that are lost in the middle of whatever is under way. The device
// must behave as a disk in memory does: its server knows session epochs, so nothing may ever fail.

import { MemoryBackend, SessionEpochs, serveSftp } from '@sshblock/sftp'
import { embeddedServer, nodeCrypto } from '@sshblock/transport/node'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { ConnectionEvent } from '../../packages/blockdev/src/image/options.ts'
import { createBlockDevice } from '../../packages/blockdev/src/node.ts'
import type { DriverSession } from '../../packages/blockdev/src/ssh-driver.ts'
import { pattern, settle } from './scripted-file.ts'

const size = 1 << 20

interface Step {
  readonly kind: 'read' | 'write' | 'zero' | 'flush' | 'cut' | 'turn' | 'sequential'
  readonly at: number
  readonly length: number
}

const step: fc.Arbitrary<Step> = fc.record({
  kind: fc.constantFrom('read', 'write', 'write', 'zero', 'flush', 'cut', 'turn', 'sequential'),
  at: fc.nat({ max: size - 1 }),
  length: fc.oneof(fc.integer({ min: 1, max: 8192 }), fc.integer({ min: 1, max: 200_000 })),
})

async function world(lanes: { channels: number; connections: number }) {
  const backend = new MemoryBackend()
  const epochs = new SessionEpochs()
  const server = embeddedServer({
    crypto: nodeCrypto,
    subsystems: { sftp: (channel) => serveSftp(channel, backend, { epochs }).finished },
  })
  const sessions: DriverSession[] = []
  const events: ConnectionEvent[] = []
  const disk = await createBlockDevice('ssh://test/disk.img', {
    size,
    connect: async () => {
      const session = await server.connect({ rekey: { bytes: 65_536 } })
      sessions.push(session)
      return session
    },
    minChannels: lanes.channels,
    minConnections: lanes.connections,
    firstRetryMs: 1,
    maxRetryMs: 10,
    onState: (event) => events.push(event),
  })
  return { disk, server, sessions, events }
}

describe('random histories with losses', () => {
  test.each([
    { channels: 1, connections: 1 },
    { channels: 3, connections: 1 },
    { channels: 2, connections: 2 },
  ])(
    '$channels channels on $connections connections agree with a disk in memory',
    async (lanes) => {
      let losses = 0
      let mostChannels = 0
      await fc.assert(
        fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), fc.nat(), async (steps, seed) => {
          const { disk, server, sessions, events } = await world(lanes)
          const model = new Uint8Array(size)
          // Overlapping calls are ordered as they were made, so that the model can follow at once.
          const calls: Promise<unknown>[] = []
          for (const [i, { kind, at, length: wanted }] of steps.entries()) {
            const length = Math.min(wanted, size - at)
            if (kind === 'write') {
              const data = pattern(length, seed + i)
              model.set(data, at)
              calls.push(disk.write(at, data))
            } else if (kind === 'zero') {
              model.fill(0, at, at + length)
              calls.push(disk.writeZeroes(at, length))
            } else if (kind === 'flush') calls.push(disk.flush())
            else if (kind === 'read' || kind === 'sequential') {
              const pieces = kind === 'read' ? 1 : 4
              for (let n = 0, from = at; n < pieces && from < size; n++, from += length) {
                const count = Math.min(length, size - from)
                const into = new Uint8Array(count)
                const expected = model.slice(from, from + count)
                const read = disk.read(from, into).then(() => expect(Buffer.compare(into, expected)).toBe(0))
                calls.push(read)
                if (kind === 'sequential') await read
              }
            } else if (kind === 'cut') {
              const alive = sessions.filter((session) => session.failure === undefined)
              alive[at % Math.max(1, alive.length)]?.destroy?.()
            } else await settle()
          }
          await Promise.all(calls)
          mostChannels = Math.max(mostChannels, disk.info.connection?.channels ?? 0)
          losses += disk.info.connection?.losses ?? 0
          const found = new Uint8Array(size)
          await disk.read(0, found)
          expect(Buffer.compare(found, model)).toBe(0)
          await disk.close()
          expect(events.map(({ type }) => type)).not.toContain('failed')
          await server.close()
        }),
        { numRuns: Number(process.env['SSHBLOCK_HISTORIES'] ?? 12) },
      )
      expect(losses).toBeGreaterThan(0)
      if (lanes.channels > 1) expect(mostChannels).toBeGreaterThan(1)
    },
    60_000,
  )
})
