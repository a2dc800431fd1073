// Whole images over loopback: what a byte costs.

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
import { moving } from '../harness/transfer.mjs'

const mebibyte = 1024 ** 2

/** @param {import('../harness/ground.mjs').Ground} ground @param {{ size: number }} options */
async function reading(ground, { size }) {
  const { port } = ground
  const image = ground.image(size)
  const local = () => ground.scratch('copy')
  const ours = access(ground, port)
  const small = Math.min(size, 128 * mebibyte)
  return [
    {
      name: 'sshblock device',
      ours: true,
      run: () => runClient('device.mjs', { ...ours, what: 'read', path: image }),
    },
    {
      name: 'sshblock get',
      ours: true,
      run: () => runClient('sftp.mjs', { ...ours, what: 'get', remote: image, local: local() }),
    },
    {
      name: 'sshblock stream',
      ours: true,
      run: () => runClient('sftp.mjs', { ...ours, what: 'stream', remote: image }),
    },
    sftpGet(ground, port, image, local()),
    nbdcopyFrom(ground, port, image, local()),
    ssh2Client('ssh2 fastGet, no delay', ground, port, {
      what: 'get',
      remote: image,
      local: local(),
      noDelay: true,
    }),
  ]
    .map((contestant) => moving(contestant, size))
    .concat(
      moving(qemuRead(ground, port, ground.image(small), local()), small),
      moving(
        ssh2Client('ssh2 fastGet', ground, port, {
          what: 'get',
          remote: ground.image(small),
          local: local(),
        }),
        small,
      ),
    )
}

/** @param {import('../harness/ground.mjs').Ground} ground @param {{ size: number }} options */
async function writing(ground, { size }) {
  const { port } = ground
  const image = ground.image(size)
  const ours = access(ground, port)
  const small = Math.min(size, 128 * mebibyte)
  const target = (/** @type {number} */ length) => {
    const path = ground.scratch('written')
    writeFileSync(path, '')
    truncateSync(path, length)
    return path
  }
  const toFresh = (/** @type {(path: string) => any} */ make, length = size) => {
    const { name, missing, ours: own } = make('')
    return missing === undefined
      ? { name, ours: own, run: () => make(target(length)).run() }
      : { name, missing }
  }
  return [
    toFresh((path) => ({
      name: 'sshblock device',
      ours: true,
      run: () => runClient('device.mjs', { ...ours, what: 'write', path, size }),
    })),
    toFresh((path) => ({
      name: 'sshblock put',
      ours: true,
      run: () => runClient('sftp.mjs', { ...ours, what: 'put', local: image, remote: path }),
    })),
    toFresh((path) => sftpPut(ground, port, image, path)),
    toFresh((path) => nbdcopyTo(ground, port, image, path)),
    toFresh((path) =>
      ssh2Client('ssh2 fastPut, no delay', ground, port, {
        what: 'put',
        local: image,
        remote: path,
        noDelay: true,
      }),
    ),
  ]
    .map((contestant) => moving(contestant, size))
    .concat(
      moving(
        toFresh((path) => qemuWrite(ground, port, ground.image(small), path), small),
        small,
      ),
    )
}

export const rows = [
  {
    name: 'read-loopback',
    title: 'Read sequentially, loopback',
    unit: 'MB/s',
    higherIsBetter: true,
    goals: [
      { of: 'sshblock device', peer: 'OpenSSH sftp', atLeast: 1.8 },
      { of: 'sshblock get', peer: 'OpenSSH sftp', atLeast: 1.8 },
      { of: 'sshblock stream', peer: 'sshblock get', atLeast: 0.9 },
      { of: 'sshblock device', peer: 'nbdkit ssh + nbdcopy', atLeast: 1.3 },
      { of: 'sshblock device', peer: 'qemu-img (ssh)', atLeast: 6 },
      { of: 'sshblock get', peer: 'ssh2 fastGet', atLeast: 4 },
      { of: 'sshblock get', peer: 'ssh2 fastGet, no delay', atLeast: 1.3 },
      { of: 'sshblock device', peer: 'OpenSSH sftp', cpuAtMost: 1 },
      { of: 'sshblock get', peer: 'OpenSSH sftp', cpuAtMost: 1 },
    ],
    prepare: reading,
  },
  {
    name: 'write-loopback',
    title: 'Write sequentially, flush at the end, loopback',
    unit: 'MB/s',
    higherIsBetter: true,
    goals: [
      { of: 'sshblock device', peer: 'OpenSSH sftp', atLeast: 1.3 },
      { of: 'sshblock put', peer: 'OpenSSH sftp', atLeast: 1.3 },
    ],
    prepare: writing,
  },
]
