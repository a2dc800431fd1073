// Frames of the agent protocol: uint32 length, then that many bytes (RFC 9987, "Protocol Messages"). Sans-IO.
// A length is refused before anything is allocated or waited for. Frames handed out are copies.

import { AgentError } from '../errors.ts'
import { maxAgentMessageBytes } from '../limits.ts'
import { readU32, writeU32 } from '../wire/bytes.ts'

export class AgentFrameReader {
  #buffer = new Uint8Array(4096)
  #length = 0

  /** Bytes held that are not yet part of a frame handed out. */
  get pending(): number {
    return this.#length
  }

  /** Takes in bytes, which may be reused afterwards. */
  push(bytes: Uint8Array): void {
    const end = this.#length + bytes.length
    if (end > this.#buffer.length) {
      const grown = new Uint8Array(Math.max(end, 2 * this.#buffer.length))
      grown.set(this.#buffer.subarray(0, this.#length))
      this.#buffer = grown
    }
    this.#buffer.set(bytes, this.#length)
    this.#length = end
  }

  /**
   * The next whole message without its length field, or undefined where more bytes are needed.
   * @throws AgentError 'ERR_SSH_AGENT_PROTOCOL' where the length is 0 or above 262 144.
   */
  next(): Uint8Array | undefined {
    if (this.#length < 4) return undefined
    const length = readU32(this.#buffer, 0)
    if (length === 0 || length > maxAgentMessageBytes) {
      throw new AgentError(`an agent message of ${length} bytes; expected 1 to ${maxAgentMessageBytes}`, {
        code: 'ERR_SSH_AGENT_PROTOCOL',
      })
    }
    const end = 4 + length
    if (this.#length < end) return undefined
    const frame = this.#buffer.slice(4, end)
    this.#buffer.copyWithin(0, end, this.#length)
    this.#length -= end
    return frame
  }
}

/**
 * A message with its length field, as one new array.
 * @throws AgentError 'ERR_SSH_AGENT_PROTOCOL' where the message is longer than an agent takes.
 */
export function frameMessage(payload: Uint8Array): Uint8Array {
  if (payload.length > maxAgentMessageBytes) {
    throw new AgentError(`an agent message of ${payload.length} bytes; at most ${maxAgentMessageBytes}`, {
      code: 'ERR_SSH_AGENT_PROTOCOL',
    })
  }
  const frame = new Uint8Array(4 + payload.length)
  writeU32(frame, 0, payload.length)
  frame.set(payload, 4)
  return frame
}
