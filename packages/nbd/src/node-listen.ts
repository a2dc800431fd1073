// Where a server listens, and who may come: a Unix socket of mode 0600, or a loopback address. Anything wider must be
// asked for by a name that says so: NBD without TLS has neither authentication nor encryption.

import { lookup } from 'node:dns/promises'
import { chmodSync, lstatSync, statSync, unlinkSync } from 'node:fs'
import { BlockList, connect, isIPv6, type Server } from 'node:net'
import { dirname } from 'node:path'
import { quote, UsageError } from '@sshblock/transport/errors'

/** Where to listen. */
export type NbdListen =
  /** A Unix socket. A socket file that nobody listens on any more is replaced; anything else at the path is an error. */
  | { socketPath: string }
  /** TCP. `host` defaults to 127.0.0.1; port 0 lets the system choose. */
  | {
      port: number
      host?: string
      /** Allows an address that other machines reach. They read and write the device without any authentication. */
      insecureAllowRemoteClients?: boolean
    }

/** Where a server listens. */
export type NbdAddress = { readonly socketPath: string } | { readonly host: string; readonly port: number }

/** sun_path without its final NUL. */
const maxSocketPathBytes = process.platform === 'linux' ? 107 : 103

/** IANA's port for NBD. */
export const defaultPort = 10809

const loopback = new BlockList()
loopback.addSubnet('127.0.0.0', 8, 'ipv4')
loopback.addAddress('::1', 'ipv6')

/** Whether an IP address is reached from this machine alone. */
export function isLoopback(address: string): boolean {
  return loopback.check(address, isIPv6(address) ? 'ipv6' : 'ipv4')
}

/**
 * Makes `server` listen.
 * @throws UsageError for an address that must not be listened on; the system's error (EADDRINUSE, EACCES, ...) otherwise
 */
export async function listen(server: Server, where: NbdListen): Promise<NbdAddress> {
  if ('socketPath' in where) {
    await listenOnSocket(server, where.socketPath)
    return { socketPath: where.socketPath }
  }
  const wanted = where.host ?? '127.0.0.1'
  // Listen on the address that was checked, not on a name that may be looked up to something else a moment later.
  const { address } = await lookup(wanted)
  if (!isLoopback(address) && where.insecureAllowRemoteClients !== true) {
    throw new UsageError(
      `${quote(wanted)} is reached by other machines, which could read and write the device without authentication; ` +
        'listen on a Unix socket or on loopback, or set insecureAllowRemoteClients',
    )
  }
  await listening(server, () => server.listen({ host: address, port: where.port }))
  const bound = server.address()
  if (typeof bound !== 'object' || bound === null) throw new Error('a TCP server without an address')
  return { host: bound.address, port: bound.port }
}

async function listenOnSocket(server: Server, path: string): Promise<void> {
  // A path that begins with NUL is an abstract socket, which has no permissions.
  if (path === '' || path.includes('\0')) throw new UsageError(`${quote(path)} is not a path of a socket`)
  // sockaddr_un; what is longer is cut off by some releases of Node, and is another path then.
  if (Buffer.byteLength(path) > maxSocketPathBytes) {
    throw new UsageError(
      `the path of a socket may have ${maxSocketPathBytes} bytes, and ${quote(path, 1024)} is longer`,
    )
  }
  // Node calls a folder that is missing a lack of permission.
  if (process.platform !== 'win32') statSync(dirname(path))
  await removeStaleSocket(path)
  await listening(server, () => {
    // bind() happens inside listen(): the socket never exists with another mode.
    const umask = restrictUmask()
    try {
      server.listen({ path })
    } finally {
      if (umask !== undefined) process.umask(umask)
    }
  })
  if (process.platform !== 'win32') chmodSync(path, 0o600)
}

/** Sets the umask to 0177; undefined in worker threads, which cannot, and where the usual 022 keeps others from writing. */
function restrictUmask(): number | undefined {
  try {
    return process.umask(0o177)
  } catch {
    return undefined
  }
}

function listening(server: Server, begin: () => void): Promise<void> {
  return new Promise((resolve, reject) => {
    const onError = (error: Error): void => {
      server.off('listening', onListening)
      reject(error)
    }
    const onListening = (): void => {
      server.off('error', onError)
      resolve()
    }
    server.once('error', onError)
    server.once('listening', onListening)
    begin()
  })
}

/** Unlinks what a server that is gone left at the path; leaves everything else alone. */
async function removeStaleSocket(path: string): Promise<void> {
  const stats = lstatSync(path, { throwIfNoEntry: false })
  if (stats === undefined) return
  if (!stats.isSocket()) throw new UsageError(`${quote(path)} exists and is not a socket`)
  if (await someoneListens(path)) throw new UsageError(`another server listens on ${quote(path)}`)
  unlinkSync(path)
}

function someoneListens(path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const probe = connect({ path })
    probe.once('connect', () => {
      probe.destroy()
      resolve(true)
    })
    probe.once('error', (error: NodeJS.ErrnoException) => {
      // A backlog that is full (EAGAIN) is somebody as well.
      if (error.code === 'ECONNREFUSED' || error.code === 'ENOENT') resolve(false)
      else if (error.code === 'EAGAIN') resolve(true)
      else reject(error)
    })
  })
}

/** The nbd:// or nbd+unix:// URI of an export (doc/uri.md of the NetworkBlockDevice project). */
export function nbdUri(address: NbdAddress, exportName: string): string {
  // The name is the path without its leading slash: further slashes stay as they are.
  const name = encodeURIComponent(exportName).replaceAll('%2F', '/')
  if ('socketPath' in address) {
    return `nbd+unix:///${name}?socket=${encodeURIComponent(address.socketPath).replaceAll('%2F', '/')}`
  }
  const host = isIPv6(address.host) ? `[${address.host}]` : address.host
  return `nbd://${host}${address.port === defaultPort ? '' : `:${address.port}`}/${name}`
}
