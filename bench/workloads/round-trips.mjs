// Throughput of each tool over the round-trip time: the curve of the page. One row a distance. All of them, one round each, take
// about four minutes: `npm run bench -- --only curve --pairs 1`.

import { readers } from './distance.mjs'

const mebibyte = 1024 ** 2
const roundTripsMs = [0, 5, 10, 20, 50, 100, 200]

/** @typedef {import('../harness/ground.mjs').Ground} Ground */

export const rows = roundTripsMs.map((roundTripMs) => ({
  name: `curve-${roundTripMs}ms`,
  title: `Read, round trip of ${roundTripMs} ms`,
  unit: 'MB/s',
  higherIsBetter: true,
  slow: true,
  curve: { of: 'round trip, ms', at: roundTripMs },
  goals: [],
  prepare: async (/** @type {Ground} */ ground, /** @type {{ size: number }} */ { size }) => {
    const { port } = await ground.path({ delayMs: roundTripMs / 2 })
    const whole = size / 4
    const slow = Math.min(whole, roundTripMs === 0 ? whole : 4 * mebibyte)
    const least = Math.min(whole, roundTripMs === 0 ? whole : mebibyte)
    const windowed = roundTripMs < 100 ? whole : whole / 2
    return readers(ground, port, whole, slow, least, windowed)
  },
}))
