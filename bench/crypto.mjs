// How fast each cipher suite seals and opens packets on each provider, one packet after another on one core.
//   npm run build && node bench/crypto.mjs [milliseconds per measurement, default 300]
// WebCrypto is measured with as many packets under way as its openers ask for. Noise of 30 % is usual on shared machines.

import { nodeCrypto } from '../packages/transport/dist/crypto/node.js'
import { webCrypto } from '../packages/transport/dist/crypto/web.js'
import { cipherSuite } from '../packages/transport/dist/packet/suites.js'

const milliseconds = Number(process.argv[2] ?? 300)
const providers = [
  ['node', nodeCrypto],
  ['web', webCrypto()],
  ['noble', webCrypto({ nobleOnly: true })],
]
const suites = [
  ['aes256-gcm@openssh.com'],
  ['aes128-gcm@openssh.com'],
  ['chacha20-poly1305@openssh.com'],
  ['aes256-ctr', 'hmac-sha2-256-etm@openssh.com'],
  ['aes128-ctr', 'hmac-sha2-256'],
]
/** Bytes of payload: a keystroke, a packet of SFTP data, the largest OpenSSH opens. */
const sizes = [64, 32_768, 250_000]

function framed(sealer, size) {
  const counted = (sealer.lengthInBlock ? 4 : 0) + 1 + size
  let padding = sealer.blockSize - (counted % sealer.blockSize)
  if (padding < 4) padding += sealer.blockSize
  const packet = new Uint8Array(4 + 1 + size + padding + sealer.tagLength)
  new DataView(packet.buffer).setUint32(0, 1 + size + padding)
  packet[4] = padding
  return packet
}

/** Microseconds per packet for sealing and for opening, measured for so many milliseconds. */
async function measure(crypto, [cipher, mac], size, milliseconds) {
  const suite = cipherSuite(crypto, cipher, mac)
  const keys = {
    iv: new Uint8Array(suite.ivLength),
    key: new Uint8Array(suite.keyLength),
    macKey: new Uint8Array(suite.macKeyLength),
  }
  const sealer = suite.sealer(keys)
  const opener = suite.opener(keys)
  const together = Math.max(1, opener.lookahead)
  let sequence = 0
  const spent = { seal: 0, open: 0, packets: 0 }
  const end = performance.now() + milliseconds
  while (performance.now() < end) {
    const packets = Array.from({ length: together }, () => framed(sealer, size))
    const start = performance.now()
    const sealing = packets.map((packet, i) => sealer.seal(packet, sequence + i))
    if (together > 1) await Promise.all(sealing)
    const middle = performance.now()
    const opening = packets.map((packet, i) => {
      opener.sealedLength(packet, 0, sequence + i)
      return opener.open(packet, sequence + i)
    })
    if (together > 1) await Promise.all(opening)
    spent.seal += middle - start
    spent.open += performance.now() - middle
    spent.packets += together
    sequence += together
  }
  return { seal: (1000 * spent.seal) / spent.packets, open: (1000 * spent.open) / spent.packets }
}

for (const size of sizes) {
  console.log(`\n${size} bytes of payload`)
  for (const suite of suites) {
    for (const [name, crypto] of providers) {
      await measure(crypto, suite, size, milliseconds / 5) // compiles and warms up
      const { seal, open } = await measure(crypto, suite, size, milliseconds)
      const rate = (microseconds) =>
        `${microseconds.toFixed(1).padStart(8)} us ${(size / microseconds / 1.048576).toFixed(0).padStart(6)} MiB/s`
      console.log(`  ${suite.join('+').padEnd(46)} ${name.padEnd(6)} seal ${rate(seal)}   open ${rate(open)}`)
    }
  }
}
