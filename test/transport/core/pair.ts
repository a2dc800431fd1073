// A client core and a server core joined by nothing but the test: bytes are moved by hand, in any portions, on a clock and
// a random source that the test holds. What each side reports is kept as a list.

import type { SshError } from '@sshblock/transport/errors'
import { nodeCrypto } from '@sshblock/transport/node'
import type { AuthAnswer, AuthRequest } from '../../../packages/transport/src/auth/server-auth.ts'
import { ServerAuth } from '../../../packages/transport/src/auth/server-auth.ts'
import type { SessionCoreOptions, SessionEvent } from '../../../packages/transport/src/core/session-core.ts'
import { SessionCore } from '../../../packages/transport/src/core/session-core.ts'
import type { CryptoProvider, RandomSource } from '../../../packages/transport/src/crypto/provider.ts'
import type { AlgorithmOffer } from '../../../packages/transport/src/kex/algorithms.ts'
import { resolveOffer } from '../../../packages/transport/src/kex/algorithms.ts'
import { generateKeyPair } from '../../../packages/transport/src/keys/generate.ts'
import { parsePublicKey } from '../../../packages/transport/src/keys/public-key.ts'
import { verifySignature } from '../../../packages/transport/src/keys/signature.ts'
import type { Signer } from '../../../packages/transport/src/keys/signer.ts'
import { signerFromPrivateKey } from '../../../packages/transport/src/keys/signer.ts'

/** Deterministic bytes (xorshift), so that a transcript can be replayed. */
export function seededRandom(seed: number): RandomSource {
  let state = seed >>> 0 || 1
  return (into) => {
    for (let i = 0; i < into.length; i++) {
      state ^= state << 13
      state >>>= 0
      state ^= state >>> 17
      state ^= state << 5
      state >>>= 0
      into[i] = state & 255
    }
  }
}

export interface Side {
  core: SessionCore
  events: SessionEvent[]
  /** Names of the events, for comparing runs. */
  names: string[]
  /** Everything this side ever sent. */
  sent: Uint8Array[]
}

export interface PairOptions {
  clientCrypto?: CryptoProvider
  serverCrypto?: CryptoProvider
  hostKeys?: Signer[]
  clientAlgorithms?: Partial<AlgorithmOffer>
  serverAlgorithms?: Partial<AlgorithmOffer>
  client?: Partial<SessionCoreOptions>
  server?: Partial<SessionCoreOptions>
  seed?: number
  answer?: (request: AuthRequest) => AuthAnswer
  /** Trust the host key without being asked; default true. */
  trust?: boolean
}

const letIn = (request: AuthRequest): AuthAnswer =>
  request.method === 'publickey' && !request.signed ? { type: 'public-key-ok' } : { type: 'success' }

export class Pair {
  readonly client: Side
  readonly server: Side
  now = 0
  onEvent: ((side: 'client' | 'server', event: SessionEvent) => void) | undefined
  readonly #options: PairOptions

  constructor(options: PairOptions = {}) {
    this.#options = options
    const clientCrypto = options.clientCrypto ?? nodeCrypto
    const serverCrypto = options.serverCrypto ?? nodeCrypto
    const now = (): number => this.now
    const seed = options.seed ?? 1
    const hostKeys = options.hostKeys ?? [ed25519HostKey()]
    const served = new Set(hostKeys.flatMap((key) => [...key.algorithms]))
    const serverOffer = resolveOffer(serverCrypto, 'server', {
      ...options.serverAlgorithms,
      hostKeys: (options.serverAlgorithms?.hostKeys ?? [...served]).filter((name) => served.has(name)),
    })
    this.client = this.#side({
      role: 'client',
      crypto: clientCrypto,
      random: seededRandom(seed),
      now,
      identification: 'SSH-2.0-client',
      offer: resolveOffer(clientCrypto, 'client', options.clientAlgorithms),
      wake: () => {},
      ...options.client,
    })
    this.server = this.#side({
      role: 'server',
      crypto: serverCrypto,
      random: seededRandom(seed + 1000),
      now,
      identification: 'SSH-2.0-server',
      offer: serverOffer,
      hostKeys,
      extensions: new Map([
        ['server-sig-algs', 'ssh-ed25519,rsa-sha2-512,rsa-sha2-256,ecdsa-sha2-nistp256'],
        ['ping@openssh.com', '0'],
        ['publickey-hostbound@openssh.com', '0'],
      ]),
      serverAuth: (core, onReady) =>
        new ServerAuth(core.transport, {
          crypto: serverCrypto,
          proof: () => core.transport.proof!,
          verify: (algorithm, blob, data, signature) =>
            verifySignature(serverCrypto, parsePublicKey(blob), algorithm, data, signature),
          methods: ['publickey', 'password', 'keyboard-interactive'],
          algorithms: [
            'ssh-ed25519',
            'ecdsa-sha2-nistp256',
            'ecdsa-sha2-nistp384',
            'ecdsa-sha2-nistp521',
            'rsa-sha2-512',
            'rsa-sha2-256',
          ],
          onReady,
        }),
      wake: () => {},
      ...options.server,
    })
  }

  #side(options: SessionCoreOptions): Side {
    return { core: new SessionCore(options), events: [], names: [], sent: [] }
  }

  /** Hands `bytes` to a side, as one portion. */
  feed(side: Side, bytes: Uint8Array): void {
    const { buffer } = side.core.transport
    let at = 0
    while (at < bytes.length) {
      const into = buffer.reserve(1)
      const count = Math.min(into.length, bytes.length - at)
      into.set(bytes.subarray(at, at + count))
      buffer.commit(count)
      at += count
      this.drain(side)
    }
  }

  /** Takes events from a side and answers the usual questions. */
  drain(side: Side): void {
    for (let event = side.core.next(); event !== undefined; event = side.core.next()) {
      side.names.push(event.type)
      side.events.push(event)
      if (event.type === 'host-key' && this.#options.trust !== false) side.core.transport.trustHostKey()
      if (event.type === 'auth-request') side.core.answerAuth((this.#options.answer ?? letIn)(event.request))
      this.onEvent?.(side === this.client ? 'client' : 'server', event)
    }
  }

  /** What a side has to send, as one array; undefined for nothing. */
  take(side: Side): Uint8Array | undefined {
    const slab = side.core.take()
    if (slab === undefined) return undefined
    const copy = slab.slice()
    side.core.release(slab)
    side.sent.push(copy)
    return copy
  }

  /** Moves bytes both ways until both sides are quiet. `portion` cuts what is fed. */
  async settle(portion: (bytes: Uint8Array) => Uint8Array[] = (bytes) => [bytes]): Promise<void> {
    for (let idle = 0; idle < 3; ) {
      let moved = false
      for (const [from, to] of [
        [this.client, this.server],
        [this.server, this.client],
      ] as const) {
        this.drain(from)
        for (let bytes = this.take(from); bytes !== undefined; bytes = this.take(from)) {
          moved = true
          for (const part of portion(bytes)) this.feed(to, part)
        }
      }
      if (moved) {
        idle = 0
        continue
      }
      idle++
      // Asynchronous primitives settle in later turns: packets being opened or sealed, signatures being checked.
      const busy = (): boolean =>
        [this.client, this.server].some(
          ({ core: { transport, serverAuth } }) =>
            transport.busy || transport.pendingBytes > 0 || serverAuth?.parked === true,
        )
      await new Promise((resolve) => setTimeout(resolve, busy() ? 1 : 0))
      if (busy()) idle = 0
      if (this.client.core.transport.asksHostKey) break
    }
  }

  /** Handshake and authentication by 'none'. */
  async open(): Promise<this> {
    await this.settle()
    if (this.client.core.transport.failure !== undefined) throw this.client.core.transport.failure
    this.client.core.startAuth('user').none()
    await this.settle()
    return this
  }

  failure(side: 'client' | 'server'): SshError | undefined {
    return this[side].core.transport.failure
  }
}

let cached: Signer | undefined

export function ed25519HostKey(): Signer {
  cached ??= signerFromPrivateKey(nodeCrypto, generateKeyPair(nodeCrypto, 'ed25519', seededRandom(77)))
  return cached
}
