// Algorithm negotiation (RFC 4253 s7.1): a pure function of both KEXINITs.
// The client's order decides; each direction is negotiated on its own. Markers (ext-info, strict) ride in the kex list.

import type { NegotiationCategory } from '../errors.ts'
import { NegotiationError } from '../errors.ts'
import type { kexInit } from '../messages/kex.ts'
import { isAead } from '../packet/suites.ts'
import type { MessageOf } from '../wire/codec.ts'

export type KexInit = MessageOf<typeof kexInit>

/** OpenSSH PROTOCOL 1.10 "strict KEX"; RFC 8308 s2.1. */
export const strictMarker = {
  client: 'kex-strict-c-v00@openssh.com',
  server: 'kex-strict-s-v00@openssh.com',
} as const
export const extInfoMarker = { client: 'ext-info-c', server: 'ext-info-s' } as const

export interface DirectionAlgorithms {
  cipher: string
  /** undefined where the cipher carries its own tag. */
  mac: string | undefined
  compression: string
}

export interface Negotiated {
  kex: string
  hostKey: string
  clientToServer: DirectionAlgorithms
  serverToClient: DirectionAlgorithms
  /** Whether the packet that follows the peer's KEXINIT is a wrong guess, to be dropped. */
  dropGuess: boolean
}

/** Throws NegotiationError with both lists for the first category without a common name. */
export function negotiate(role: 'client' | 'server', ours: KexInit, theirs: KexInit): Negotiated {
  const client = role === 'client' ? ours : theirs
  const server = role === 'client' ? theirs : ours
  const choose = (category: NegotiationCategory, pick: (init: KexInit) => readonly string[]): string => {
    const offered = pick(server)
    const common = pick(client).find((name) => offered.includes(name))
    if (common === undefined)
      throw new NegotiationError(category, withoutMarkers(pick(ours)), withoutMarkers(pick(theirs)))
    return common
  }
  const kex = choose('kex', (init) => withoutMarkers(init.kexAlgorithms))
  const hostKey = choose('host key', (init) => init.hostKeyAlgorithms)
  const cipherClientToServer = choose('cipher client to server', (init) => init.ciphersClientToServer)
  const cipherServerToClient = choose('cipher server to client', (init) => init.ciphersServerToClient)
  return {
    kex,
    hostKey,
    clientToServer: {
      cipher: cipherClientToServer,
      // RFC 5647 s5.1 is unusable; OpenSSH's rule: an AEAD cipher ignores the MAC lists.
      mac: isAead(cipherClientToServer)
        ? undefined
        : choose('mac client to server', (init) => init.macsClientToServer),
      compression: choose('compression client to server', (init) => init.compressionClientToServer),
    },
    serverToClient: {
      cipher: cipherServerToClient,
      mac: isAead(cipherServerToClient)
        ? undefined
        : choose('mac server to client', (init) => init.macsServerToClient),
      compression: choose('compression server to client', (init) => init.compressionServerToClient),
    },
    // RFC 4253 s7: a guess is right when both sides' first kex and host key algorithms agree.
    dropGuess:
      theirs.firstKexPacketFollows &&
      (withoutMarkers(ours.kexAlgorithms)[0] !== withoutMarkers(theirs.kexAlgorithms)[0] ||
        ours.hostKeyAlgorithms[0] !== theirs.hostKeyAlgorithms[0]),
  }
}

function withoutMarkers(names: readonly string[]): readonly string[] {
  return names.filter((name) => !name.startsWith('kex-strict-') && !name.startsWith('ext-info-'))
}

/**
 * Whether what was negotiated can be attacked by prefix truncation (CVE-2023-48795) when the peer is not strict:
 * ChaCha20-Poly1305 and encrypt-then-MAC go on decrypting after a packet was cut out.
 */
export function isTerrapinProne(direction: DirectionAlgorithms): boolean {
  return (
    isTerrapinProneName(direction.cipher) ||
    (direction.mac !== undefined && isTerrapinProneName(direction.mac))
  )
}

export function isTerrapinProneName(name: string): boolean {
  return name === 'chacha20-poly1305@openssh.com' || name.endsWith('-etm@openssh.com')
}
