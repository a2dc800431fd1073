// Two byte channels in memory, each the other's peer: an SFTP client and server in one program, without SSH.
// Behaves like an SSH channel: a window per direction, credit given back when the receiver's `data` returns and withheld
// while it is paused, bytes in order, end and close behind them. Delivery never happens inside `write`.

import type { ByteChannel, ByteReceiver } from '@sshblock/transport/byte-channel'

export interface ChannelPairOptions {
  /** Bytes under way in one direction before the writer must wait. Default 2 MiB, as OpenSSH. */
  readonly windowBytes?: number
  /** Bytes in one `data` call. Default 32 KiB, as OpenSSH's packets. */
  readonly maxPacketBytes?: number
}

/** Deliveries one behind the other before the event loop gets its turn. */
const deliveriesPerTurn = 256

class PairEnd implements ByteChannel {
  readonly description = 'in memory'
  peer!: PairEnd
  readonly #windowBytes: number
  readonly #maxPacketBytes: number
  /** What the peer may still be sent. */
  #credit: number
  /** Credit that the peer has consumed and withholds. */
  #withheld = 0
  #queue: Uint8Array[] = []
  /** Index of the first element that is not delivered in full. */
  #head = 0
  #queuedBytes = 0
  /** Bytes of the first element of the queue that are delivered. */
  #delivered = 0
  /** The writer saw, or used up, less room than there can be: it may wait for `writable`. */
  #isWanting = false
  #receiver: ByteReceiver | undefined
  #isPaused = false
  #ended = false
  #endDelivered = false
  #isClosing = false
  #isClosed = false
  #isScheduled = false

  constructor(windowBytes: number, maxPacketBytes: number) {
    this.#windowBytes = windowBytes
    this.#credit = windowBytes
    this.#maxPacketBytes = maxPacketBytes
  }

  start(receiver: ByteReceiver): void {
    this.#receiver = receiver
    this.peer.#schedule()
    this.#schedule()
  }

  get writableBytes(): number {
    if (this.#isClosing || this.#ended) return 0
    const room = Math.max(0, this.#credit - this.#queuedBytes)
    if (room < this.#windowBytes) this.#isWanting = true
    return room
  }

  write(bytes: Uint8Array): void {
    if (this.#isClosing || this.#ended || bytes.length === 0) return
    this.#queue.push(bytes.slice())
    this.#queuedBytes += bytes.length
    if (this.#queuedBytes >= this.#credit) this.#isWanting = true
    this.#schedule()
  }

  pause(): void {
    this.#isPaused = true
  }

  resume(): void {
    if (!this.#isPaused) return
    this.#isPaused = false
    const credit = this.#withheld
    this.#withheld = 0
    this.peer.#grant(credit)
  }

  end(): void {
    this.#ended = true
    this.#schedule()
  }

  close(): void {
    if (this.#isClosing) return
    this.#isClosing = true
    this.#schedule()
  }

  #grant(credit: number): void {
    this.#credit += credit
    this.#schedule()
  }

  #schedule(): void {
    if (this.#isScheduled || this.#isClosed) return
    this.#isScheduled = true
    const run = () => {
      this.#isScheduled = false
      this.#run()
    }
    turn.deliveries++
    if (turn.deliveries % deliveriesPerTurn === 0) setTimeout(run, 0)
    else queueMicrotask(run)
  }

  /** Brings this end's output to the peer, one packet at a time. */
  #run(): void {
    if (this.#isClosed) return
    const receiver = this.peer.#receiver
    const first = this.#queue[this.#head]
    if (first !== undefined && receiver !== undefined && this.#credit > 0) {
      this.#deliver(receiver, first)
      this.#schedule()
    } else if (first === undefined && this.#ended && !this.#endDelivered && receiver !== undefined) {
      this.#endDelivered = true
      receiver.end()
      this.#schedule()
    } else if (this.#isClosing) {
      // As CLOSE: what the peer gave no credit for is lost.
      this.#closed()
      this.peer.#closed()
    } else if (this.#isWanting && this.#credit > this.#queuedBytes) {
      this.#isWanting = false
      this.#receiver?.writable()
    }
  }

  #deliver(receiver: ByteReceiver, first: Uint8Array): void {
    const count = Math.min(first.length - this.#delivered, this.#credit, this.#maxPacketBytes)
    const view = first.subarray(this.#delivered, this.#delivered + count)
    this.#delivered += count
    if (this.#delivered === first.length) {
      this.#delivered = 0
      if (++this.#head >= 1024 || this.#head === this.#queue.length) {
        this.#queue = this.#queue.slice(this.#head)
        this.#head = 0
      }
    }
    this.#credit -= count
    this.#queuedBytes -= count
    const { peer } = this
    if (peer.#isClosing) {
      this.#credit += count
      return
    }
    receiver.data(view)
    if (peer.#isPaused) peer.#withheld += count
    else this.#credit += count
  }

  #closed(): void {
    if (this.#isClosed) return
    this.#isClosed = this.#isClosing = true
    this.#queue.length = this.#head = this.#queuedBytes = 0
    this.#receiver?.closed()
  }
}

/** Shared, so that two ends that answer each other for ever still let others in. */
const turn = { deliveries: 0 }

/** Two connected channels. */
export function channelPair(options: ChannelPairOptions = {}): [ByteChannel, ByteChannel] {
  const { windowBytes = 2 * 1024 * 1024, maxPacketBytes = 32_768 } = options
  const one = new PairEnd(windowBytes, maxPacketBytes)
  const other = new PairEnd(windowBytes, maxPacketBytes)
  one.peer = other
  other.peer = one
  return [one, other]
}
