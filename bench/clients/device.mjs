// The block device: reads or writes a whole image, reads small pieces here and there, or reads one first byte.

import { openBlockDevice } from '@sshblock/blockdev/node'
import { deviceOptions, job, location, overAll, report } from './connection.mjs'

const mebibyte = 1024 ** 2
const { what, path, size, count = 0, depth = 1, step = 4096, chunk = mebibyte, inFlight = 8 } = job
const device = await openBlockDevice(location(path), {
  ...deviceOptions,
  ...(what === 'write' ? { writable: true } : {}),
})
const openedAt = performance.now()
const before = process.memoryUsage.rss()

switch (what) {
  case 'first-byte':
    await device.read(0, new Uint8Array(512))
    break
  case 'read':
    await overAll(size ?? device.size, chunk, inFlight, (at, buffer) => device.read(at, buffer))
    report({ insideSeconds: (performance.now() - openedAt) / 1000 })
    break
  case 'write':
    await overAll(size, chunk, inFlight, (at, buffer) => device.write(at, buffer))
    await device.flush()
    report({ insideSeconds: (performance.now() - openedAt) / 1000 })
    break
  case 'small-reads': {
    // The offsets that qemu-img bench takes: steps through the image, from its start again at the end.
    let started = 0
    const lane = async () => {
      const buffer = new Uint8Array(4096)
      while (started < count) await device.read((started++ * step) % (device.size - 4096), buffer)
    }
    await Promise.all(Array.from({ length: depth }, lane))
    report({ operations: count, insideSeconds: (performance.now() - openedAt) / 1000 })
    break
  }
  case 'memory': {
    // After a first part that fills what stays, the process must not grow with what flows through it.
    let peak = 0
    const sampler = setInterval(() => {
      peak = Math.max(peak, process.memoryUsage.rss())
    }, 20)
    let flown = 0
    while (flown < size) {
      const part = Math.min(device.size, size - flown)
      await overAll(part, chunk, inFlight, (at, buffer) => device.read(at, buffer))
      flown += part
    }
    clearInterval(sampler)
    report({ growthBytes: Math.max(peak, process.memoryUsage.rss()) - before })
    break
  }
  default:
    throw new Error(`unknown work ${what}`)
}
// Closing takes a round trip too, and is not what is counted for the first byte.
if (what === 'first-byte') process.exit()
await device.close()
