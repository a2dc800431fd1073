// The device's way on the primitives of browsers: an SFTP stream read with noble (ChaCha20-Poly1305) or WebCrypto (AES-GCM),
// and the speed of the raw primitive on packets of the same size in the same process.

import { SftpClient } from '@sshblock/sftp'
import { webCrypto } from '@sshblock/transport/browser'
import { connect } from '@sshblock/transport/node'
import { connection, job, report } from './connection.mjs'

const { remote, cipher, packetBytes = 32_768 } = job
const crypto = webCrypto()
const session = await connect({ ...connection, crypto, algorithms: { ciphers: [cipher] } })
const client = await SftpClient.open(await session.openSubsystem('sftp'))
const startedAt = performance.now()
let bytes = 0
const file = await client.open(remote)
const { size = 0 } = await file.stat()
const lane = async (/** @type {Uint8Array} */ buffer) => {
  while (bytes < size) {
    const at = bytes
    bytes += buffer.length
    await file.read(at, buffer)
  }
}
await Promise.all(Array.from({ length: 8 }, () => lane(new Uint8Array(2 ** 20))))
const insideSeconds = (performance.now() - startedAt) / 1000
await client.close()
await session.close()

/** Bytes a second of the primitive alone. */
async function raw() {
  const packets = Math.ceil(Math.min(size, 2 ** 26) / packetBytes)
  const packet = new Uint8Array(packetBytes + 16)
  const begun = performance.now()
  if (cipher.startsWith('chacha20')) {
    const key = new Uint8Array(32)
    const nonce = new Uint8Array(8)
    const body = packet.subarray(0, packetBytes)
    for (let i = 0; i < packets; i++) {
      crypto.poly1305(key, body)
      crypto.chacha20InPlace(key, nonce, 1, body)
    }
  } else {
    const key = await globalThis.crypto.subtle.importKey('raw', new Uint8Array(32), 'AES-GCM', false, [
      'encrypt',
      'decrypt',
    ])
    const iv = new Uint8Array(12)
    const sealed = await globalThis.crypto.subtle.encrypt(
      { name: 'AES-GCM', iv },
      key,
      new Uint8Array(packetBytes),
    )
    let left = packets
    const one = async () => {
      while (left-- > 0) await globalThis.crypto.subtle.decrypt({ name: 'AES-GCM', iv }, key, sealed)
    }
    await Promise.all(Array.from({ length: 8 }, one))
  }
  return (packets * packetBytes) / ((performance.now() - begun) / 1000)
}

report({ bytes: size, insideSeconds, rawBytesPerSecond: await raw() })
