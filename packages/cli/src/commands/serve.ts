// `sshblock serve`: images of servers as NBD exports, for qemu, nbdcopy, nbd-client and the like.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, posix, resolve } from 'node:path'
import type { ConnectionEvent } from '@sshblock/blockdev'
import { type NbdExport, type NbdListen, type NbdServer, type NbdServerEvent, serveNbd } from '@sshblock/nbd'
import type { Session } from '@sshblock/transport'
import { Command } from 'commander'
import { type ConnectionFlags, withConnection } from '../connection/flags.ts'
import { type LossFlags, openLastingImage, withLoss } from '../connection/lasting-image.ts'
import { type ImageFlags, openConnection } from '../connection/server.ts'
import { attempt, CommandFailure } from '../failure.ts'
import { type Invocation, printJson, printLine, tell } from '../invocation.ts'
import { parseWhole } from '../sizes.ts'
import { parseRemoteTarget, type RemoteTarget } from '../target.ts'
import { UsageProblem } from '../usage-problem.ts'
import { withUnsafeFlush } from './image-options.ts'
import { untilInterrupted } from './until-interrupted.ts'

interface ServeFlags extends ConnectionFlags, ImageFlags, LossFlags {
  socket?: string
  port?: number
  readOnly?: boolean
  json?: boolean
}

interface NamedImage {
  readonly name: string
  readonly target: RemoteTarget
}

export function serveCommand(invocation: Invocation): Command {
  return withLoss(withUnsafeFlush(withConnection(new Command('serve'))))
    .description('Serves images as NBD exports until Ctrl-C, then answers what is under way and flushes.')
    .argument(
      '<image...>',
      'host:path or ssh://user@host/path; NAME=... names the export, =... is the one without a name',
    )
    .option(
      '--socket <path>',
      'listen on this Unix socket, which only you may open; one in a new folder by default',
    )
    .option(
      '--port <port>',
      'listen on a port of 127.0.0.1 instead; 0 for any free one',
      parseWhole(0, 65_535),
    )
    .option('--read-only', 'refuse writes')
    .option('--json', 'print the address and the URIs as JSON')
    .addHelpText(
      'after',
      `
Examples:
  sshblock serve myhost:/images/a.img
  sshblock serve --port 10809 --read-only a=myhost:/images/a.img b=otherhost:/images/b.img
  nbdcopy "$(sshblock serve --json ... | jq -r '.exports[0].uri')" disk.img`,
    )
    .action(async (texts: string[], flags: ServeFlags) => {
      const images = namedImages(texts)
      if (flags.socket !== undefined && flags.port !== undefined)
        throw new UsageProblem('--socket and --port exclude each other')
      await serve(images, flags, invocation)
    })
}

async function serve(
  images: readonly NamedImage[],
  flags: ServeFlags,
  invocation: Invocation,
): Promise<void> {
  await using resources = new Closers()
  const exports: NbdExport[] = []
  const lost: Promise<unknown>[] = []
  let roundTripMs = 0
  for (const { name, target } of images) {
    const readOnly = flags.readOnly === true
    const failure = failureOf(target)
    const connection = await openConnection(target, flags, invocation)
    const { session } = connection
    resources.defer(() => session.close())
    const device = resources.use(
      await attempt('cannot open', target.text, () =>
        openLastingImage(connection, target, flags, invocation, {
          writable: !readOnly,
          borrowsSession: false,
          onState: failure.onState,
        }),
      ),
    )
    exports.push({ name, device, readOnly, description: target.text })
    lost.push(failure.promise)
    roundTripMs = Math.max(roundTripMs, await quickestPing(session))
  }
  const listen = listenOn(flags, resources)
  const server = await attempt('cannot listen on', listenText(listen), () =>
    serveNbd(exports, {
      listen,
      maxBytesInFlight: bytesInFlight(roundTripMs),
      onEvent: (event) => tellEvent(invocation, flags, event),
    }),
  )
  resources.defer(() => attempt('cannot finish', listenText(listen), () => server.close()))
  if (flags.json === true) printJson(invocation, described(server, images))
  else for (const line of images.flatMap((image) => pasteLines(server, image))) printLine(invocation, line)
  await Promise.race([untilInterrupted(invocation), ...lost])
}

const leastInFlightBytes = 8 * 1024 * 1024
const mostInFlightBytes = 64 * 1024 * 1024
/** 1 GiB/s: faster than SSH is over a distance that matters. */
const bytesPerMs = 1024 ** 3 / 1000

/**
 * How many bytes the programs may have under way: what fills the way to the server. Near by that is little, and more of it
 * only grows the server's buffers: OpenSSH takes three times the processor time with 32 MiB of backlog.
 */
function bytesInFlight(roundTripMs: number): number {
  return Math.min(mostInFlightBytes, Math.max(leastInFlightBytes, Math.ceil(roundTripMs * bytesPerMs)))
}

/** Milliseconds; the shortest of a few. */
async function quickestPing(session: Session): Promise<number> {
  let shortest = Number.POSITIVE_INFINITY
  for (let i = 0; i < 3; i++) shortest = Math.min(shortest, await session.ping())
  return shortest
}

/** What is to be closed at the end, the last first; every one of them, and the first error told. */
class Closers {
  readonly #closers: (() => unknown)[] = []

  use<T extends AsyncDisposable>(resource: T): T {
    this.defer(() => resource[Symbol.asyncDispose]())
    return resource
  }

  defer(close: () => unknown): void {
    this.#closers.push(close)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    let failure: { readonly error: unknown } | undefined
    for (const close of this.#closers.toReversed()) {
      try {
        await close()
      } catch (error) {
        failure ??= { error }
      }
    }
    if (failure !== undefined) throw failure.error
  }
}

/** Rejects when an image is given up for good. */
function failureOf({ text }: RemoteTarget): {
  promise: Promise<never>
  onState: (event: ConnectionEvent) => void
} {
  let reject!: (error: Error) => void
  const promise = new Promise<never>((_, rejectIt) => {
    reject = rejectIt
  })
  promise.catch(() => {}) // Told where it is waited for.
  return {
    promise,
    onState: (event) => {
      if (event.type === 'failed') reject(new CommandFailure('lost', text, event.error))
    },
  }
}

/** @throws UsageProblem for two exports of one name */
function namedImages(texts: readonly string[]): NamedImage[] {
  const images = texts.map((text) => {
    // A location has no '=' before its host ends.
    const match = /^([^=:/@[\]]*)=(.+)$/s.exec(text)
    const target = parseRemoteTarget(match?.[2] ?? text)
    const name = match?.[1] ?? (texts.length === 1 ? '' : posix.basename(target.path).replace(/\.[^.]*$/, ''))
    return { name, target }
  })
  for (const { name } of images)
    if (images.filter((other) => other.name === name).length > 1)
      throw new UsageProblem(`two images would be called '${name}'; name them, as in NAME=host:path`)
  return images
}

function listenOn({ socket, port }: ServeFlags, resources: Closers): NbdListen {
  if (port !== undefined) return { port }
  // Absolute: the URI is pasted elsewhere.
  if (socket !== undefined) return { socketPath: socket === '' ? socket : resolve(socket) }
  const folder = mkdtempSync(join(tmpdir(), 'sshblock-'))
  resources.defer(() => rmSync(folder, { recursive: true, force: true }))
  return { socketPath: join(folder, 'nbd.sock') }
}

function listenText(listen: NbdListen): string {
  return 'socketPath' in listen ? listen.socketPath : `127.0.0.1:${listen.port}`
}

function described(server: NbdServer, images: readonly NamedImage[]): unknown {
  const exports = images.map(({ name, target }) => ({ name, image: target.text, uri: server.uri(name) }))
  return { address: server.address, exports }
}

/** For a shell: the URI in single quotes. */
function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`
}

function pasteLines(server: NbdServer, { name, target }: NamedImage): string[] {
  const uri = server.uri(name)
  const { address } = server
  const where =
    'socketPath' in address ? `-unix ${quoted(address.socketPath)}` : `${address.host} ${address.port}`
  const named = name === '' ? '' : ` -N ${quoted(name)}`
  return [
    `${target.text} is served as ${uri}`,
    `  qemu:        qemu-system-x86_64 -m 1G -drive file=${quoted(uri)},format=raw,if=virtio`,
    `  nbdcopy:     nbdcopy ${quoted(uri)} disk.img`,
    `  nbd-client:  nbd-client ${where}${named} /dev/nbd0`,
  ]
}

function tellEvent(invocation: Invocation, { verbose = 0 }: ServeFlags, event: NbdServerEvent): void {
  if (event.type === 'client-refused')
    tell(invocation, 'warning: a client was turned away: too many are there')
  if (verbose === 0) return
  if (event.type === 'client-ready') tell(invocation, `client ${event.client} uses '${event.exportName}'`)
  if (event.type === 'client-gone') tell(invocation, `client ${event.client} is gone: ${event.reason}`)
}
