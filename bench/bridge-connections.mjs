// How a bridge does with many connections at once: `npm run bench:bridge [connections] [bytes each]`.
// Target and clients run in a process of their own, so that the memory shown is the bridge's alone.

import { fork } from 'node:child_process'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { fileURLToPath } from 'node:url'
import { createBridge } from '@sshblock/bridge'
import { WebSocket } from 'ws'

const origin = 'http://bench.localhost'
const [connections, bytesEach] = [Number(process.argv[2] ?? 1000), Number(process.argv[3] ?? 262_144)]
const mebibytes = (bytes) => (bytes / 1024 ** 2).toFixed(1)

async function bridge() {
  const peer = fork(fileURLToPath(import.meta.url), [String(connections), String(bytesEach)], {
    env: { ...process.env, PEER: '1' },
  })
  const [{ port: target }] = await once(peer, 'message')
  const it = createBridge({
    targets: { fixed: `127.0.0.1:${target}` },
    origins: [origin],
    maxConnections: connections,
    maxConnectionsPerAddress: connections,
  })
  const before = process.memoryUsage().rss
  const { port } = await it.listen({ port: 0 })
  let peak = 0
  const watch = setInterval(() => {
    peak = Math.max(peak, process.memoryUsage().rss)
  }, 20)
  peer.send({ port })
  const [{ openMs, echoMs }] = await once(peer, 'message')
  clearInterval(watch)
  const { bytesToTarget, bytesToClient, connections: open } = it.statistics()
  const rate = (bytesToTarget + bytesToClient) / echoMs / 1000
  console.log(
    `${open} connections opened in ${openMs.toFixed(0)} ms, ${bytesEach} bytes there and back on each in ${echoMs.toFixed(0)} ms: ${rate.toFixed(0)} MB/s`,
  )
  console.log(`the bridge grew from ${mebibytes(before)} to at most ${mebibytes(peak)} MiB`)
  peer.disconnect()
  await it.close()
}

async function peer() {
  const server = createServer((socket) => socket.on('error', () => {}).pipe(socket)).listen({
    port: 0,
    host: '127.0.0.1',
    backlog: 2000,
  })
  await once(server, 'listening')
  process.send({ port: server.address().port })
  const [{ port }] = await once(process, 'message')
  let begin = performance.now()
  const sockets = Array.from(
    { length: connections },
    () => new WebSocket(`ws://127.0.0.1:${port}/`, ['binary'], { origin }),
  )
  await Promise.all(sockets.map((socket) => once(socket, 'open')))
  const openMs = performance.now() - begin
  begin = performance.now()
  const payload = Buffer.alloc(bytesEach, 1)
  await Promise.all(
    sockets.map(
      (socket) =>
        new Promise((resolve) => {
          let got = 0
          socket.on('message', (data) => {
            got += data.length
            if (got === bytesEach) resolve()
          })
          socket.send(payload)
        }),
    ),
  )
  process.send({ openMs, echoMs: performance.now() - begin })
  process.once('disconnect', () => process.exit())
}

await (process.env.PEER === undefined ? bridge() : peer())
