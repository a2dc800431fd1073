// Whole images over distance: what bytes in flight are worth. Slow peers move less, so that a round ends; speeds compare.
// Our devices are read and written by a caller who keeps 32 MiB under way, in pieces of 1 MiB: what a device takes at most.

import { truncateSync, writeFileSync } from 'node:fs'
import {
  access,
  nbdcopyFrom,
  nbdcopyTo,
  qemuRead,
  qemuWrite,
  runClient,
  sftpGet,
  sftpPut,
  ssh2Client,
} from '../harness/peers.mjs'
import { moving, movingOnceOpen } from '../harness/transfer.mjs'

const mebibyte = 1024 ** 2
/** Calls of 1 MiB that a device has under way. */
const inFlight = 32

/** @typedef {import('../harness/ground.mjs').Ground} Ground */

/**
 * @param {Ground} ground @param {number} port @param {number} size
 * @param {number} slow bytes for those who are slow @param {number} least bytes for the slowest
 * @param {number} windowed bytes for those who have a window a round trip
 */
export function readers(ground, port, size, slow, least = Math.min(slow, 2 * mebibyte), windowed = size) {
  const image = ground.image(size)
  const middling = ground.image(windowed)
  const part = ground.image(slow)
  const local = () => ground.scratch('copy')
  const ours = access(ground, port)
  return [
    moving(
      {
        name: 'sshblock device',
        ours: true,
        run: () => runClient('device.mjs', { ...ours, what: 'read', path: image, inFlight }),
      },
      size,
    ),
    moving(
      {
        name: 'sshblock get',
        ours: true,
        run: () => runClient('sftp.mjs', { ...ours, what: 'get', remote: image, local: local() }),
      },
      size,
    ),
    moving(sftpGet(ground, port, middling, local()), windowed),
    moving(
      ssh2Client('ssh2 fastGet, no delay', ground, port, {
        what: 'get',
        remote: middling,
        local: local(),
        noDelay: true,
      }),
      windowed,
    ),
    moving(nbdcopyFrom(ground, port, part, local()), slow),
    moving(qemuRead(ground, port, ground.image(least), local()), least),
  ]
}

/** @param {Ground} ground @param {number} port @param {number} size @param {number} slow */
export function writers(ground, port, size, slow) {
  const image = ground.image(size)
  const ours = access(ground, port)
  const least = Math.min(slow, 2 * mebibyte)
  const fresh = (/** @type {number} */ length) => {
    const path = ground.scratch('written')
    writeFileSync(path, '')
    truncateSync(path, length)
    return path
  }
  const later = (
    /** @type {any} */ sample,
    /** @type {(path: string) => any} */ make,
    /** @type {number} */ length,
  ) =>
    moving(
      sample.missing === undefined ? { name: sample.name, run: () => make(fresh(length)).run() } : sample,
      length,
    )
  const nbd = (/** @type {string} */ path) => nbdcopyTo(ground, port, ground.image(slow), path)
  const qemu = (/** @type {string} */ path) => qemuWrite(ground, port, ground.image(least), path)
  return [
    moving(
      {
        name: 'sshblock device',
        ours: true,
        run: () => runClient('device.mjs', { ...ours, what: 'write', path: fresh(size), size, inFlight }),
      },
      size,
    ),
    moving(
      {
        name: 'sshblock put',
        ours: true,
        run: () =>
          runClient('sftp.mjs', { ...ours, what: 'put', local: image, remote: ground.scratch('put') }),
      },
      size,
    ),
    moving(sftpPut(ground, port, image, `${ground.folder}/sftp-put`), size),
    later(nbd(''), nbd, slow),
    later(qemu(''), qemu, least),
  ]
}

/** @param {Ground} ground @param {import('../proxy.mjs').PathOptions} path @param {any[]} link contestants that are the link itself */
async function over(ground, path, link = []) {
  const { port } = await ground.path(path)
  return { port, link }
}

/**
 * Eight round trips of setting up, one of ramp and two of ending are a fifth of what 512 MiB take through such a link: what is asked
 * for is how much of it a transfer uses once there is a connection. `seconds` in the results are those of the whole process.
 */
const gigabit = 125e6
/** The link as a contestant: what it could carry at most. */
const theLink = { name: 'the link', run: async () => ({ value: gigabit / 1e6, seconds: 0 }) }

export const rows = [
  {
    name: 'read-50ms',
    title: 'Read, round trip of 50 ms',
    unit: 'MB/s',
    higherIsBetter: true,
    goals: [
      { of: 'sshblock device', peer: 'OpenSSH sftp', atLeast: 4 },
      { of: 'sshblock get', peer: 'OpenSSH sftp', atLeast: 4 },
      { of: 'sshblock device', peer: 'qemu-img (ssh)', atLeast: 100 },
      { of: 'sshblock device', peer: 'nbdkit ssh + nbdcopy', atLeast: 15 },
    ],
    prepare: async (/** @type {Ground} */ ground, /** @type {{ size: number }} */ { size }) => {
      const { port } = await over(ground, { delayMs: 25 })
      return readers(ground, port, size / 4, Math.min(size / 4, 16 * mebibyte))
    },
  },
  {
    name: 'write-50ms',
    title: 'Write and flush, round trip of 50 ms',
    unit: 'MB/s',
    higherIsBetter: true,
    goals: [
      { of: 'sshblock device', peer: 'OpenSSH sftp', atLeast: 4 },
      { of: 'sshblock put', peer: 'OpenSSH sftp', atLeast: 4 },
      { of: 'sshblock device', peer: 'qemu-img (ssh)', atLeast: 100 },
      { of: 'sshblock device', peer: 'nbdkit ssh + nbdcopy', atLeast: 15 },
    ],
    prepare: async (/** @type {Ground} */ ground, /** @type {{ size: number }} */ { size }) => {
      const { port } = await over(ground, { delayMs: 25 })
      return writers(ground, port, size / 4, Math.min(size / 4, 16 * mebibyte))
    },
  },
  ...['read', 'write'].map((way) => ({
    name: `${way}-gigabit-100ms`,
    title: `${way === 'read' ? 'Read' : 'Write and flush'} through 1 Gbit/s, round trip of 100 ms, once connected`,
    unit: 'MB/s',
    higherIsBetter: true,
    slow: true,
    goals: ['device', way === 'read' ? 'get' : 'put'].map((what) => ({
      of: `sshblock ${what}`,
      peer: 'the link',
      atLeast: 0.85,
    })),
    prepare: async (/** @type {Ground} */ ground, /** @type {{ size: number }} */ { size }) => {
      const { port } = await ground.path({ delayMs: 50, bytesPerSecond: gigabit })
      const bytes = size / 2
      const all =
        way === 'read' ? readers(ground, port, bytes, mebibyte) : writers(ground, port, bytes, mebibyte)
      const ours = all.filter(({ name }) => name.startsWith('sshblock'))
      return [...ours.map((contestant) => movingOnceOpen(contestant, bytes)), theLink]
    },
  })),
]
