// Floods of messages that cost a client nothing, against our server in a process of its own: `npm run bench:floods [-- seconds]`.
// Each kind is sent as fast as it goes for some seconds (default 3) over TCP. Meanwhile the server's memory may grow by no more
// than 16 MiB, and its event loop has to come round: 99 of 100 turns within 50 ms.

import { fork } from 'node:child_process'
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { fileURLToPath } from 'node:url'
import { ScriptedPeer } from '@sshblock/transport/conformance'
import {
  AuthorizedKeys,
  connectTcp,
  formatPublicKey,
  generateKeyPair,
  listen,
  nodeCrypto,
  signerFromPrivateKey,
  systemRandom,
} from '@sshblock/transport/node'

const mebibyte = 1024 ** 2
const maxGrowth = 16 * mebibyte
const maxDelayMs = 50
const lastOpen = 0xffff_fffe

if (process.argv[2] === '--serve') await serve(process.argv[3])
else await attack(Number(process.argv[2] ?? 3))

async function serve(keys) {
  const authorized = AuthorizedKeys.parse(keys)
  const server = await listen({
    hostKeys: [signerFromPrivateKey(nodeCrypto, generateKeyPair(nodeCrypto, 'ed25519', systemRandom))],
    auth: { authorizedKeys: () => authorized },
    exec: () => {},
  })
  const delay = monitorEventLoopDelay({ resolution: 1 })
  let peak = 0
  const timer = setInterval(() => {
    peak = Math.max(peak, process.memoryUsage.rss())
  }, 5)
  delay.enable()
  process.on('message', (what) => {
    if (what === 'start') {
      globalThis.gc()
      delay.reset()
      peak = 0
      process.send({ rss: process.memoryUsage.rss() })
    } else {
      process.send({ peak, p99Ms: delay.percentile(99) / 1e6, maxMs: delay.max / 1e6 })
    }
  })
  process.on('disconnect', () => {
    clearInterval(timer)
    process.exit(0)
  })
  process.send({ port: server.port })
}

async function attack(seconds) {
  const { floods, oneMore } = await messages()
  const userKey = generateKeyPair(nodeCrypto, 'ed25519', systemRandom)
  const child = fork(fileURLToPath(import.meta.url), ['--serve', formatPublicKey(userKey.publicKey)], {
    execArgv: ['--expose-gc'],
  })
  const told = () => new Promise((resolve) => child.once('message', resolve))
  const ask = (what) => {
    const answer = told()
    child.send(what)
    return answer
  }
  const { port } = await told()
  console.log(
    'flood'.padEnd(34),
    'messages'.padStart(9),
    'MiB'.padStart(7),
    'p99 ms'.padStart(8),
    'max ms'.padStart(8),
  )
  let isGood = true
  for (const [name, message] of floods) {
    const peer = new ScriptedPeer(await connectTcp({ host: '127.0.0.1', port }), {
      role: 'client',
      crypto: nodeCrypto,
      login: { user: 'user', signer: signerFromPrivateKey(nodeCrypto, userKey) },
    })
    await peer.upTo('channel')
    // Code and buffers find their size first.
    await flood(peer, 1, message, oneMore)
    const { rss } = await ask('start')
    const count = await flood(peer, seconds, message, oneMore)
    const { peak, p99Ms, maxMs } = await ask('tell')
    const growth = Math.max(0, peak - rss)
    if (growth > maxGrowth || p99Ms > maxDelayMs) isGood = false
    console.log(
      name.padEnd(34),
      String(count).padStart(9),
      (growth / mebibyte).toFixed(1).padStart(7),
      p99Ms.toFixed(1).padStart(8),
      maxMs.toFixed(1).padStart(8),
    )
    peer.close()
  }
  child.disconnect()
  console.log(isGood ? 'within 16 MiB and 50 ms' : 'NOT within 16 MiB and 50 ms')
  process.exit(isGood ? 0 : 1)
}

/** Sends as fast as the server takes it, a thousand at a time; an answered request behind each thousand tells when it did. */
async function flood(peer, seconds, message, oneMore) {
  const end = performance.now() + seconds * 1000
  let count = 0
  while (performance.now() < end) {
    for (let i = 0; i < 1000; i++) peer.send(message(count + i))
    count += 1000
    peer.send(oneMore)
    // The answer to the last one is the only one of its kind: opening a channel of an unknown type.
    for (let came = await peer.next(); !isAnswer(came); came = await peer.next())
      if (came.kind !== 'message') throw new Error(`the server gave up: ${came.kind}`)
    peer.seen.length = 0
  }
  return count
}

/** OPEN_FAILURE (RFC 4254 s5.1) of the last request. */
function isAnswer({ number, payload }) {
  return (
    number === 92 &&
    new DataView(payload.buffer, payload.byteOffset, payload.length).getUint32(1) === lastOpen
  )
}

async function messages() {
  const connection = await import('../packages/transport/dist/messages/connection.js')
  const transport = await import('../packages/transport/dist/messages/transport.js')
  const empty = new Uint8Array(0)
  const open = (channelType, senderChannel) =>
    connection.channelOpen.bytes({
      channelType,
      senderChannel,
      initialWindow: 0,
      maxPacket: 1,
      payload: empty,
    })
  const request = (wantReply) => connection.globalRequest.bytes({ request: 'x', wantReply, payload: empty })
  const onChannel = (wantReply) =>
    connection.channelRequest.bytes({ recipientChannel: 0, request: 'x', wantReply, payload: empty })
  return {
    oneMore: open('none@example.org', lastOpen),
    floods: [
      ['IGNORE', () => transport.ignore.bytes({ data: empty })],
      ['DEBUG', () => transport.debug.bytes({ alwaysDisplay: true, text: 'x' })],
      ['ping', () => transport.ping.bytes({ data: new Uint8Array(16) })],
      ['unknown messages', () => Uint8Array.of(200, 1, 2, 3)],
      ['global requests', () => request(true)],
      ['global requests without reply', () => request(false)],
      ['channel opens, refused', (i) => open('x11', i)],
      ['session opens beyond the limit', (i) => open('session', i)],
      ['channel requests', () => onChannel(true)],
      ['window adjusts', () => connection.channelWindowAdjust.bytes({ recipientChannel: 0, bytes: 1 })],
      ['empty data', () => connection.channelData.bytes({ recipientChannel: 0, data: empty })],
    ],
  }
}
