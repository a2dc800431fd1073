// How much the process grows while eight times the size flows through the device.

import { access, runClient } from '../harness/peers.mjs'

/** @typedef {import('../harness/ground.mjs').Ground} Ground */

export const rows = [
  {
    name: 'memory',
    title: 'Growth of the process while 8 GiB are read',
    unit: 'MiB',
    higherIsBetter: false,
    slow: true,
    goals: [{ of: 'sshblock device', value: { atMost: 128 } }],
    prepare: async (/** @type {Ground} */ ground, /** @type {{ size: number }} */ { size }) => {
      const job = { ...access(ground, ground.port), what: 'memory', path: ground.image(size), size: 8 * size }
      const run = async () => {
        const sample = await runClient('device.mjs', job)
        return { ...sample, bytes: 8 * size, value: sample.growthBytes / 1024 ** 2 }
      }
      return [{ name: 'sshblock device', ours: true, run }]
    },
  },
]
