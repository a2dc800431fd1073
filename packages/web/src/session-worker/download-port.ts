// The bytes of a download from one worker to another: a sink at one end of a port, a stream at the other. Unlike a stream that
// is transferred, an end by error overtakes nobody's back-pressure, an end that vanishes is noticed where the browser tells of
// closed ports, and chunks move instead of being copied.
//
// The reader grants bytes; the writer goes on while it has some left, so that a chunk may be larger than what was granted.

import { AbortedError } from '@sshblock/transport/errors'

/** What is used of a MessagePort; the DOM types lack its 'close' event. */
export interface DownloadPort {
  postMessage(message: unknown, transfer: Transferable[]): void
  addEventListener(type: 'message', listener: (event: { data: unknown }) => void): void
  addEventListener(type: 'close', listener: () => void): void
  start(): void
  close(): void
}

type ToReader =
  | { readonly type: 'chunk'; readonly bytes: Uint8Array<ArrayBuffer> }
  | { readonly type: 'end' }
  | { readonly type: 'failed'; readonly message: string }

type ToWriter =
  | { readonly type: 'more'; readonly bytes: number }
  | { readonly type: 'cancelled'; readonly message: string }

/** Bytes on their way and not yet read. */
const windowBytes = 1024 * 1024

/**
 * A sink whose bytes the other end reads. Chunks are copied, once.
 * @throws (its writes) AbortedError where the reader cancelled, or is gone
 */
export function sinkInto(port: DownloadPort): WritableStream<Uint8Array> {
  const send = (message: ToReader, transfer: Transferable[] = []): void => port.postMessage(message, transfer)
  let granted = 0
  let goOn = (): void => {}
  return new WritableStream<Uint8Array>({
    start(controller) {
      const stop = (reason: string): void => {
        controller.error(new AbortedError('the download', new Error(reason)))
        goOn()
      }
      port.addEventListener('message', ({ data }) => {
        const message = data as ToWriter
        if (message.type === 'cancelled') {
          stop(message.message)
          return
        }
        granted += message.bytes
        if (granted > 0) goOn()
      })
      port.addEventListener('close', () => stop('the browser ended it'))
      port.start()
      // A sink is not told of its end before a write that waits.
      controller.signal.addEventListener('abort', () => goOn())
    },
    async write(chunk, { signal }) {
      if (granted <= 0)
        await new Promise<void>((resolve) => {
          goOn = resolve
        })
      if (signal.aborted) return
      // Not slice, which for subclasses may be a view.
      const bytes = new Uint8Array(chunk)
      granted -= bytes.length
      send({ type: 'chunk', bytes }, [bytes.buffer])
    },
    close() {
      send({ type: 'end' })
      port.close()
    },
    abort(reason) {
      send({ type: 'failed', message: String(reason) })
      port.close()
    },
  })
}

/** The stream of what the other end's sink is given; it fails where the sink was aborted, or vanished. */
export function streamFrom(port: DownloadPort): ReadableStream<Uint8Array<ArrayBuffer>> {
  const send = (message: ToWriter): void => port.postMessage(message, [])
  /** Granted and not yet arrived; negative after a chunk that was larger. */
  let outstanding = 0
  let isOver = false
  return new ReadableStream<Uint8Array<ArrayBuffer>>(
    {
      start(controller) {
        const over = (how: () => void): void => {
          if (isOver) return
          isOver = true
          how()
          port.close()
        }
        port.addEventListener('message', ({ data }) => {
          const message = data as ToReader
          if (isOver) return
          if (message.type === 'chunk') {
            outstanding -= message.bytes.length
            controller.enqueue(message.bytes)
          } else if (message.type === 'end') over(() => controller.close())
          else over(() => controller.error(new Error(message.message)))
        })
        port.addEventListener('close', () =>
          over(() => controller.error(new Error('whoever sent this is gone'))),
        )
        port.start()
      },
      pull(controller) {
        const bytes = (controller.desiredSize ?? 0) - outstanding
        // Few messages: a quarter of the window at least.
        if (bytes < windowBytes / 4 && outstanding > 0) return
        outstanding += bytes
        send({ type: 'more', bytes })
      },
      cancel(reason) {
        isOver = true
        send({ type: 'cancelled', message: String(reason) })
        port.close()
      },
    },
    new ByteLengthQueuingStrategy({ highWaterMark: windowBytes }),
  )
}
