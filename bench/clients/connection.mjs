// How our client programs reach the server of a bench. A job comes as JSON in the first argument.

import { connect, insecureAcceptAnyHostKey, keyFileAuth } from '@sshblock/transport/node'

export const job = JSON.parse(process.argv[2] ?? '{}')

export const location = (/** @type {string} */ path) => {
  const { host, port, user } = job
  return `ssh://${encodeURIComponent(user)}@${host}:${port}${path}?host_key_check=no`
}

export const deviceOptions = { agent: /** @type {const} */ (false), keyFiles: [job.identity] }

export const connection = {
  host: job.host,
  port: job.port,
  username: job.user,
  hostKeyPolicy: insecureAcceptAnyHostKey(),
  auth: [keyFileAuth(job.identity)],
}

/** @param {import('@sshblock/transport/node').NodeClientOptions['earlyChannels']} [earlyChannels] */
export const login = (earlyChannels = 1) => connect({ ...connection, earlyChannels })

/** The last line that a program prints: merged into its sample. @param {object} result */
export function report(result) {
  process.stdout.write(`${JSON.stringify(result)}\n`)
}

/**
 * Calls `each(offset, buffer)` for all chunks from 0 to `size`, `inFlight` at once, each lane with a buffer of its own.
 * @param {number} size @param {number} chunk @param {number} inFlight
 * @param {(offset: number, buffer: Uint8Array) => Promise<unknown>} each
 */
export async function overAll(size, chunk, inFlight, each) {
  let next = 0
  const lane = async () => {
    const buffer = new Uint8Array(chunk)
    while (next < size) {
      const at = next
      next += chunk
      await each(at, at + chunk <= size ? buffer : buffer.subarray(0, size - at))
    }
  }
  await Promise.all(Array.from({ length: inFlight }, lane))
}
