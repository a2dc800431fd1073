// One end of a connection as a script sees it: bytes out in order, packets in when they are asked for.
// Pull, not push: a packet is cut and opened only when somebody waits for one, so a script can change the keys between two
// packets that came together. Owns the receive buffer, both directions' ciphers and the queue of writes.

import type { MaybePromise, RandomSource } from '../crypto/provider.ts'
import { maxIdentificationBytes, maxPreIdentificationBytes } from '../limits.ts'
import type { Opener, Sealer } from '../packet/cipher.ts'
import { Inbound } from '../packet/inbound.ts'
import { plaintextSuite } from '../packet/plaintext.ts'
import { ReceiveBuffer } from '../packet/receive-buffer.ts'
import type { ByteDuplex } from '../session/duplex.ts'
import { utf8Text } from '../wire/bytes.ts'
import type { Arrival } from './arrival.ts'
import { PacketWriter } from './packet-writer.ts'

const noKeys = { iv: new Uint8Array(0), key: new Uint8Array(0), macKey: new Uint8Array(0) }

/** A line before the first packet, and whether CR LF or LF ended it. */
export interface ArrivedLine {
  readonly kind: 'line'
  readonly text: string
  /** The bytes with their line end. */
  readonly raw: Uint8Array
}

export class WireEnd {
  readonly buffer: ReceiveBuffer = new ReceiveBuffer()
  readonly writer: PacketWriter
  readonly #duplex: ByteDuplex
  readonly #inbound: Inbound
  /** Writes that wait for their turn; one that is being sealed holds up those behind it. */
  readonly #outgoing: { bytes: Uint8Array | undefined }[] = []
  #writing = false
  #closeWanted = false
  /** Who waits for everything to be written. */
  #onFlushed: (() => void)[] = []
  #end: { cause: Error | undefined } | undefined
  #broken: Error | undefined
  /** Who waits for something to happen. */
  #waiting: (() => void) | undefined
  #closed = false

  constructor(duplex: ByteDuplex, random: RandomSource) {
    this.#duplex = duplex
    this.#inbound = new Inbound(this.buffer, plaintextSuite.opener(noKeys), () => this.#wake())
    this.writer = new PacketWriter(plaintextSuite.sealer(noKeys), random)
    this.#inbound.singleFile = true
    duplex.start({
      reserve: (min) => this.buffer.reserve(Math.max(min, 16_384)),
      commit: (count) => {
        this.buffer.commit(count)
        this.#wake()
      },
      end: (cause) => {
        this.#end ??= { cause }
        this.#tellFlushed()
        this.#wake()
      },
    })
  }

  /** Packets received so far under the current count: the sequence number of the next one. */
  get nextSequence(): number {
    return (this.#inbound.sequence + 1) >>> 0
  }

  /** Whether the peer closed the connection; bytes that came before may still wait. */
  get ended(): boolean {
    return this.#end !== undefined
  }

  #wake(): void {
    const waiting = this.#waiting
    this.#waiting = undefined
    waiting?.()
  }

  // --- out ---

  /** Appends bytes to what leaves, as they are. */
  write(bytes: MaybePromise<Uint8Array>): void {
    const slot: { bytes: Uint8Array | undefined } = { bytes: undefined }
    this.#outgoing.push(slot)
    if (bytes instanceof Uint8Array) {
      slot.bytes = bytes
      this.#flush()
      return
    }
    bytes.then(
      (sealed) => {
        slot.bytes = sealed
        this.#flush()
      },
      (error) => {
        this.#broken ??= error instanceof Error ? error : new Error(String(error))
        this.#wake()
      },
    )
  }

  #flush(): void {
    if (this.#writing || this.#closed) return
    let count = 0
    let length = 0
    for (const { bytes } of this.#outgoing) {
      if (bytes === undefined) break
      count++
      length += bytes.length
    }
    if (count === 0) {
      if (this.#outgoing.length > 0) return
      if (this.#closeWanted) this.#finish()
      this.#tellFlushed()
      return
    }
    // Everything that is ready leaves as one write, so that a script decides what comes together.
    const slab = new Uint8Array(length)
    let at = 0
    for (const { bytes } of this.#outgoing.splice(0, count)) {
      slab.set(bytes!, at)
      at += bytes!.length
    }
    this.#writing = true
    this.#duplex.write(slab, () => {
      this.#writing = false
      this.#flush()
    })
  }

  /** Resolves when the duplex has taken everything written so far, or the connection ended. */
  flushed(): Promise<void> {
    if ((!this.#writing && this.#outgoing.length === 0) || this.#end !== undefined) return Promise.resolve()
    return new Promise((resolve) => this.#onFlushed.push(resolve))
  }

  #tellFlushed(): void {
    const waiting = this.#onFlushed
    this.#onFlushed = []
    for (const resolve of waiting) resolve()
  }

  /** Closes the connection behind what was written. Idempotent. */
  close(): void {
    this.#closeWanted = true
    if (this.#end !== undefined) this.#finish()
    else this.#flush()
  }

  /** Closes at once; what waits is dropped. */
  abort(): void {
    this.#finish(true)
  }

  #finish(abort = false): void {
    if (this.#closed) return
    this.#closed = true
    this.#duplex.close(abort)
    this.#inbound.destroy()
    this.writer.destroy()
    this.#end ??= { cause: undefined }
    this.#tellFlushed()
    this.#wake()
  }

  // --- in ---

  /** The next line that ends in LF, before the first packet; 'end', 'broken' (too long) or 'silence' else. */
  async line(timeoutMs: number): Promise<ArrivedLine | Exclude<Arrival, { kind: 'message' }>> {
    const deadline = performance.now() + timeoutMs
    for (;;) {
      const held = this.buffer.bytes.subarray(this.buffer.start, this.buffer.end)
      const lineFeed = held.indexOf(10)
      if (lineFeed >= 0) {
        const raw = this.buffer.take(lineFeed + 1).slice()
        const bare = raw.length >= 2 && raw[raw.length - 2] === 13 ? raw.length - 2 : raw.length - 1
        return { kind: 'line', text: utf8Text(raw.subarray(0, bare)), raw }
      }
      if (held.length > maxPreIdentificationBytes)
        return { kind: 'broken', error: new Error(`a line of more than ${maxIdentificationBytes} bytes`) }
      const waited = await this.#wait(deadline, timeoutMs)
      if (waited !== undefined) return waited
    }
  }

  /** The next packet, or why there is none. */
  async next(timeoutMs: number): Promise<Arrival> {
    const deadline = performance.now() + timeoutMs
    for (;;) {
      const arrival = this.#cut()
      if (arrival !== undefined) return arrival
      const waited = await this.#wait(deadline, timeoutMs)
      if (waited !== undefined) return waited
    }
  }

  #cut(): Arrival | undefined {
    if (this.#broken !== undefined) return { kind: 'broken', error: this.#broken }
    if (this.#closed) return undefined
    try {
      const payload = this.#inbound.next()
      if (payload === undefined) return undefined
      const { sequence } = this.#inbound
      return { kind: 'message', number: payload[0]!, payload: payload.slice(), sequence }
    } catch (error) {
      this.#broken = error instanceof Error ? error : new Error(String(error))
      return { kind: 'broken', error: this.#broken }
    }
  }

  /** Waits for anything to happen; the reason to give up, or undefined to look again. */
  async #wait(
    deadline: number,
    timeoutMs: number,
  ): Promise<{ kind: 'end'; cause: Error | undefined } | { kind: 'silence'; ms: number } | undefined> {
    if (this.#end !== undefined && !this.#inbound.busy) return { kind: 'end', cause: this.#end.cause }
    const left = deadline - performance.now()
    if (left <= 0) return { kind: 'silence', ms: timeoutMs }
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, left)
      this.#waiting = () => {
        clearTimeout(timer)
        resolve()
      }
    })
    return undefined
  }

  /** Waits for the peer to close the connection, whatever it still sends; false where it does not within the time. */
  async ends(timeoutMs: number): Promise<boolean> {
    const deadline = performance.now() + timeoutMs
    while (this.#end === undefined) {
      this.buffer.take(this.buffer.length)
      const waited = await this.#wait(deadline, timeoutMs)
      if (waited !== undefined) break
    }
    return this.#end !== undefined
  }

  /** Puts new keys in force for what comes behind the peer's NEWKEYS. */
  activateInbound(opener: Opener, resetSequence: boolean): void {
    this.#inbound.activate(opener, resetSequence)
  }

  /** Puts new keys in force for what is written from now on. */
  activateOutbound(sealer: Sealer, resetSequence: boolean): void {
    this.writer.activate(sealer, resetSequence)
  }
}
