// Where bytes from the peer land. The duplex writes into `reserve()`'s tail, packets are taken from the front as views,
// and what is left (at most one partial packet) moves to the front when the tail gets short.
// Views of consumed packets stay valid until the next `reserve`.

const initialCapacity = 64 * 1024
/** Large enough that one read of the socket can bring what the kernel holds. */
const busyCapacity = 1024 * 1024

export class ReceiveBuffer {
  bytes: Uint8Array = new Uint8Array(initialCapacity)
  /** First byte not yet consumed. */
  start = 0
  /** One past the last byte received. */
  end = 0
  /** Bytes received since the start of the connection. */
  totalBytes = 0

  /** Bytes received and not consumed. */
  get length(): number {
    return this.end - this.start
  }

  /** The tail, at least `min` bytes: where the next bytes go. Moves or enlarges the buffer where it is short. */
  reserve(min: number): Uint8Array {
    if (this.start === this.end) this.start = this.end = 0
    if (this.bytes.length - this.end < min) {
      const held = this.end - this.start
      if (held + min > this.bytes.length) {
        const grown = new Uint8Array(Math.max(held + min, Math.min(2 * this.bytes.length, busyCapacity)))
        grown.set(this.bytes.subarray(this.start, this.end))
        this.bytes = grown
      } else {
        this.bytes.copyWithin(0, this.start, this.end)
      }
      this.start = 0
      this.end = held
    }
    return this.bytes.subarray(this.end)
  }

  commit(count: number): void {
    if (count > this.bytes.length - this.end)
      throw new RangeError(`commit of ${count} bytes, ${this.bytes.length - this.end} were reserved`)
    this.end += count
    this.totalBytes += count
    // A read that filled what it was given says that more is waiting: give the next one more room.
    if (this.end === this.bytes.length && this.bytes.length < busyCapacity && this.start < this.end) {
      const grown = new Uint8Array(busyCapacity)
      grown.set(this.bytes.subarray(this.start, this.end))
      this.end -= this.start
      this.start = 0
      this.bytes = grown
    }
  }

  /** Takes `count` bytes from the front as a view. */
  take(count: number): Uint8Array {
    const view = this.bytes.subarray(this.start, this.start + count)
    this.start += count
    return view
  }
}
