// Throughput of each tool over the round-trip time: the curve of the page. One row a distance.

import { access, nbdcopyFrom, qemuRead, runClient, sftpGet, ssh2Client } from '../harness/peers.mjs'
import { moving } from '../harness/transfer.mjs'

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
    const ours = access(ground, port)
    const whole = size / 4
    const slow = Math.min(whole, roundTripMs === 0 ? whole : 4 * mebibyte)
    const least = Math.min(whole, roundTripMs === 0 ? whole : mebibyte)
    const local = () => ground.scratch('copy')
    const image = ground.image(whole)
    return [
      moving(
        {
          name: 'sshblock device',
          ours: true,
          run: () => runClient('device.mjs', { ...ours, what: 'read', path: image }),
        },
        whole,
      ),
      moving(
        {
          name: 'sshblock get',
          ours: true,
          run: () => runClient('sftp.mjs', { ...ours, what: 'get', remote: image, local: local() }),
        },
        whole,
      ),
      moving(sftpGet(ground, port, image, local()), whole),
      moving(
        ssh2Client('ssh2 fastGet, no delay', ground, port, {
          what: 'get',
          remote: image,
          local: local(),
          noDelay: true,
        }),
        whole,
      ),
      moving(nbdcopyFrom(ground, port, ground.image(slow), local()), slow),
      moving(qemuRead(ground, port, ground.image(least), local()), least),
    ]
  },
}))
