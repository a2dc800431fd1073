// The page of bench/browser.mjs: the same bytes over SSH and SFTP, and over a bare WebSocket, with the time that the page's
// thread was blocked meanwhile.

import { SftpClient, sftpChannels } from '@sshblock/sftp'
import {
  connect,
  parsePrivateKey,
  pinnedFingerprint,
  signerFromPrivateKey,
  webCrypto,
  webSocketDuplex,
} from '@sshblock/transport'

const relay = (/** @type {number} */ port) => new URL(`/ssh/127.0.0.1:${port}`, location.href).href
const block = new Uint8Array(256 * 1024).fill(0x5a)

/** Tasks of 50 ms and more, as the browser itself counts them. @type {number[]} */
let longTasks = []
new PerformanceObserver((list) => {
  for (const { duration } of list.getEntries()) longTasks.push(duration)
}).observe({ type: 'longtask' })

/** @param {() => Promise<number>} work resolves to bytes */
async function timed(work) {
  await new Promise((resolve) => setTimeout(resolve, 100))
  longTasks = []
  const startedAt = performance.now()
  const bytes = await work()
  const seconds = (performance.now() - startedAt) / 1000
  // Entries are handed over a little later.
  await new Promise((resolve) => setTimeout(resolve, 100))
  return { bytes, seconds, blockedMs: Math.max(0, ...longTasks), longTasks: longTasks.length }
}

/** @param {{ port: number, user: string, privateKey: string, fingerprint: string }} access */
async function withSftp(
  access,
  /** @type {(sftp: SftpClient, openChannel: () => Promise<SftpClient>) => Promise<any>} */ use,
) {
  const crypto = webCrypto()
  const key = await parsePrivateKey(crypto, access.privateKey)
  const session = await connect({
    open: (signal) =>
      webSocketDuplex(relay(access.port), {
        signal,
        ...(access.stream === true ? { WebSocketStream } : {}),
      }),
    crypto,
    host: '127.0.0.1',
    port: access.port,
    username: access.user,
    hostKeyPolicy: pinnedFingerprint(crypto, 'openssh', access.fingerprint),
    auth: [{ type: 'publickey', signer: signerFromPrivateKey(crypto, key) }],
  })
  const sftp = await SftpClient.open(await session.openSubsystem('sftp'))
  try {
    return {
      ...(await use(sftp, sftpChannels(session))),
      cipher: session.info.algorithms.cipherServerToClient,
    }
  } finally {
    await session.close()
  }
}

async function* blocks(/** @type {number} */ bytes) {
  for (let left = bytes; left > 0; left -= block.length)
    yield left >= block.length ? block : block.subarray(0, left)
}

/** @param {number} port */
async function bareSocket(port) {
  const socket = new WebSocket(relay(port), ['binary'])
  socket.binaryType = 'arraybuffer'
  await new Promise((resolve, reject) => {
    socket.onopen = resolve
    socket.onerror = reject
  })
  return socket
}

const jobs = {
  /** @param {any} access @param {string} path */
  sftpDownload: (access, path) =>
    withSftp(access, (sftp) => timed(async () => (await sftp.get(path, () => {})).bytes)),

  /** @param {any} access @param {string} path @param {number} bytes */
  sftpUpload: (access, path, bytes) =>
    withSftp(access, (sftp, openChannel) =>
      timed(async () => (await sftp.put(blocks(bytes), path, { openChannel })).bytes),
    ),

  /** @param {number} port @param {number} bytes */
  async bareDownload(port, bytes) {
    const socket = await bareSocket(port)
    const sample = await timed(
      () =>
        new Promise((resolve) => {
          let taken = 0
          socket.onmessage = ({ data }) => {
            taken += data.byteLength
            if (taken >= bytes) resolve(taken)
          }
          socket.send(new TextEncoder().encode(`D ${bytes}\n`))
        }),
    )
    socket.close()
    return sample
  },

  /** @param {number} port @param {number} bytes */
  async bareUpload(port, bytes) {
    const socket = await bareSocket(port)
    const sample = await timed(
      () =>
        new Promise((resolve) => {
          let left = bytes
          socket.onmessage = () => resolve(bytes)
          socket.send(new TextEncoder().encode(`U ${bytes}\n`))
          const more = () => {
            while (left > 0 && socket.bufferedAmount < 1024 * 1024) {
              socket.send(left >= block.length ? block : block.subarray(0, left))
              left -= Math.min(left, block.length)
            }
            if (left > 0) setTimeout(more, 1)
          }
          more()
        }),
    )
    socket.close()
    return sample
  },
}

Object.assign(globalThis, { jobs })
