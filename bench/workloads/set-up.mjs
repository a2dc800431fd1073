// From the TCP connect to the first byte of the image, in round trips: counted by the proxy (how often the client spoke after
// it had heard the server), not by a clock. The TCP handshake is one of them. Time is told too.

import { findProgram } from '../harness/ground.mjs'
import { measure } from '../harness/measure.mjs'
import { access, qemuImage, runClient } from '../harness/peers.mjs'

const delayMs = 25

/** @typedef {import('../harness/ground.mjs').Ground} Ground */

/** @param {Ground} ground */
async function prepare(ground) {
  const proxy = await ground.path({ delayMs })
  const image = ground.image(1024 ** 2)
  const counting = (/** @type {() => Promise<any>} */ run) => async () => {
    const before = await proxy.counters()
    const sample = await run()
    return { ...sample, value: 1 + (await proxy.counters()).turns - before.turns }
  }
  const job = { ...access(ground, proxy.port), what: 'first-byte', path: image }
  const qemu = ['qemu-io', '--image-opts', '-r', '-c', 'read 0 512', qemuImage(ground, proxy.port, image)]
  return [
    { name: 'sshblock device', ours: true, run: counting(() => runClient('device.mjs', job)) },
    findProgram('qemu-io') === undefined
      ? { name: 'qemu-io (ssh)', missing: 'qemu-io is not installed (qemu-utils qemu-block-extra)' }
      : {
          name: 'qemu-io (ssh)',
          run: counting(() => measure(qemu, { env: { SSH_AUTH_SOCK: ground.agentSocket } })),
        },
  ]
}

export const rows = [
  {
    name: 'set-up-50ms',
    title: 'Open and first byte: round trips',
    unit: 'round trips',
    higherIsBetter: false,
    goals: [{ of: 'sshblock device', value: { atMost: 8 } }],
    prepare,
  },
]
