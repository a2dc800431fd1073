// From a target to a connected socket: the name is resolved once, its addresses are checked, and a checked address is what is
// connected to, so that a name which changes its answer (DNS rebinding) gains nothing.

import { lookup } from 'node:dns/promises'
import { connect, type Socket } from 'node:net'
import { type AddressBytes, mayConnect, type Network, parseAddress, parseNetwork } from './address.ts'
import { closeCode, Refusal } from './close-codes.ts'
import { maxAddresses } from './limits.ts'
import type { FoundTarget } from './target.ts'

/** Addresses of a name, in the order in which they are to be tried. */
export type Resolve = (host: string) => Promise<readonly string[]>
/** Begins a TCP connection to an address (never a name). */
export type ConnectTcp = (address: string, port: number) => Socket

export interface DialOptions {
  readonly resolve: Resolve
  readonly connect: ConnectTcp
  /** Networks that are allowed although they are special. */
  readonly networks: readonly Network[]
  readonly connectTimeoutMs: number
  readonly signal: AbortSignal
}

export const systemResolve: Resolve = async (host) =>
  (await lookup(host, { all: true, verbatim: true })).map(({ address }) => address)

export const systemConnect: ConnectTcp = (address, port) =>
  connect({
    host: address,
    port,
    noDelay: true,
    autoSelectFamily: false,
    keepAlive: true,
    keepAliveInitialDelay: 30_000,
  })

const loopback = [parseNetwork('127.0.0.0/8')!, parseNetwork('::1')!]

/**
 * Resolves, checks, connects: the first allowed address that answers.
 * @throws Refusal 4403 where no address is allowed, 4502 where the name has none or nothing answers
 */
export async function dial(target: FoundTarget, options: DialOptions): Promise<Socket> {
  const addresses = await allowedAddresses(target, options)
  const deadline = performance.now() + options.connectTimeoutMs
  let failure: unknown
  for (const [index, address] of addresses.entries()) {
    // An address that does not answer leaves time for those after it.
    const timeoutMs = Math.max(1, (deadline - performance.now()) / (addresses.length - index))
    try {
      return await connected(options.connect(address, target.port), timeoutMs, options.signal)
    } catch (error) {
      failure = error
      if (options.signal.aborted) break
    }
  }
  throw new Refusal(closeCode.unreachable, `the target cannot be reached: ${reasonOf(failure)}`)
}

async function allowedAddresses(
  target: FoundTarget,
  { resolve, networks, signal, connectTimeoutMs }: DialOptions,
): Promise<string[]> {
  const literal = parseAddress(target.host)
  // An address that the operator wrote is allowed by that.
  if (literal !== undefined && target.isWritten) return [target.host]
  const found =
    literal !== undefined ? [target.host] : await resolved(target.host, resolve, connectTimeoutMs, signal)
  const allowed = target.isWritten && target.host === 'localhost' ? [...networks, ...loopback] : networks
  const addresses = found.filter((text) => {
    const bytes = parseAddress(text)
    return bytes !== undefined && mayConnectTo(bytes, allowed)
  })
  if (addresses.length === 0)
    throw new Refusal(closeCode.forbidden, 'the address of the target is not allowed')
  return addresses.slice(0, maxAddresses)
}

function mayConnectTo(bytes: AddressBytes, allowed: readonly Network[]): boolean {
  // Port 22 of 0.0.0.0 is port 22 of this machine: no list of networks makes it a target.
  const isUnspecified = bytes.every((byte) => byte === 0)
  return !isUnspecified && mayConnect(bytes, allowed)
}

async function resolved(
  host: string,
  resolve: Resolve,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<readonly string[]> {
  let timer: NodeJS.Timeout | undefined
  let onAbort: (() => void) | undefined
  try {
    const addresses = await Promise.race([
      resolve(host),
      new Promise<never>((_, reject) => {
        timer = setTimeout(() => reject(new Error('the resolver does not answer')), timeoutMs)
        onAbort = () => reject(new Error('the client is gone'))
        signal.addEventListener('abort', onAbort, { once: true })
      }),
    ])
    if (addresses.length > 0) return addresses
  } catch {
    // What the resolver said belongs to the operator's network, not to the client.
  } finally {
    clearTimeout(timer)
    if (onAbort !== undefined) signal.removeEventListener('abort', onAbort)
  }
  throw new Refusal(closeCode.unreachable, 'the name of the target cannot be resolved')
}

function connected(socket: Socket, timeoutMs: number, signal: AbortSignal): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const settle = (error?: Error): void => {
      clearTimeout(timer)
      signal.removeEventListener('abort', onAbort)
      socket.off('connect', onConnect)
      socket.off('error', settle)
      if (error === undefined) {
        resolve(socket)
      } else {
        // A socket that fails once more while it is torn down concerns nobody.
        socket.on('error', () => {})
        socket.destroy()
        reject(error)
      }
    }
    const onConnect = (): void => settle()
    const onAbort = (): void => settle(new Error('the client is gone'))
    const timer = setTimeout(() => settle(new Error('it does not answer')), timeoutMs)
    socket.once('connect', onConnect)
    socket.once('error', settle)
    if (signal.aborted) onAbort()
    else signal.addEventListener('abort', onAbort, { once: true })
  })
}

/** The system's code, and no address: a client is not to learn about the network behind the bridge. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown'
  const { code } = error as NodeJS.ErrnoException
  return code ?? error.message
}
