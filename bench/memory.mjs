// How much the process grows while 4 GiB pass through a device each way: `npm run bench:memory [-- GiB]`.
// The server is ours, in a process of its own, on a tmpfs file; calls of 1 MiB, 16 in flight, one buffer each.

import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { createBlockDevice, openBlockDevice } from '@sshblock/blockdev/node'

const gibibyte = 1024 ** 3
const size = Math.round(Number(process.argv[2] ?? 4) * gibibyte)
const chunk = 1024 ** 2
const inFlight = 16

const child = fork(fileURLToPath(new URL('./server-process.mjs', import.meta.url)), {
  stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
})
const [server] = await once(child, 'message')

let peak = 0
const rss = () => process.memoryUsage.rss() / 1024 ** 2
const sampler = setInterval(() => {
  peak = Math.max(peak, rss())
}, 20)

async function pass(name, each) {
  globalThis.gc?.()
  const before = rss()
  peak = before
  const startedAt = performance.now()
  let next = 0
  const worker = async () => {
    const buffer = new Uint8Array(chunk)
    while (next < size) {
      const offset = next
      next += chunk
      await each(offset, buffer)
    }
  }
  await Promise.all(Array.from({ length: inFlight }, worker))
  const seconds = (performance.now() - startedAt) / 1000
  const growth = Math.max(peak, rss()) - before
  console.log(
    `${name}: ${(size / gibibyte).toFixed(1)} GiB in ${seconds.toFixed(1)} s, ${(size / 1024 ** 2 / seconds).toFixed(0)} MiB/s; RSS ${before.toFixed(0)} MiB before, at most ${growth.toFixed(0)} MiB more`,
  )
  return growth
}

let worst = 0
try {
  const device = await createBlockDevice(server.location, { ...server.connection, size })
  // One round first, so that code and buffers that stay are not counted as growth of the stream.
  await device.write(0, new Uint8Array(chunk))
  worst = Math.max(
    worst,
    await pass('write', (offset, buffer) => device.write(offset, buffer.fill(offset / chunk))),
  )
  await device.flush()
  await device.close()
  const reader = await openBlockDevice(server.location, server.connection)
  worst = Math.max(worst, await pass('read', (offset, buffer) => reader.read(offset, buffer)))
  await reader.close()
} finally {
  clearInterval(sampler)
  child.send('stop')
}
const limit = 150
console.log(
  `growth of at most ${worst.toFixed(0)} MiB (limit ${limit} MiB): ${worst < limit ? 'within' : 'EXCEEDED'}`,
)
process.exitCode = worst < limit ? 0 : 1
