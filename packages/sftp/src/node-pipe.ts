// A ByteChannel over a pair of Node streams: the pipe to an `sftp-server` process, or any two streams.
// Bytes written in one turn are gathered in one slab and leave in one write. The slabs are the channel's; a slab is used
// again when the stream has let go of it.

import { type ChildProcess, spawn } from 'node:child_process'
import type { Readable, Writable } from 'node:stream'
import type { ByteChannel, ByteReceiver } from '@sshblock/transport/byte-channel'
import { ChannelClosedError, UsageError } from '@sshblock/transport/errors'

export interface PipeOptions {
  /** Called once both streams are destroyed: by close(), or where end() came before it, when all was sent or a second has passed. */
  onClose?: () => void
  /** Unsent bytes above which `writableBytes` is 0; default 1 MiB. */
  highWaterBytes?: number
  /** For people. */
  description?: string
}

const slabBytes = 128 * 1024
/** How long last words are waited for when the other side stopped listening. */
const brokenPipeMs = 1000
/** How long the other side may take for what was written before the end, when the channel is closed. */
const lastBytesMs = 1000
/** Slabs kept for reuse. */
const keptSlabs = 8

class PipeChannel implements ByteChannel {
  readonly description: string
  readonly #readable: Readable
  readonly #writable: Writable
  readonly #highWaterBytes: number
  readonly #onClose: (() => void) | undefined
  #receiver: ByteReceiver | undefined
  #slab: Uint8Array | undefined
  #slabLength = 0
  readonly #spare: Uint8Array[] = []
  /** Bytes in slabs that the stream has not let go of, and in the slab being filled. */
  #unsent = 0
  /** Whether someone was told, or will find, that there is too little room. */
  #wanting = false
  #scheduled = false
  #ending = false
  #closed = false
  /** Nothing more is written, and `onClose` was called. */
  #isLetGo = false
  #ended = false
  #cause: Error | undefined
  readonly #flush = (): void => this.#writeSlab()

  constructor(readable: Readable, writable: Writable, options: PipeOptions) {
    this.#readable = readable
    this.#writable = writable
    this.#highWaterBytes = options.highWaterBytes ?? 1024 * 1024
    this.#onClose = options.onClose
    this.description = options.description ?? 'pipe'
    // Errors are remembered from now on, so that none is thrown at the process before start().
    readable.on('error', (error) => {
      this.#cause ??= error
      this.close()
    })
    writable.on('error', (error) => {
      this.#cause ??= error
      this.#broken()
    })
  }

  start(receiver: ByteReceiver): void {
    if (this.#receiver !== undefined) throw new UsageError('a channel is started once')
    this.#receiver = receiver
    if (this.#closed) {
      this.#announceClosed()
      return
    }
    this.#readable.on('data', (chunk: Uint8Array) => {
      if (!this.#closed) receiver.data(chunk)
    })
    this.#readable.on('end', () => this.#end())
    this.#readable.on('close', () => this.#end())
  }

  get writableBytes(): number {
    const room = this.#ending || this.#closed ? 0 : this.#highWaterBytes - this.#unsent
    if (room < this.#highWaterBytes / 2) this.#wanting = true
    return Math.max(0, room)
  }

  write(bytes: Uint8Array): void {
    if (this.#ending || this.#closed) return
    for (let at = 0; at < bytes.length; ) {
      const slab = (this.#slab ??= this.#spare.pop() ?? new Uint8Array(slabBytes))
      const count = Math.min(bytes.length - at, slab.length - this.#slabLength)
      slab.set(count === bytes.length ? bytes : bytes.subarray(at, at + count), this.#slabLength)
      this.#slabLength += count
      this.#unsent += count
      at += count
      if (this.#slabLength === slab.length) this.#writeSlab()
    }
    if (this.#slabLength > 0 && !this.#scheduled) {
      this.#scheduled = true
      queueMicrotask(this.#flush)
    }
  }

  pause(): void {
    this.#readable.pause()
  }

  resume(): void {
    this.#readable.resume()
  }

  end(): void {
    if (this.#ending || this.#closed) return
    this.#writeSlab()
    this.#ending = true
    this.#writable.end()
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#readable.destroy()
    this.#slab = undefined
    this.#slabLength = 0
    if (this.#ending && !this.#writable.destroyed && !this.#writable.writableFinished) this.#letGoWhenSent()
    else this.#letGo()
    if (this.#receiver !== undefined) queueMicrotask(() => this.#announceClosed())
  }

  /** What was written before `end` still leaves, if the other side takes it soon. */
  #letGoWhenSent(): void {
    const timer = setTimeout(() => this.#letGo(), lastBytesMs)
    timer.unref()
    for (const event of ['finish', 'close'])
      this.#writable.once(event, () => {
        clearTimeout(timer)
        this.#letGo()
      })
  }

  #letGo(): void {
    if (this.#isLetGo) return
    this.#isLetGo = true
    this.#writable.destroy()
    this.#onClose?.()
  }

  /** The other side does not listen any more; what it said before is still read, if it comes soon. */
  #broken(): void {
    this.#ending = true
    const timer = setTimeout(() => this.close(), brokenPipeMs)
    timer.unref()
    this.#readable.once('close', () => clearTimeout(timer))
  }

  #announceClosed(): void {
    const cause = this.#cause
    if (cause === undefined) this.#receiver!.closed()
    else this.#receiver!.closed(new ChannelClosedError(`${this.description}: ${cause.message}`, { cause }))
  }

  #end(): void {
    if (this.#ended || this.#closed) return
    this.#ended = true
    this.#receiver!.end()
  }

  #writeSlab(): void {
    this.#scheduled = false
    const slab = this.#slab
    const length = this.#slabLength
    if (slab === undefined || length === 0 || this.#closed) return
    this.#slab = undefined
    this.#slabLength = 0
    this.#writable.write(slab.subarray(0, length), () => {
      this.#unsent -= length
      if (this.#spare.length < keptSlabs) this.#spare.push(slab)
      if (!this.#wanting || this.#closed || this.#unsent > this.#highWaterBytes / 2) return
      this.#wanting = false
      this.#receiver?.writable()
    })
  }
}

/** A channel over two streams of bytes, which it owns from now on. */
export function pipeChannel(readable: Readable, writable: Writable, options: PipeOptions = {}): ByteChannel {
  return new PipeChannel(readable, writable, options)
}

/** A process that serves SFTP on its standard input and output, such as OpenSSH's sftp-server, and the channel to it. */
export interface SftpServerProcess {
  readonly channel: ByteChannel
  readonly process: ChildProcess
}

/** Starts such a process. Its standard error goes to ours unless told otherwise; close() of the channel ends it. */
export function spawnSftpServer(
  command: string,
  args: readonly string[] = [],
  options: { stderr?: 'inherit' | 'ignore'; cwd?: string } = {},
): SftpServerProcess {
  const { stderr = 'inherit', cwd } = options
  const child = spawn(command, args, {
    stdio: ['pipe', 'pipe', stderr],
    ...(cwd === undefined ? {} : { cwd }),
  })
  const stdout = child.stdout!
  // A command that cannot be started ends the channel with that error.
  child.once('error', (error) => stdout.destroy(error))
  const channel = pipeChannel(stdout, child.stdin!, {
    onClose: () => void child.kill(),
    description: command,
  })
  return { channel, process: child }
}
