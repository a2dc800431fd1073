// The primitives that browsers have, in Node: noble's ChaCha20-Poly1305, and WebCrypto's AES-GCM.

import { access, runClient } from '../harness/peers.mjs'

/** @typedef {import('../harness/ground.mjs').Ground} Ground */

/** @param {string} cipher @param {number} share of the size */
const reading =
  (cipher, share) =>
  async (/** @type {Ground} */ ground, /** @type {{ size: number }} */ { size }) => {
    const bytes = size / share
    const run = () =>
      runClient('web-crypto.mjs', { ...access(ground, ground.port), remote: ground.image(bytes), cipher })
    const primitive = { bytesPerSecond: 0 }
    return [
      {
        name: 'sshblock read',
        ours: true,
        run: async () => {
          const sample = await run()
          primitive.bytesPerSecond = sample.rawBytesPerSecond
          return { ...sample, bytes, value: bytes / 1e6 / sample.insideSeconds }
        },
      },
      // Measured by the run before, in its own process.
      { name: 'the raw primitive', run: async () => ({ seconds: 0, value: primitive.bytesPerSecond / 1e6 }) },
    ]
  }

export const rows = [
  {
    name: 'noble-chacha',
    title: 'Read with noble alone (ChaCha20-Poly1305), loopback',
    unit: 'MB/s',
    higherIsBetter: true,
    fixedOrder: true,
    goals: [{ of: 'sshblock read', peer: 'the raw primitive', atLeast: 0.85 }],
    prepare: reading('chacha20-poly1305@openssh.com', 8),
  },
  {
    name: 'webcrypto-gcm',
    title: 'Read with WebCrypto (AES-256-GCM), loopback',
    unit: 'MB/s',
    higherIsBetter: true,
    fixedOrder: true,
    goals: [{ of: 'sshblock read', value: { atLeast: 400 } }],
    prepare: reading('aes256-gcm@openssh.com', 2),
  },
]
