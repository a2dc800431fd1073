// Random access: 4 KiB reads in steps over an image, by each program's own clock (a process takes longer to start than they
// take). Steps are larger than any read-ahead and no multiple of it.

import { access, qemuSmallReads, runClient } from '../harness/peers.mjs'
import { operating } from '../harness/transfer.mjs'

const mebibyte = 1024 ** 2
const step = 7 * mebibyte + 12_288

/** @typedef {import('../harness/ground.mjs').Ground} Ground */
/** @param {Ground} ground @param {number} port @param {number} size @param {{ ours: number, theirs: number, depth: number }} job */
function small(ground, port, size, { ours, theirs, depth }) {
  const image = ground.image(size)
  const job = { ...access(ground, port), what: 'small-reads', path: image, depth, step }
  return [
    operating({
      name: 'sshblock device',
      ours: true,
      run: () => runClient('device.mjs', { ...job, count: ours }),
    }),
    operating(qemuSmallReads(ground, port, image, { count: theirs, depth, step })),
  ]
}

/** @param {any} contestant microseconds an operation instead of operations a second */
function latency(contestant) {
  const { run } = contestant
  if (run === undefined) return contestant
  return {
    ...contestant,
    run: async () => run().then((/** @type {any} */ sample) => ({ ...sample, value: 1e6 / sample.value })),
  }
}

export const rows = [
  {
    name: 'random-32-loopback',
    title: '4 KiB reads, 32 in flight, loopback',
    unit: 'ops/s',
    higherIsBetter: true,
    goals: [{ of: 'sshblock device', peer: 'qemu-img bench (ssh)', atLeast: 2 }],
    prepare: async (/** @type {Ground} */ ground, /** @type {{ size: number }} */ { size }) =>
      small(ground, ground.port, size, { ours: 50_000, theirs: 10_000, depth: 32 }),
  },
  {
    name: 'random-32-50ms',
    title: '4 KiB reads, 32 in flight, round trip of 50 ms',
    unit: 'ops/s',
    higherIsBetter: true,
    goals: [{ of: 'sshblock device', peer: 'qemu-img bench (ssh)', atLeast: 30 }],
    prepare: async (/** @type {Ground} */ ground, /** @type {{ size: number }} */ { size }) => {
      const { port } = await ground.path({ delayMs: 25 })
      return small(ground, port, size, { ours: 6400, theirs: 100, depth: 32 })
    },
  },
  {
    name: 'random-1-loopback',
    title: '4 KiB reads, one at a time, loopback: time for one',
    unit: 'us',
    higherIsBetter: false,
    goals: [{ of: 'sshblock device', peer: 'qemu-img bench (ssh)', atMost: 1.2 }],
    prepare: async (/** @type {Ground} */ ground, /** @type {{ size: number }} */ { size }) =>
      small(ground, ground.port, size, { ours: 10_000, theirs: 10_000, depth: 1 }).map(latency),
  },
]
