// The other end of a bare transfer: sends so many bytes, or takes them and says so. A process of its own, for bench/browser.mjs.
// One line of text asks: 'D 1000\n' for a download of 1000 bytes, 'U 1000\n' before an upload of 1000 bytes.

import { createServer } from 'node:net'

const block = Buffer.alloc(256 * 1024, 0x5a)

const server = createServer({ noDelay: true }, (socket) => {
  socket.on('error', () => {})
  let asked = ''
  socket.on('data', function onAsk(chunk) {
    const end = chunk.indexOf(0x0a)
    asked += chunk.toString('latin1', 0, end < 0 ? chunk.length : end)
    if (end < 0) return
    socket.off('data', onAsk)
    const [what, count] = asked.split(' ')
    if (what === 'D') send(socket, Number(count))
    else take(socket, Number(count), chunk.subarray(end + 1))
  })
})

/** @param {import('node:net').Socket} socket @param {number} left */
function send(socket, left) {
  while (left > 0) {
    const count = Math.min(left, block.length)
    left -= count
    if (!socket.write(count === block.length ? block : block.subarray(0, count)) && left > 0) {
      socket.once('drain', () => send(socket, left))
      return
    }
  }
}

/** @param {import('node:net').Socket} socket @param {number} wanted @param {Uint8Array} first */
function take(socket, wanted, first) {
  let taken = first.length
  const look = () => {
    if (taken >= wanted) socket.write('!')
  }
  socket.on('data', (chunk) => {
    taken += chunk.length
    look()
  })
  look()
}

server.listen(0, '127.0.0.1', () => {
  process.send?.({ port: /** @type {import('node:net').AddressInfo} */ (server.address()).port })
})
process.on('disconnect', () => process.exit())
