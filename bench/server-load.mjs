// Our server under many clients: `npm run bench:server [-- connections sessions]`.
// 1. Connections opened and dropped at a random byte of the handshake (default 10 000, 64 at once): afterwards no socket,
//    no timer and no memory may be left behind.
// 2. SFTP sessions that read at once (default 200): together they should move data at no less than 0.7 of one alone.

import { execFileSync } from 'node:child_process'
import { createConnection } from 'node:net'
import { MemoryBackend, SftpClient, serveSftp } from '@sshblock/sftp'
import {
  AuthorizedKeys,
  connect,
  formatPublicKey,
  generateKeyPair,
  insecureAcceptAnyHostKey,
  listen,
  nodeCrypto,
  signerFromPrivateKey,
  systemRandom,
} from '@sshblock/transport/node'

const drops = Number(process.argv[2] ?? 10_000)
const sessions = Number(process.argv[3] ?? 200)
const mebibyte = 1024 ** 2

const userKey = generateKeyPair(nodeCrypto, 'ed25519', systemRandom)
const authorized = AuthorizedKeys.parse(formatPublicKey(userKey.publicKey))
const backend = new MemoryBackend()
const server = await listen({
  hostKeys: [signerFromPrivateKey(nodeCrypto, generateKeyPair(nodeCrypto, 'ed25519', systemRandom))],
  auth: { authorizedKeys: () => authorized },
  subsystems: { sftp: (channel) => serveSftp(channel, backend).finished },
  maxConnections: 1000,
  maxConnectionsPerAddress: 1000,
  maxUnauthenticated: 1000,
})

const collect = () => {
  for (let i = 0; i < 3; i++) globalThis.gc()
  return process.memoryUsage()
}
const resources = () =>
  process
    .getActiveResourcesInfo()
    .filter((name) => /TCP(Socket|Server)|Timeout/.test(name))
    .sort()
    .join(' ')
const settle = (ms) => new Promise((resolve) => setTimeout(resolve, ms))

const login = () =>
  connect({
    host: '127.0.0.1',
    port: server.port,
    username: 'user',
    hostKeyPolicy: insecureAcceptAnyHostKey(),
    auth: [{ type: 'publickey', signer: signerFromPrivateKey(nodeCrypto, userKey) }],
  })

/** What a real client sends until it is logged in, recorded once: cut at a random byte it is a client that went away there. */
async function recordHandshake() {
  const sent = []
  const { createServer } = await import('node:net')
  const relay = createServer((client) => {
    const up = createConnection(server.port, '127.0.0.1')
    client.on('data', (chunk) => {
      sent.push(chunk)
      up.write(chunk)
    })
    up.on('data', (chunk) => client.write(chunk))
    for (const [a, b] of [
      [client, up],
      [up, client],
    ])
      a.on('close', () => b.destroy()).on('error', () => {})
  })
  await new Promise((resolve) => relay.listen(0, '127.0.0.1', resolve))
  const session = await connect({
    host: '127.0.0.1',
    port: relay.address().port,
    username: 'user',
    hostKeyPolicy: insecureAcceptAnyHostKey(),
    auth: [{ type: 'publickey', signer: signerFromPrivateKey(nodeCrypto, userKey) }],
  })
  await session.close()
  relay.close()
  return Buffer.concat(sent)
}

async function dropOne(recorded) {
  const cut = Math.floor(Math.random() * recorded.length)
  await new Promise((resolve) => {
    const socket = createConnection(server.port, '127.0.0.1', () => {
      socket.write(recorded.subarray(0, cut), () =>
        setTimeout(() => (cut % 2 === 0 ? socket.destroy() : socket.resetAndDestroy()), Math.random() * 5),
      )
    })
    socket.on('error', () => {})
    socket.on('close', resolve)
  })
}

console.log(`node ${process.version}, ${execFileSync('nproc').toString().trim()} cores`)
const recorded = await recordHandshake()
const many = async (count) => {
  let left = count
  await Promise.all(
    Array.from({ length: 64 }, async () => {
      while (left-- > 0) await dropOne(recorded)
    }),
  )
}
await many(500)
await settle(1500)
const before = collect()
const resourcesBefore = resources()
const startedAt = performance.now()
await many(drops)
await settle(1500)
const after = collect()
const growth = (after.heapUsed - before.heapUsed) / mebibyte
console.log(
  `${drops} connections dropped in ${((performance.now() - startedAt) / 1000).toFixed(1)} s; open now: ${server.statistics.connections}; heap ${growth >= 0 ? '+' : ''}${growth.toFixed(1)} MiB, RSS +${((after.rss - before.rss) / mebibyte).toFixed(0)} MiB; resources before [${resourcesBefore}], after [${resources()}]`,
)

async function reading(count, bytesEach) {
  const clients = []
  for (let i = 0; i < count; i++) {
    const session = await login()
    const sftp = await SftpClient.open(await session.openSubsystem('sftp'))
    clients.push({ session, sftp, file: await sftp.open('/data', 'r') })
  }
  const started = performance.now()
  await Promise.all(
    clients.map(async ({ file }) => {
      const into = new Uint8Array(mebibyte)
      for (let done = 0; done < bytesEach; done += into.length) await file.read(done % (32 * mebibyte), into)
    }),
  )
  const rate = (count * bytesEach) / mebibyte / ((performance.now() - started) / 1000)
  for (const { session } of clients) await session.close()
  return rate
}

{
  const session = await login()
  const sftp = await SftpClient.open(await session.openSubsystem('sftp'))
  await sftp.writeFile('/data', new Uint8Array(33 * mebibyte).fill(5))
  await session.close()
}
await reading(1, 64 * mebibyte)
const alone = await reading(1, 512 * mebibyte)
const together = await reading(sessions, Math.max(4, Math.floor(1024 / sessions)) * mebibyte)
console.log(
  `one session reads ${alone.toFixed(0)} MiB/s, ${sessions} together ${together.toFixed(0)} MiB/s: ratio ${(together / alone).toFixed(2)} (aim 0.7)`,
)
await server.close({ graceMs: 0 })
process.exit(after.heapUsed - before.heapUsed < 16 * mebibyte && together / alone >= 0.7 ? 0 : 1)
