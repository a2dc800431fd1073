// The browser's WebSockets as a duplex, against relays that do not do as ours does.

import { type ByteDuplex, webSocketDuplex } from '@sshblock/transport/browser'
import { webSocketStream } from './connection.ts'

/** What is done once it is open. */
export type Deed =
  | 'wait'
  /** Sends 'SSH', waits for as much to come back, closes. */
  | 'echo and close'
  | 'echo and abort'
  /** 8 MiB in one write, and back. */
  | 'large'
  /** 1000 writes of one byte, and back. */
  | 'tiny'
  /** Closes, aborts and writes in every order. */
  | 'close again'
  /** Writes until there is no room, then closes in order, then gives up. */
  | 'fill and close'

export interface RelayReport {
  readonly received: number
  readonly ends: number
  readonly cause: { code: string; closeCode: number | undefined; message: string } | undefined
  readonly text: string
}

export async function throughRelay(
  url: string,
  options: {
    deed: Deed
    classic: boolean
    connectTimeoutMs?: number
    abortAfterMs?: number
    protocols?: string[]
  },
): Promise<RelayReport> {
  const { deed, classic, connectTimeoutMs, abortAfterMs, protocols } = options
  const abort = new AbortController()
  if (abortAfterMs !== undefined) setTimeout(() => abort.abort(), abortAfterMs)
  if (abortAfterMs === 0) abort.abort()
  const duplex = await webSocketDuplex(url, {
    signal: abort.signal,
    ...(classic ? {} : { WebSocketStream: webSocketStream }),
    ...(connectTimeoutMs === undefined ? {} : { connectTimeoutMs }),
    ...(protocols === undefined ? {} : { protocols }),
  })
  const end = new End()
  duplex.start(end)
  await perform(duplex, end, deed)
  await end.came
  // Nothing may come after it.
  await pause(50)
  return { received: end.received, ends: end.ends, cause: end.cause, text: end.text }
}

async function perform(duplex: ByteDuplex, end: End, deed: Deed): Promise<void> {
  switch (deed) {
    case 'wait':
      return
    case 'echo and close':
    case 'echo and abort':
      duplex.write(new TextEncoder().encode('SSH'), () => {})
      await end.atLeast(3)
      return duplex.close(deed === 'echo and abort')
    case 'large':
      duplex.write(new Uint8Array(8 * 1024 * 1024), () => {})
      await end.atLeast(8 * 1024 * 1024)
      return duplex.close()
    case 'tiny':
      for (let i = 0; i < 1000; i++)
        await Promise.race([new Promise<void>((done) => duplex.write(new Uint8Array(1), done)), end.came])
      await end.atLeast(1000)
      return duplex.close()
    case 'close again':
      duplex.write(new Uint8Array(3), () => {})
      duplex.close()
      duplex.write(new Uint8Array(3), () => {})
      duplex.close()
      duplex.pause()
      duplex.close(true)
      duplex.resume()
      duplex.close(true)
      duplex.write(new Uint8Array(3), () => {})
      return
    case 'fill and close': {
      let isFull = false
      while (!isFull) {
        const room = new Promise<boolean>((done) =>
          duplex.write(new Uint8Array(256 * 1024), () => done(false)),
        )
        isFull = await Promise.race([room, pause(500).then(() => true)])
      }
      duplex.close()
      await pause(100)
      return duplex.close(true)
    }
  }
}

const pause = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, milliseconds))

class End {
  readonly #room = new Uint8Array(65_536)
  received = 0
  ends = 0
  text = ''
  cause: RelayReport['cause']
  readonly came: Promise<void>
  #over!: () => void
  #arrived = (): void => {}

  constructor() {
    this.came = new Promise((resolve) => {
      this.#over = resolve
    })
  }

  reserve(): Uint8Array {
    return this.#room
  }

  commit(count: number): void {
    this.received += count
    if (this.text.length < 100)
      this.text += new TextDecoder().decode(this.#room.subarray(0, Math.min(count, 100)))
    this.#arrived()
  }

  end(cause?: Error): void {
    this.ends++
    const { code, closeCode } = (cause ?? {}) as { code?: string; closeCode?: number }
    if (cause !== undefined) this.cause = { code: code ?? '', closeCode, message: cause.message }
    this.#over()
    this.#arrived()
  }

  async atLeast(count: number): Promise<void> {
    while (this.received < count && this.ends === 0)
      await new Promise<void>((resolve) => {
        this.#arrived = resolve
      })
  }
}
