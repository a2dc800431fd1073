// A channel as a ByteDuplex, so that another SSH session can run over it: jump hosts (RFC 4254 s7.2).

import type { ByteDuplex, ByteSink } from './duplex.ts'
import type { SessionChannel } from './session-channel.ts'

/** Takes the channel over. Back-pressure reaches both ends. */
export function channelDuplex(channel: SessionChannel): ByteDuplex {
  let waiting: (() => void) | undefined
  let ended = false
  const room = (): void => {
    if (channel.queuedBytes > 0) return
    const done = waiting
    waiting = undefined
    done?.()
  }
  return {
    description: channel.description,
    start(sink: ByteSink) {
      const end = (cause?: Error): void => {
        if (ended) return
        ended = true
        sink.end(cause)
      }
      channel.start({
        data: (view) => {
          let at = 0
          while (at < view.length) {
            const into = sink.reserve(1)
            const count = Math.min(into.length, view.length - at)
            into.set(view.subarray(at, at + count))
            at += count
            sink.commit(count)
          }
        },
        writable: room,
        end: () => end(),
        closed: (cause) => end(cause),
      })
    },
    write(slab, done) {
      waiting = done
      channel.write(slab)
      // The channel copied the slab, so it may be given back at once unless the peer's window is full.
      if (channel.queuedBytes === 0) queueMicrotask(room)
      else void channel.writableBytes
    },
    pause: () => channel.pause(),
    resume: () => channel.resume(),
    close: () => channel.close(),
  }
}
