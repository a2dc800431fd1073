// known_hosts on disk: read, append, rewrite. Appending is one write to a file opened for appending, so lines of programs
// that know no lock (ssh itself) are never torn; rewriting goes through a new file, fsync and rename. Both happen under a
// lock file beside the original, so that two of our own processes neither add a host twice nor lose each other's lines.

import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import {
  type FileHandle,
  link,
  mkdir,
  open,
  readFile,
  realpath,
  rename,
  stat,
  unlink,
} from 'node:fs/promises'
import { dirname } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import type { CryptoProvider, RandomSource } from '../crypto/provider.ts'
import { quote, SshError } from '../errors.ts'
import { equalBytes, utf8Bytes } from '../wire/bytes.ts'
import { formatKnownHostsLine, KnownHosts, knownHostsName, type NewKnownHost } from './known-hosts.ts'

export interface KnownHostsFileOptions {
  /** How long to wait for another process that holds the lock, in milliseconds; 5000. */
  lockTimeoutMs?: number
  /** Age after which a lock counts as left behind by a process that died, in milliseconds; 30 000. */
  staleLockMs?: number
}

/**
 * Reads a known_hosts file; one that does not exist is empty.
 * @throws SshError with the system's code ('EACCES', 'EISDIR', ...) where it cannot be read.
 */
export async function readKnownHostsFile(path: string): Promise<KnownHosts> {
  return await withPath('read', path, () => read(path))
}

/**
 * Appends a host to a known_hosts file, creating it (mode 0600, its folder 0700) where it is not there. A missing final
 * newline is supplied first. Does nothing where the file has that key for that host already.
 * @returns whether a line was added.
 * @throws SshError 'ERR_SSH_KNOWN_HOSTS_LOCKED' where another process holds the lock for too long, or with the system's
 *   code where the file cannot be written; UsageError as formatKnownHostsLine.
 */
export async function addKnownHost(
  crypto: CryptoProvider,
  path: string,
  host: Omit<NewKnownHost, 'hash'> & { hash?: boolean },
  options: KnownHostsFileOptions = {},
): Promise<boolean> {
  const { hash, ...plain } = host
  const line = formatKnownHostsLine(
    crypto,
    hash === true ? { ...plain, hash: { random: nodeRandom } } : plain,
  )
  return await withPath('write', path, async () => {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 })
    return await locked(path, options, async (target) => {
      const before = await read(target)
      const same = before
        .entriesFor(crypto, knownHostsName(host))
        .some((entry) => entry.marker === host.marker && equalBytes(entry.keyBlob, host.key.blob))
      if (same) return false
      const file = await open(target, constants.O_RDWR | constants.O_APPEND | constants.O_CREAT, 0o600)
      try {
        const lead = (await endsInMiddleOfLine(file)) ? '\n' : ''
        await file.appendFile(utf8Bytes(`${lead}${line}\n`))
        await file.sync()
      } finally {
        await file.close()
      }
      return true
    })
  })
}

/**
 * Changes a known_hosts file: reads it under the lock, lets `edit` change it, and replaces the file in one step where
 * something changed. Untouched lines stay byte for byte; mode and symbolic links of the original stay too.
 * @returns whether the file was replaced.
 * @throws as addKnownHost, and whatever `edit` throws.
 */
export async function updateKnownHostsFile(
  path: string,
  edit: (knownHosts: KnownHosts) => void,
  options: KnownHostsFileOptions = {},
): Promise<boolean> {
  return await withPath('write', path, () =>
    locked(path, options, async (target) => {
      const knownHosts = await read(target)
      const before = knownHosts.bytes()
      edit(knownHosts)
      const after = knownHosts.bytes()
      if (equalBytes(before, after)) return false
      const mode = await stat(target).then(
        (found) => found.mode & 0o777,
        () => 0o600,
      )
      const temporary = `${target}.${randomBytes(8).toString('hex')}`
      const file = await open(temporary, 'wx', 0o600)
      try {
        await file.writeFile(after)
        await file.chmod(mode)
        await file.sync()
      } catch (error) {
        await unlink(temporary)
        throw error
      } finally {
        await file.close()
      }
      await rename(temporary, target)
      return true
    }),
  )
}

async function read(path: string): Promise<KnownHosts> {
  try {
    return KnownHosts.parse(await readFile(path), path)
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return KnownHosts.parse('', path)
    throw error
  }
}

const nodeRandom: RandomSource = (into) => {
  into.set(randomBytes(into.length))
}

async function endsInMiddleOfLine(file: FileHandle): Promise<boolean> {
  const { size } = await file.stat()
  if (size === 0) return false
  const last = new Uint8Array(1)
  await file.read(last, 0, 1, size - 1)
  return last[0] !== 0x0a
}

/** Runs `work` under the lock of the file that the path, links resolved, stands for. */
async function locked<T>(
  path: string,
  options: KnownHostsFileOptions,
  work: (target: string) => Promise<T>,
): Promise<T> {
  const target = await realpath(path).catch((error: unknown) => {
    if (isErrno(error, 'ENOENT')) return path
    throw error
  })
  const lockPath = `${target}.lock`
  const deadline = performance.now() + (options.lockTimeoutMs ?? 5000)
  for (;;) {
    const lock = await takeLock(lockPath)
    if (lock !== undefined) {
      try {
        return await work(target)
      } finally {
        await releaseLock(lockPath, lock)
      }
    }
    await breakStaleLock(lockPath, options.staleLockMs ?? 30_000)
    if (performance.now() > deadline) {
      throw new SshError(
        'ERR_SSH_KNOWN_HOSTS_LOCKED',
        `another process holds ${quote(lockPath, 1024)}; remove it if no such process runs`,
      )
    }
    await delay(10 + randomBytes(1)[0]! / 16)
  }
}

async function takeLock(lockPath: string): Promise<FileHandle | undefined> {
  try {
    return await open(lockPath, 'wx', 0o600)
  } catch (error) {
    if (isErrno(error, 'EEXIST')) return undefined
    throw error
  }
}

/** Removes the lock file if it is still the one we made: it may have been broken while this process was stopped. */
async function releaseLock(lockPath: string, lock: FileHandle): Promise<void> {
  const { ino } = await lock.stat()
  await lock.close()
  const found = await stat(lockPath).catch(() => undefined)
  if (found?.ino === ino) await unlink(lockPath)
}

/**
 * Takes away a lock that is older than any holder needs it. It is moved aside first, and put back if, between looking and
 * moving, somebody else broke it and took a fresh one.
 */
async function breakStaleLock(lockPath: string, staleMs: number): Promise<void> {
  try {
    const judged = await stat(lockPath)
    if (Date.now() - judged.mtimeMs < staleMs) return
    const aside = `${lockPath}.${randomBytes(8).toString('hex')}`
    await rename(lockPath, aside)
    const moved = await stat(aside)
    if (moved.ino !== judged.ino || moved.mtimeMs !== judged.mtimeMs) {
      await link(aside, lockPath).catch((error: unknown) => {
        if (!isErrno(error, 'EEXIST')) throw error
      })
    }
    await unlink(aside)
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error
  }
}

function isErrno(error: unknown, code: string): boolean {
  return error instanceof Error && (error as NodeJS.ErrnoException).code === code
}

/** Gives I/O errors a sentence and our class; the system's code stays. */
async function withPath<T>(verb: string, path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (cause) {
    const code = cause instanceof Error ? (cause as NodeJS.ErrnoException).code : undefined
    if (cause instanceof SshError || code === undefined) throw cause
    throw new SshError(code, `cannot ${verb} ${quote(path, 1024)}: ${code}`, { cause })
  }
}
