// The one gate that says which message is legal when, consulted before any message is parsed.
// Pure: a verdict is a function of role, phase and number. Rules cite their clause; the tests generate the whole table.

import * as number from '../messages/numbers.ts'

/** How far the connection has come. */
export type Layer =
  /** Before the first NEWKEYS. */
  | 'transport'
  /** Keys are in force; the authentication service was not accepted yet. */
  | 'service'
  | 'auth'
  | 'connection'

/** How far a key exchange has come. */
export type ExchangeStep =
  | 'idle'
  /** We sent KEXINIT and wait for the peer's. */
  | 'kexinit'
  /** Both KEXINITs are there: only the method's message may come. */
  | 'method'
  /** Our part is done: only NEWKEYS may come. */
  | 'newkeys'

export interface Phase {
  role: 'client' | 'server'
  layer: Layer
  exchange: ExchangeStep
  /** Strict key exchange is in force (OpenSSH PROTOCOL 1.10). */
  strict: boolean
  /** The next message is the first after the first NEWKEYS (RFC 8308 s2.4). */
  firstAfterNewKeys: boolean
  /** The last message was EXT_INFO that must be followed by USERAUTH_SUCCESS (RFC 8308 s2.4). */
  successMustFollow: boolean
}

export type Verdict =
  | 'accept'
  /** Legal but without effect here. */
  | 'ignore'
  /** Not known to us: answered with UNIMPLEMENTED (RFC 4253 s11.4). */
  | 'unimplemented'
  /** Ends the connection. */
  | 'violation'

export function verdict(phase: Phase, message: number): Verdict {
  if (message === number.DISCONNECT) return 'accept'
  if (phase.exchange === 'method' || phase.exchange === 'newkeys') return duringExchange(phase, message)
  if (phase.successMustFollow && message !== number.USERAUTH_SUCCESS) return 'violation'
  if (message === number.IGNORE || message === number.UNIMPLEMENTED || message === number.DEBUG)
    return 'accept'
  if (message === number.KEXINIT) return 'accept'
  if (phase.layer === 'transport') return 'violation'
  if (message === number.NEWKEYS || (message >= 30 && message <= 49)) return 'violation'
  // RFC 4253 s11.4: what nobody has assigned is answered, also in the range of algorithm negotiation (RFC 4250 s4.1.2).
  if (message >= 22 && message <= 29) return 'unimplemented'
  if (message === 0) return 'violation'
  if (message <= 19) return transportMessage(phase, message)
  if (message <= 79) return authMessage(phase, message)
  if (message <= 127) return connectionMessage(phase, message)
  if (message === number.PING || message === number.PONG)
    return phase.layer === 'connection' ? 'accept' : 'unimplemented'
  return 'unimplemented'
}

/** RFC 4253 s7.1: after KEXINIT only the exchange's own and transport generic messages; strict: not even these in the first exchange. */
function duringExchange(phase: Phase, message: number): Verdict {
  const expected =
    phase.exchange === 'newkeys'
      ? number.NEWKEYS
      : phase.role === 'client'
        ? number.KEX_REPLY
        : number.KEX_INIT
  if (message === expected) return 'accept'
  const generic = message === number.IGNORE || message === number.UNIMPLEMENTED || message === number.DEBUG
  if (generic && !(phase.strict && phase.layer === 'transport')) return 'accept'
  return 'violation'
}

function transportMessage(phase: Phase, message: number): Verdict {
  switch (message) {
    case number.SERVICE_REQUEST:
      // paramiko asks for the service again before each method, and OpenSSH answers every time.
      return phase.role === 'server' && (phase.layer === 'service' || phase.layer === 'auth')
        ? 'accept'
        : 'violation'
    case number.SERVICE_ACCEPT:
      return phase.role === 'client' && phase.layer === 'service' ? 'accept' : 'violation'
    case number.EXT_INFO:
      // RFC 8308 s2.4: first after NEWKEYS, or from the server right before USERAUTH_SUCCESS.
      if (phase.firstAfterNewKeys) return 'accept'
      return phase.role === 'client' && phase.layer === 'auth' ? 'accept' : 'violation'
    default:
      return 'unimplemented'
  }
}

function authMessage(phase: Phase, message: number): Verdict {
  if (phase.role === 'client') {
    if (phase.layer !== 'auth') return 'violation'
    const legal =
      message === number.USERAUTH_FAILURE ||
      message === number.USERAUTH_SUCCESS ||
      message === number.USERAUTH_BANNER ||
      message === number.USERAUTH_METHOD_60
    return legal ? 'accept' : 'violation'
  }
  if (message === number.USERAUTH_REQUEST) {
    if (phase.layer === 'auth') return 'accept'
    // RFC 4252 s5.1: requests after success are silently ignored.
    return phase.layer === 'connection' ? 'ignore' : 'violation'
  }
  return message === number.USERAUTH_INFO_RESPONSE && phase.layer === 'auth' ? 'accept' : 'violation'
}

function connectionMessage(phase: Phase, message: number): Verdict {
  if (phase.layer !== 'connection') return 'violation'
  const known =
    (message >= number.GLOBAL_REQUEST && message <= number.REQUEST_FAILURE) ||
    (message >= number.CHANNEL_OPEN && message <= number.CHANNEL_FAILURE)
  return known ? 'accept' : 'unimplemented'
}

/** What the connection is doing, in words for errors. */
export function phaseName(phase: Phase): string {
  if (phase.layer === 'transport') return 'key exchange'
  if (phase.exchange !== 'idle') return 'rekeying'
  switch (phase.layer) {
    case 'service':
    case 'auth':
      return 'authentication'
    case 'connection':
      return 'connection'
  }
}
