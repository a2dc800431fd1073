// Measures the proxy itself: how fast it carries, how exact its delays and its bandwidth are. Server and client run in
// processes of their own. Usage: node bench/proxy-check.mjs
//
// Run it on a quiet machine before believing figures that were taken through the proxy.

import { fork } from 'node:child_process'
import { connect, createServer } from 'node:net'
import { fileURLToPath } from 'node:url'
import { startProxyProcess } from './proxy-process.mjs'

const MIB = 1024 * 1024

/** A server that streams as many bytes as the first 8 bytes of a connection ask for, or echoes where they ask for 0. */
function serve() {
  const chunk = Buffer.alloc(256 * 1024, 0x5a)
  const server = createServer({ noDelay: true }, (socket) => {
    socket.on('error', () => {})
    socket.once('data', (head) => {
      let left = Number(head.readBigUInt64BE(0))
      if (left === 0) {
        socket.write(head.subarray(8))
        socket.on('data', (bytes) => socket.write(bytes))
        return
      }
      const more = () => {
        while (left > 0) {
          const part = chunk.subarray(0, Math.min(left, chunk.length))
          left -= part.length
          if (!socket.write(part)) {
            socket.once('drain', more)
            return
          }
        }
        socket.end()
      }
      more()
    })
  })
  server.listen(0, '127.0.0.1', () => {
    const address = server.address()
    if (address !== null && typeof address === 'object') process.send?.(address.port)
  })
}

/** @param {number} port @param {number} bytes @returns {Promise<{ firstByteMs: number, seconds: number }>} from connect to the end */
function download(port, bytes) {
  const head = Buffer.alloc(8)
  head.writeBigUInt64BE(BigInt(bytes))
  const begun = performance.now()
  let firstByteMs = 0
  let got = 0
  const buffer = Buffer.allocUnsafe(MIB)
  return new Promise((resolve, reject) => {
    const onread = {
      buffer,
      /** @param {number} n */
      callback: (n) => {
        if (got === 0) firstByteMs = performance.now() - begun
        got += n
        return true
      },
    }
    const socket = connect({ port, host: '127.0.0.1', noDelay: true, onread }, () => socket.write(head))
    socket.on('error', reject)
    socket.on('close', () => {
      if (got === bytes) resolve({ firstByteMs, seconds: (performance.now() - begun) / 1000 })
      else reject(new Error(`${got} of ${bytes} bytes came`))
    })
  })
}

/** @param {number} port @param {number} count @returns {Promise<number[]>} milliseconds for a byte there and back, sorted */
async function pings(port, count) {
  const socket = connect({ port, host: '127.0.0.1', noDelay: true })
  socket.write(Buffer.alloc(8))
  /** @type {number[]} */
  const times = []
  for (let i = 0; i <= count; i++) {
    const begun = performance.now()
    socket.write('x')
    await new Promise((resolve) => socket.once('data', resolve))
    if (i > 0) times.push(performance.now() - begun) // The first one opened the connection.
  }
  socket.destroy()
  return times.sort((a, b) => a - b)
}

async function main() {
  const server = fork(fileURLToPath(import.meta.url), ['serve'])
  const port = await new Promise((resolve) => server.once('message', resolve))
  const target = { host: '127.0.0.1', port: Number(port) }
  /** @param {number} n */
  const f = (n) => n.toFixed(n < 10 ? 2 : 1)

  for (const delayMs of [0, 5, 25]) {
    const proxy = await startProxyProcess({ target, delayMs })
    const bytes = 1024 * MIB
    const { seconds, firstByteMs } = await download(proxy.port, bytes)
    console.log(
      `delay ${delayMs} ms each way: ${f(bytes / 1e6 / seconds)} MB/s, first byte after ${f(firstByteMs)} ms`,
    )
    await proxy.stop()
  }
  for (const delayMs of [1, 5, 25, 50]) {
    const proxy = await startProxyProcess({ target, delayMs })
    const times = await pings(proxy.port, 40)
    const at = (/** @type {number} */ share) => f(times[Math.floor((times.length - 1) * share)] ?? 0)
    console.log(`delay ${delayMs} ms each way: round trip ${at(0)} min, ${at(0.5)} median, ${at(1)} max ms`)
    await proxy.stop()
  }
  for (const [megabits, delayMs] of /** @type {const} */ ([
    [10, 0],
    [100, 10],
    [1000, 50],
  ])) {
    const proxy = await startProxyProcess({ target, delayMs, bytesPerSecond: (megabits * 1e6) / 8 })
    const bytes = Math.round(((megabits * 1e6) / 8) * 2)
    const { seconds } = await download(proxy.port, bytes)
    const rate = (bytes * 8) / 1e6 / (seconds - (4 * delayMs) / 1000)
    console.log(`${megabits} Mbit/s at ${delayMs} ms each way: ${f(rate)} Mbit/s`)
    await proxy.stop()
  }
  server.kill()
}

if (process.argv[2] === 'serve') serve()
else await main()
