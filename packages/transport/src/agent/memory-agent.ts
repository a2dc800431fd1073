// A small agent that lives in this process: for tests, and for pages that hold keys in memory and want to forward them.
// It knows identities, signatures, adding with lifetime and confirmation, removal, locking and session-bind. A constraint
// that it does not know makes it refuse the key (RFC 9987, "Key Constraints"), destination constraints included.

import type { CryptoProvider, MaybePromise } from '../crypto/provider.ts'
import { AgentError, UsageError } from '../errors.ts'
import { type Certificate, certifies, parseCertificate } from '../keys/certificate.ts'
import { whenReady } from '../keys/maybe-promise.ts'
import { type PrivateKey, type SoftwarePrivateKey, wipePrivateKey } from '../keys/private-key.ts'
import { readPrivateKeyFields } from '../keys/private-key-fields.ts'
import { isCertificateType, parsePublicKey, peekKeyType } from '../keys/public-key.ts'
import { parseSignature, signWith, verifySignature } from '../keys/signature.ts'
import { signatureAlgorithm, signatureAlgorithmsFor } from '../keys/signature-algorithms.ts'
import { agentSignFlags } from '../keys/signer.ts'
import { maxAgentIdentities } from '../limits.ts'
import { equalBytes } from '../wire/bytes.ts'
import { decodeFields } from '../wire/codec.ts'
import { Reader } from '../wire/reader.ts'
import { Writer } from '../wire/writer.ts'
import { readConstraints } from './constraints.ts'
import * as messages from './messages.ts'
import type { AgentHandler } from './server.ts'

export interface MemoryAgentOptions {
  crypto: CryptoProvider
  /** Milliseconds, for lifetimes; Date.now. */
  now?: () => number
  /** Asked before each signature with a key that was added with `confirm`; without it such keys are refused. */
  confirm?: (identity: { keyBlob: Uint8Array; comment: string }) => MaybePromise<boolean>
}

interface StoredIdentity {
  readonly keyBlob: Uint8Array
  readonly keyType: string
  readonly key: SoftwarePrivateKey
  readonly comment: string
  readonly confirm: boolean
  /** When it is forgotten, on the agent's clock. */
  readonly expires: number
}

interface Binding {
  hostKey: Uint8Array
  sessionId: Uint8Array
  forwarding: boolean
}

/** As OpenSSH's AGENT_MAX_SESSION_IDS. */
const maxBindings = 16
const number = messages.agentMessageNumbers
const failureReply = () => messages.failure.bytes({})
const successReply = () => messages.success.bytes({})

export class MemoryAgent {
  readonly #crypto: CryptoProvider
  readonly #now: () => number
  readonly #confirm: MemoryAgentOptions['confirm']
  #identities: StoredIdentity[] = []
  #lockedWith: Uint8Array | undefined

  constructor(options: MemoryAgentOptions) {
    this.#crypto = options.crypto
    this.#now = options.now ?? Date.now
    this.#confirm = options.confirm
  }

  /**
   * Adds a key, replacing one with the same blob. The agent keeps the key itself, not a copy.
   * @throws UsageError for security keys and where `confirm` is asked for but the agent has nobody to ask; AgentError where
   *   there are too many.
   */
  add(
    key: PrivateKey,
    options: {
      certificate?: Certificate
      comment?: string
      lifetimeSeconds?: number
      confirm?: boolean
    } = {},
  ): void {
    const { certificate, lifetimeSeconds } = options
    if (key.kind === 'security-key') throw new UsageError('this agent has no security keys')
    if (options.confirm === true && this.#confirm === undefined)
      throw new UsageError('this agent cannot ask for confirmation')
    if (certificate !== undefined && !certifies(certificate, key.publicKey)) {
      throw new UsageError('the certificate is not one of this private key')
    }
    const shown = certificate ?? key.publicKey
    const others = this.#identities.filter(({ keyBlob }) => !equalBytes(keyBlob, shown.blob))
    if (others.length >= maxAgentIdentities)
      throw new AgentError(`the agent holds ${maxAgentIdentities} identities already`)
    others.push({
      keyBlob: shown.blob,
      keyType: shown.type,
      key,
      comment: options.comment ?? key.comment,
      confirm: options.confirm === true,
      expires:
        lifetimeSeconds === undefined ? Number.POSITIVE_INFINITY : this.#now() + 1000 * lifetimeSeconds,
    })
    this.#identities = others
  }

  /** A handler for one connection: session bindings belong to a connection. */
  connection(): AgentHandler {
    const bindings: Binding[] = []
    return (request) => this.#handle(request, bindings)
  }

  /** Wipes all keys. */
  destroy(): void {
    this.#forget(() => true)
    this.#lockedWith?.fill(0)
  }

  #handle(request: Uint8Array, bindings: Binding[]): MaybePromise<Uint8Array> {
    this.#forget((identity) => identity.expires <= this.#now())
    const type = request[0]
    if (this.#lockedWith !== undefined && type !== number.unlock) {
      return type === number.requestIdentities
        ? messages.identitiesAnswer.bytes({ identities: [] })
        : failureReply()
    }
    // A connection bound to a forwarding belongs to a remote host: it may use keys, not manage them.
    const remote = bindings.some(({ forwarding }) => forwarding)
    switch (type) {
      case number.requestIdentities:
        messages.requestIdentities.decode(request)
        return messages.identitiesAnswer.bytes({ identities: this.#identities })
      case number.signRequest:
        return this.#sign(request)
      case number.extension:
        return this.#extension(request, bindings)
      default:
        return remote ? failureReply() : this.#manage(request)
    }
  }

  #manage(request: Uint8Array): Uint8Array {
    switch (request[0]) {
      case number.addIdentity:
        return this.#addFrom(messages.addIdentity.decode(request).key, false)
      case number.addIdentityConstrained:
        return this.#addFrom(messages.addIdentityConstrained.decode(request).key, true)
      case number.removeIdentity: {
        const { keyBlob } = messages.removeIdentity.decode(request)
        return this.#forget((identity) => equalBytes(identity.keyBlob, keyBlob)) > 0
          ? successReply()
          : failureReply()
      }
      case number.removeAllIdentities:
        messages.removeAllIdentities.decode(request)
        this.#forget(() => true)
        return successReply()
      case number.lock: {
        const { passphrase } = messages.lock.decode(request)
        this.#lockedWith = passphrase.slice()
        return successReply()
      }
      case number.unlock: {
        const { passphrase } = messages.unlock.decode(request)
        if (this.#lockedWith === undefined || !this.#crypto.timingSafeEqual(passphrase, this.#lockedWith))
          return failureReply()
        this.#lockedWith.fill(0)
        this.#lockedWith = undefined
        return successReply()
      }
      default:
        return failureReply()
    }
  }

  #addFrom(fields: Uint8Array, constrained: boolean): Uint8Array {
    const reader = new Reader(fields)
    const { key, certificate } = readPrivateKeyFields(reader)
    const comment = reader.text()
    if (!constrained) reader.expectEnd()
    this.add(key, {
      ...readConstraints(reader),
      comment,
      ...(certificate === undefined ? {} : { certificate }),
    })
    return successReply()
  }

  #sign(request: Uint8Array): MaybePromise<Uint8Array> {
    const { keyBlob, data, flags } = messages.signRequest.decode(request)
    const identity = this.#identities.find((candidate) => equalBytes(candidate.keyBlob, keyBlob))
    if (identity === undefined) return failureReply()
    const algorithm = signatureAlgorithmsFor(identity.keyType).find(
      (name) => (agentSignFlags.get(signatureAlgorithm(name)!.signatureName) ?? 0) === flags,
    )
    if (algorithm === undefined) return failureReply()
    // The request's bytes are the caller's again once this returns a promise.
    const own = data.slice()
    const { comment } = identity
    const allowed = identity.confirm ? this.#confirm!({ keyBlob: identity.keyBlob, comment }) : true
    return whenReady(allowed, (yes) => {
      if (!yes) return failureReply()
      return whenReady(signWith(this.#crypto, identity.key, algorithm, own), (signature) =>
        messages.signResponse.bytes({ signature }),
      )
    })
  }

  #extension(request: Uint8Array, bindings: Binding[]): MaybePromise<Uint8Array> {
    const { name, contents } = messages.extension.decode(request)
    if (name === messages.sessionBindName) {
      return whenReady(this.#bind(contents, bindings), (bound) => (bound ? successReply() : failureReply()))
    }
    if (name === messages.queryName) {
      const names = new Writer().text(messages.queryName).text(messages.sessionBindName)
      return messages.extensionResponse.bytes({ name: messages.queryName, contents: names.bytes() })
    }
    return failureReply()
  }

  /** OpenSSH PROTOCOL.agent section 1: the signature proves that the session is one with the holder of that host key. */
  #bind(contents: Uint8Array, bindings: Binding[]): MaybePromise<boolean> {
    const fields = decodeFields('session-bind', messages.sessionBindFields, contents)
    const hostKey = fields.hostKey.slice()
    const sessionId = fields.sessionId.slice()
    const key = isCertificateType(peekKeyType(hostKey)) ? parseCertificate(hostKey) : parsePublicKey(hostKey)
    const { name } = parseSignature(fields.signature)
    const algorithm = signatureAlgorithmsFor(key.type).find(
      (candidate) => signatureAlgorithm(candidate)!.signatureName === name,
    )
    if (algorithm === undefined) return false
    return whenReady(verifySignature(this.#crypto, key, algorithm, sessionId, fields.signature), (good) => {
      // A connection bound for logging in is bound for good; one session has one host key.
      if (!good || bindings.some(({ forwarding }) => !forwarding)) return false
      const same = bindings.find((binding) => equalBytes(binding.sessionId, sessionId))
      if (same !== undefined) return equalBytes(same.hostKey, hostKey)
      if (bindings.length >= maxBindings) return false
      bindings.push({ hostKey, sessionId, forwarding: fields.forwarding })
      return true
    })
  }

  /** Wipes and drops identities; returns how many. */
  #forget(which: (identity: StoredIdentity) => boolean): number {
    const gone = this.#identities.filter(which)
    if (gone.length === 0) return 0
    this.#identities = this.#identities.filter((identity) => !gone.includes(identity))
    for (const { key } of gone) {
      if (!this.#identities.some((identity) => identity.key === key)) wipePrivateKey(key)
    }
    return gone.length
  }
}
