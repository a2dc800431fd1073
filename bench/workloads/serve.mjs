// `sshblock serve` beside nbdkit-ssh: the same programs on the same image through either.

import { truncateSync, writeFileSync } from 'node:fs'
import { findProgram } from '../harness/ground.mjs'
import { access, runClient } from '../harness/peers.mjs'
import { moving, operating } from '../harness/transfer.mjs'

const mebibyte = 1024 ** 2

/** @typedef {import('../harness/ground.mjs').Ground} Ground */
/** @typedef {import('../harness/peers.mjs').Contestant} Contestant */

/**
 * Both servers with a program each.
 * @param {Ground} ground @param {number} port @param {string} path @param {string[]} program
 * @returns {Contestant[]}
 */
function both(ground, port, path, program) {
  const job = { ...access(ground, port), path, program }
  const absent = ['nbdkit', program[0] ?? ''].filter((name) => findProgram(name) === undefined)
  const missing =
    absent.length === 0
      ? {}
      : { missing: `${absent.join(', ')} not installed (nbdkit nbdkit-plugin-ssh libnbd-bin fio)` }
  const run = (/** @type {string} */ server) => () => runClient('served.mjs', { ...job, server })
  return [
    { name: 'sshblock serve', ours: true, ...missing, run: run('sshblock') },
    { name: 'nbdkit-ssh', ...missing, run: run('nbdkit') },
  ]
}

/** nbdcopy of a whole image. @param {Ground} ground @param {number} port @param {number} size @param {'read' | 'write'} way */
function copying(ground, port, size, way) {
  const image = ground.image(size)
  if (way === 'read')
    return both(ground, port, image, ['nbdcopy', '$uri', 'null:']).map((each) => moving(each, size))
  const written = ground.scratch('served')
  writeFileSync(written, '')
  truncateSync(written, size)
  return both(ground, port, written, ['nbdcopy', '--flush', image, '$uri']).map((each) => moving(each, size))
}

/** fio for three seconds, after two that do not count. @param {Ground} ground @param {number} port @param {number} size @param {string} kind */
function random(ground, port, size, kind) {
  const path = ground.scratch('served')
  writeFileSync(path, '')
  truncateSync(path, size)
  const job = ['--name=job', '--ioengine=nbd', '--uri=$uri', `--rw=${kind}`, '--bs=4k', '--iodepth=32']
  const program = ['fio', ...job, '--time_based', '--ramp_time=2', '--runtime=3', '--output-format=json']
  return both(ground, port, path, program).map(operating)
}

const near = 'equal: both move the same bytes through one sshd, whose cipher and copies cost the most'
const far = 'nbdkit-ssh has one request under way; sshblock as many as the programs send'

/** @typedef {{ size: number }} Options */

export const rows = [
  ...['loopback', '50ms'].flatMap((place) => {
    const delayMs = place === '50ms' ? 25 : 0
    const ratio = place === '50ms' ? 10 : 1
    const portOf = async (/** @type {Ground} */ ground) =>
      delayMs === 0 ? ground.port : (await ground.path({ delayMs })).port
    // Far away, a program that waits for each piece takes minutes for a whole image.
    const sizeOf = (/** @type {Options} */ { size }) => (delayMs === 0 ? size : Math.min(size, 32 * mebibyte))
    const where = delayMs === 0 ? 'loopback' : `round trip of ${2 * delayMs} ms`
    const common = {
      higherIsBetter: true,
      goals: [{ of: 'sshblock serve', peer: 'nbdkit-ssh', atLeast: ratio }],
      limits: delayMs === 0 ? near : far,
    }
    return [
      .../** @type {const} */ (['read', 'write']).map((way) => ({
        ...common,
        name: `serve-${way}-${place}`,
        title: `nbdcopy ${way} through NBD, ${where}`,
        unit: 'MB/s',
        prepare: async (/** @type {Ground} */ ground, /** @type {Options} */ options) =>
          copying(ground, await portOf(ground), sizeOf(options), way),
      })),
      .../** @type {const} */ (['read', 'write']).map((way) => ({
        ...common,
        name: `serve-random-${way}-${place}`,
        title: `fio 4 KiB random ${way} through NBD, 32 in flight, ${where}`,
        unit: 'ops/s',
        prepare: async (/** @type {Ground} */ ground, /** @type {Options} */ options) =>
          random(ground, await portOf(ground), sizeOf(options), `rand${way}`),
      })),
    ]
  }),
]
