// Session channels that are asked for right behind the request that should let us in, a round trip before the server has said
// that it does. RFC 4252 s6 makes a server hang up on that; OpenSSH's answers what came too early with UNIMPLEMENTED and
// goes on (dispatch.c, dispatch_protocol_error), takes packets strictly one after another, and hands what it has read on to
// the process that serves the session (packet.c, ssh_packet_get_state). So only servers that say to be OpenSSH are asked.
// Owns the openings that nobody has taken yet. The decision when to ask is session/authenticate.ts's.

import type { Channel } from '../connection/channel.ts'
import type { Mux } from '../connection/mux.ts'

/** Identification of OpenSSH's own server. Not 'OpenSSH_for_Windows', whose processes hand a connection on in their own way. */
const bearsEarlyChannels = /^SSH-2\.0-OpenSSH_\d/

/** How many channels, or how many from the time that the server took to answer the key exchange, in milliseconds. */
export type EarlyChannelCount = number | ((roundTripMs: number) => number)

interface Opening {
  localId: number
  /** Undefined while the server has not answered. */
  result: Channel | Error | undefined
  taker: ((result: Channel | Error) => void) | undefined
}

export class EarlyChannels {
  readonly #mux: Mux
  readonly #count: EarlyChannelCount
  #openings: Opening[] = []
  /** Asked, and nothing has come since that a server says only after it has passed over what was asked. */
  #inDoubt = false

  constructor(mux: Mux, count: EarlyChannelCount) {
    this.#mux = mux
    this.#count = count
  }

  /** Whether the connection is at a point where a server that does not bear early channels would end it. */
  get inDoubt(): boolean {
    return this.#inDoubt
  }

  /** Asks for the channels; to be called right behind the request that should let us in. */
  ask(theirIdentification: string | undefined): void {
    if (this.#openings.length > 0 || !bearsEarlyChannels.test(theirIdentification ?? '')) return
    const count = typeof this.#count === 'number' ? this.#count : this.#count(this.#mux.roundTripMs ?? 0)
    for (let i = 0; i < count; i++) {
      const opening: Opening = { localId: -1, result: undefined, taker: undefined }
      opening.localId = this.#mux.open(
        'session',
        new Uint8Array(0),
        (result) => {
          opening.result = result
          opening.taker?.(result)
        },
        { early: true },
      )
      this.#openings.push(opening)
    }
    this.#inDoubt = this.#openings.length > 0
  }

  /** The server let us in: what was asked for will be answered. */
  confirm(): void {
    this.#inDoubt = false
  }

  /** The server said something else than success: what was asked for will never be answered. */
  withdraw(): void {
    // The first such answer was given before the server came to what was asked.
    this.#inDoubt = this.#openings.length > 0
    for (const { localId } of this.#openings) this.#mux.withdraw(localId)
    this.#openings = []
  }

  /**
   * Gives a channel to somebody who wants one: `taker` is called once, now or when the server has answered. False where there is
   * none left; those that were refused or closed meanwhile are not given out.
   */
  take(taker: (result: Channel | Error) => void): boolean {
    for (let next = this.#openings.shift(); next !== undefined; next = this.#openings.shift()) {
      const { result } = next
      if (result === undefined) {
        next.taker = taker
        return true
      }
      if (result instanceof Error || result.state !== 'open' || result.closeReceived) continue
      taker(result)
      return true
    }
    return false
  }
}
