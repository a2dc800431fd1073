// SSH and SFTP as a page uses them. Each scenario takes plain data and returns plain data.

import { sha256 } from '@noble/hashes/sha2.js'
import { SftpClient } from '@sshblock/sftp'
import type { Session } from '@sshblock/transport/browser'
import { type Connection, login } from './connection.ts'
import { noisePieces, PieceDigest } from './noise.ts'

/** WebCrypto's where there is one; the hash is the scenario's business, not the library's. */
const digest = async (bytes: Uint8Array<ArrayBuffer>): Promise<ArrayBuffer> =>
  isSecureContext ? crypto.subtle.digest('SHA-256', bytes) : (sha256(bytes).buffer as ArrayBuffer)

async function withSftp<T>(session: Session, work: (sftp: SftpClient) => Promise<T>): Promise<T> {
  const sftp = await SftpClient.open(await session.openSubsystem('sftp'))
  try {
    return await work(sftp)
  } finally {
    await sftp.close()
  }
}

export interface LoginReport {
  readonly secureContext: boolean
  readonly inWorker: boolean
  readonly cipher: string
  readonly kex: string
  readonly hostKey: string
  readonly method: string | undefined
}

export async function logIn(connection: Connection): Promise<LoginReport> {
  const session = await login(connection)
  const { algorithms, hostKey, authentication } = session.info
  await session.close()
  return {
    secureContext: isSecureContext,
    inWorker: typeof document === 'undefined',
    cipher: algorithms.cipherServerToClient,
    kex: algorithms.kex,
    hostKey: hostKey.fingerprint,
    method: authentication?.method,
  }
}

export interface TransferReport {
  readonly putBytes: number
  readonly getBytes: number
  readonly getDigest: string
  readonly newKeys: number
  readonly cipher: string
}

/** Puts a file of noise and gets it back. */
export async function putAndGet(
  connection: Connection,
  { path, bytes, seed }: { path: string; bytes: number; seed: number },
): Promise<TransferReport> {
  let newKeys = 0
  const session = await login(connection, {
    trace: ({ layer, event }) => {
      if (layer === 'kex' && event === 'new keys') newKeys++
    },
  })
  const received = new PieceDigest(digest)
  const put = await withSftp(session, async (sftp) => {
    const written = await sftp.put(noisePieces(seed, bytes), path)
    await sftp.get(path, (chunk) => received.add(chunk))
    return written
  })
  const cipher = session.info.algorithms.cipherServerToClient
  await session.close()
  return { putBytes: put.bytes, getBytes: received.bytes, getDigest: await received.hex(), newKeys, cipher }
}

/** Cancels a download half-way, and uses the same connection for another one. */
export async function cancelAndGoOn(
  connection: Connection,
  { path, small }: { path: string; small: string },
): Promise<{ name: string; code: string; before: number; total: number; after: string }> {
  const session = await login(connection)
  const abort = new AbortController()
  let before = 0
  const report = await withSftp(session, async (sftp) => {
    const { size = 0 } = await sftp.stat(path)
    const error = await sftp
      .get(path, () => {}, {
        signal: abort.signal,
        onProgress: ({ transferredBytes }) => {
          before = transferredBytes
          if (transferredBytes > size / 8) abort.abort()
        },
      })
      .then(
        () => {
          throw new Error('the download was not cancelled')
        },
        (failure: Error & { code: string }) => failure,
      )
    const after = new TextDecoder().decode(await sftp.readFile(small))
    return { name: error.name, code: error.code, before, total: size, after }
  })
  await session.close()
  return report
}

interface UnderWay {
  readonly session: Session
  readonly outcome: Promise<{ code: string; message: string; causeCode: string | undefined } | undefined>
  bytes: number
}

let underWay: UnderWay | undefined

/** Starts a download that goes on while the test does something to the relay; resolves when bytes have come. */
export async function startEndlessGet(connection: Connection, { path }: { path: string }): Promise<void> {
  const session = await login(connection)
  const sftp = await SftpClient.open(await session.openSubsystem('sftp'))
  let moved = (): void => {}
  const begun = new Promise<void>((resolve) => {
    moved = resolve
  })
  const state = { session, bytes: 0 } as UnderWay & { outcome: UnderWay['outcome'] }
  const loop = async (): Promise<never> => {
    for (;;) {
      await sftp.get(path, (chunk) => {
        state.bytes += chunk.length
        moved()
      })
    }
  }
  const outcome = loop().catch((error: Error & { code: string }) => {
    // Of a transfer's error the cause says what became of the connection.
    const cause = (error.cause as (Error & { code?: string }) | undefined)?.code
    return { code: error.code, message: error.message, causeCode: cause }
  })
  underWay = Object.assign(state, { outcome })
  await begun
}

/** How the download of `startEndlessGet` ended; and that everything else of the session ends too. */
export async function endOfEndlessGet(): Promise<{
  code: string | undefined
  causeCode: string | undefined
  message: string | undefined
  failure: string | undefined
  later: string
}> {
  const { session, outcome } = underWay!
  const ended = await outcome
  await session.closed
  const later = await session.openSubsystem('sftp').then(
    () => 'opened',
    (error: Error & { code: string }) => error.code,
  )
  return {
    code: ended?.code,
    causeCode: ended?.causeCode,
    message: ended?.message,
    failure: session.failure?.code,
    later,
  }
}

export async function bytesSoFar(): Promise<number> {
  return underWay?.bytes ?? 0
}
