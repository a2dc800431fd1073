// What a bridge holds while both ends of its connections stall: `npm run build && node bench/bridge-stalls.mjs [MiB each way]`.
// Bytes go both ways at once over several connections; the page and the target stop reading for a while, in turns. The peers
// run in a process of their own, so that the memory shown is the bridge's alone. Ends with 1 where it grew too much.

import { fork } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { createBridge } from '@sshblock/bridge'
import { WebSocket } from 'ws'

const origin = 'http://bench.localhost'
const connections = 4
const bytesEach = (Number(process.argv[2] ?? 1024) * 1024 ** 2) / connections
const stallMs = 300
/** High-water marks of both directions of all connections, twice, and what a process that copies needs anyway. */
const mostGrowthBytes = 2 * connections * 2 * 512 * 1024 + 64 * 1024 ** 2
const mebibytes = (/** @type {number} */ bytes) => (bytes / 1024 ** 2).toFixed(1)

async function bridge() {
  const peers = fork(fileURLToPath(import.meta.url), [process.argv[2] ?? '1024'], {
    env: { ...process.env, PEER: '1' },
  })
  const [{ port: target }] = await once(peers, 'message')
  const it = createBridge({ targets: { fixed: `127.0.0.1:${target}` }, origins: [origin] })
  const { port } = await it.listen({ port: 0 })
  const before = process.memoryUsage().rss
  let [peak, mostHeld] = [0, 0]
  const watch = setInterval(() => {
    peak = Math.max(peak, process.memoryUsage().rss)
    mostHeld = Math.max(mostHeld, it.statistics().heldBytes)
  }, 20)
  const startedAt = performance.now()
  peers.send({ port })
  const [{ received }] = await once(peers, 'message')
  clearInterval(watch)
  const seconds = (performance.now() - startedAt) / 1000
  console.log(
    `${mebibytes(received)} MiB went through ${connections} connections, both ways, in ${seconds.toFixed(1)} s with stalled ends`,
  )
  console.log(
    `the bridge held at most ${mebibytes(mostHeld)} MiB and grew from ${mebibytes(before)} to at most ${mebibytes(peak)} MiB`,
  )
  if (peak - before > mostGrowthBytes) {
    console.log(`that is more than ${mebibytes(mostGrowthBytes)} MiB of growth`)
    process.exitCode = 1
  }
  peers.disconnect()
  await it.close()
}

/** Stops and goes on, again and again, until it is told to leave it. @param {{ pause(): void, resume(): void }} end */
async function stallNowAndThen(end, /** @type {() => boolean} */ isOver) {
  while (!isOver()) {
    await pause(stallMs)
    end.pause()
    await pause(stallMs)
    end.resume()
  }
}

async function peers() {
  const block = Buffer.alloc(128 * 1024, 7)
  let received = 0
  let left = 2 * connections
  const server = createServer((socket) => {
    socket.on('error', () => {})
    let taken = 0
    socket.on('data', (chunk) => {
      taken += chunk.length
      received += chunk.length
      if (taken === bytesEach) left--
    })
    void stallNowAndThen(socket, () => taken >= bytesEach)
    let sent = 0
    const send = () => {
      while (sent < bytesEach) {
        sent += block.length
        if (!socket.write(block)) {
          socket.once('drain', send)
          return
        }
      }
    }
    send()
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  process.send?.({ port: /** @type {import('node:net').AddressInfo} */ (server.address()).port })
  const [{ port }] = await once(process, 'message')
  for (let i = 0; i < connections; i++) {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/`, ['binary'], { origin })
    let taken = 0
    socket.on('message', (/** @type {Buffer} */ data) => {
      taken += data.length
      received += data.length
      if (taken === bytesEach) left--
    })
    await once(socket, 'open')
    void stallNowAndThen(socket, () => taken >= bytesEach)
    let sent = 0
    const send = () => {
      if (sent >= bytesEach) return
      sent += block.length
      socket.send(block, send)
    }
    send()
  }
  while (left > 0) await pause(50)
  process.send?.({ received })
}

await (process.env.PEER === undefined ? bridge() : peers())
process.on('disconnect', () => process.exit())
