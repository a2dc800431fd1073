// Gives the memory of an ArrayBuffer back at once instead of at the next garbage collection. Node's ciphers return a fresh
// Buffer per call: at 32 KiB a packet the collector, told of 1 GiB a second outside its heap, would mark everything every
// 64 MiB, and every packet would be decrypted into memory that the processor's caches do not hold.
// Detaching is the one way to free early: by ArrayBuffer.prototype.transfer, or where the runtime has none yet (Node 20)
// by transferring to a port that is closed, which detaches and drops (HTML s9.4.4, message port post message steps).

import { MessageChannel, type MessagePort } from 'node:worker_threads'

/** Below this, freeing early costs more than it saves. */
const worthBytes = 4096

type Transferable = ArrayBuffer & { transfer?: (length: number) => ArrayBuffer }

let closedPort: MessagePort | undefined

function nowhere(): MessagePort {
  if (closedPort === undefined) {
    closedPort = new MessageChannel().port1
    closedPort.close()
  }
  return closedPort
}

/**
 * Frees what `bytes` lies in, where that is an ArrayBuffer of its own and large; all views of it have length 0 afterwards.
 * The caller must be the only holder.
 */
export function releaseMemory(bytes: Uint8Array): void {
  const buffer = bytes.buffer as Transferable
  if (bytes.length < worthBytes || buffer.byteLength !== bytes.length) return
  if (buffer.transfer !== undefined) buffer.transfer(0)
  else nowhere().postMessage(null, [buffer])
}
