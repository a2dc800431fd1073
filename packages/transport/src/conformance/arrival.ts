// What came from the peer under test, as values and in words. The words are what a report prints, so they are short, hold
// nothing that changes from run to run (no cookies, ports or times), and show the peer's text only quoted and capped.

import { quote, SshError, safeText } from '../errors.ts'
import {
  channelData,
  channelExtendedData,
  channelOpen,
  channelOpenFailure,
  channelRequest,
  globalRequest,
} from '../messages/connection.ts'
import * as number from '../messages/numbers.ts'
import { disconnect, unimplemented } from '../messages/transport.ts'
import { userauthFailure } from '../messages/userauth.ts'
import type { Fields, Message, ValueOf } from '../wire/codec.ts'

/** A message of the peer. */
export interface ArrivedMessage {
  readonly kind: 'message'
  /** Its message number. */
  readonly number: number
  /** The whole payload, number included; a copy that is the receiver's. */
  readonly payload: Uint8Array
  /** The sequence number of the packet that brought it (RFC 4253 s6.4). */
  readonly sequence: number
}

/** What can happen while one waits for the peer. */
export type Arrival =
  | ArrivedMessage
  /** The peer closed the connection, or it broke. */
  | { readonly kind: 'end'; readonly cause: Error | undefined }
  /** A packet that cannot be read: a length, padding or integrity check failed. Nothing can be read after it. */
  | { readonly kind: 'broken'; readonly error: Error }
  /** Nothing for that long. */
  | { readonly kind: 'silence'; readonly ms: number }

/** Something else came than was to come. In a check it is the reason for "fail". */
export class Unexpected extends SshError {
  /** What was to come, in words. */
  readonly expected: string
  /** What came instead, in words. */
  readonly came: string

  constructor(expected: string, came: string) {
    super('ERR_CONFORMANCE_UNEXPECTED', `expected ${expected}, but there came ${came}`)
    this.expected = expected
    this.came = came
  }
}

/** The check cannot be made with this peer: it lacks something that its clause makes optional. */
export class NotApplicable extends SshError {
  constructor(why: string) {
    super('ERR_CONFORMANCE_NOT_APPLICABLE', why)
  }
}

/** Decodes a message; one that is not what its declaration says is the peer's fault. @throws Unexpected */
export function decodeArrived<F extends Fields>(message: Message<F>, arrived: ArrivedMessage): ValueOf<F> {
  try {
    return message.decode(arrived.payload)
  } catch (error) {
    throw new Unexpected(
      `a well-formed ${message.name}`,
      `one with ${error instanceof Error ? error.message : 'errors'}`,
    )
  }
}

/** An arrival in a few words: 'DISCONNECT 2 "Protocol error"', 'CHANNEL_DATA (94) with 12 bytes', 'end of connection'. */
export function describeArrival(arrival: Arrival): string {
  switch (arrival.kind) {
    case 'message':
      return describeMessage(arrival)
    case 'end':
      return arrival.cause === undefined ? 'end of connection' : 'connection reset'
    case 'broken':
      return `a packet that cannot be read: ${safeText(arrival.error.message, 160)}`
    case 'silence':
      return `nothing for ${Math.round(arrival.ms)} ms`
  }
}

function describeMessage({ number: type, payload }: ArrivedMessage): string {
  const name = number.messageName(type).replace(/ \(\d+\)$/, '')
  try {
    switch (type) {
      case number.DISCONNECT: {
        const { reason, description } = disconnect.decode(payload)
        return `${name} ${reason} ${quote(description, 80)}`
      }
      case number.UNIMPLEMENTED:
        return `${name} of packet ${unimplemented.decode(payload).sequence}`
      case number.USERAUTH_FAILURE:
        return `${name} (${safeText(userauthFailure.decode(payload).methods.join(','), 80)})`
      case number.CHANNEL_DATA:
        return `${name} with ${channelData.decode(payload).data.length} bytes`
      case number.CHANNEL_EXTENDED_DATA:
        return `${name} with ${channelExtendedData.decode(payload).data.length} bytes`
      case number.CHANNEL_OPEN:
        return `${name} ${quote(channelOpen.decode(payload).channelType, 40)}`
      case number.CHANNEL_OPEN_FAILURE:
        return `${name} ${channelOpenFailure.decode(payload).reason}`
      case number.CHANNEL_REQUEST:
        return `${name} ${quote(channelRequest.decode(payload).request, 40)}`
      case number.GLOBAL_REQUEST:
        return `${name} ${quote(globalRequest.decode(payload).request, 40)}`
      default:
        return name
    }
  } catch {
    return `malformed ${name}`
  }
}
