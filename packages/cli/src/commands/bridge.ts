// `sshblock bridge`: a relay from WebSockets to TCP, so that a page in a browser reaches an SSH server. It sees ciphertext only.

import { type Bridge, type BridgeEvent, type BridgeTargets, createBridge } from '@sshblock/bridge'
import { safeText, UsageError } from '@sshblock/transport/errors'
import { Command } from 'commander'
import { attempt } from '../failure.ts'
import { type Invocation, printJson, printLine, tell } from '../invocation.ts'
import { parseWhole } from '../sizes.ts'
import { UsageProblem } from '../usage-problem.ts'
import { untilInterrupted } from './until-interrupted.ts'

interface BridgeFlags {
  allow?: string[]
  target?: string
  origin?: string[]
  missingOrigin?: boolean
  network?: string[]
  trustProxy?: string[]
  pathPrefix?: string
  maxConnections?: number
  host: string
  port: number
  verbose?: number
  json?: boolean
}

function collect(value: string, before: string[] = []): string[] {
  return [...before, value]
}

export function bridgeCommand(invocation: Invocation): Command {
  return new Command('bridge')
    .description(
      'Relays WebSockets of web pages to SSH servers, until Ctrl-C. It never decrypts: keys and the trust in host keys stay in the page.',
    )
    .option(
      '--allow <host:port>',
      "the path is /HOST:PORT and must match: 'a.example.org:22', '*.example.org:22'; may be given again",
      collect,
    )
    .option('--target <host:port>', 'the one server there is, under the path /')
    .option(
      '--origin <url>',
      "pages that may connect, as 'https://app.example.org'; may be given again",
      collect,
    )
    .option('--missing-origin', 'let in programs, which send no Origin or any they like')
    .option(
      '--network <network>',
      "connect to this special network too, as '10.0.0.0/8'; may be given again",
      collect,
    )
    .option(
      '--trust-proxy <network>',
      'believe X-Forwarded-For of these addresses; may be given again',
      collect,
    )
    .option('--path-prefix <path>', "part of the path before the target, as '/ssh'")
    .option('--max-connections <n>', 'connections at once', parseWhole(1, 1_000_000))
    .option(
      '--host <address>',
      'address to listen on; a reverse proxy with TLS belongs before any other than this',
      '127.0.0.1',
    )
    .option('--port <port>', 'port to listen on; 0 for any free one', parseWhole(0, 65_535), 8022)
    .option('--json', 'print the address as JSON')
    .option(
      '-v, --verbose',
      'say on stderr who connects and leaves',
      (_, before: number | undefined) => (before ?? 0) + 1,
    )
    .addHelpText(
      'after',
      `
Examples:
  sshblock bridge --allow host.example.org:22 --origin https://app.example.org
  sshblock bridge --target localhost:22 --origin http://localhost:5173 --port 8022`,
    )
    .action((flags: BridgeFlags) => relay(flags, invocation))
}

async function relay(flags: BridgeFlags, invocation: Invocation): Promise<void> {
  const { host, port } = flags
  const bridge = makeBridge(flags, invocation)
  const address = await attempt('cannot listen on', `${host}:${port}`, () => bridge.listen({ host, port }))
  const name = address.host.includes(':') ? `[${address.host}]` : address.host
  const url = `ws://${name}:${address.port}${flags.pathPrefix ?? ''}/`
  if (flags.json === true) printJson(invocation, { ...address, url })
  else {
    printLine(invocation, `relays ${url}${flags.target === undefined ? 'HOST:PORT' : ` to ${flags.target}`}`)
    printLine(invocation, `  health:  curl http://${name}:${address.port}/health`)
  }
  await untilInterrupted(invocation)
  await bridge.close()
}

function makeBridge(flags: BridgeFlags, invocation: Invocation): Bridge {
  const { origin = [], missingOrigin = false, network, trustProxy, pathPrefix, maxConnections } = flags
  if (origin.length === 0 && !missingOrigin)
    throw new UsageProblem('who may connect? name the pages with --origin https://...')
  try {
    return createBridge({
      targets: targetsOf(flags),
      origins: origin,
      allowMissingOrigin: missingOrigin,
      onEvent: (event) => tellEvent(invocation, flags, event),
      ...(network === undefined ? {} : { networks: network }),
      ...(trustProxy === undefined ? {} : { trustedProxies: trustProxy }),
      ...(pathPrefix === undefined ? {} : { pathPrefix }),
      ...(maxConnections === undefined ? {} : { maxConnections }),
    })
  } catch (error) {
    if (error instanceof UsageError) throw new UsageProblem(error.message)
    throw error
  }
}

function targetsOf({ allow, target }: BridgeFlags): BridgeTargets {
  if (target !== undefined && allow !== undefined)
    throw new UsageProblem('--allow and --target exclude each other')
  if (target !== undefined) return { fixed: target }
  if (allow !== undefined) return { allow }
  throw new UsageProblem('to which servers? name them with --allow HOST:PORT or --target HOST:PORT')
}

function tellEvent(invocation: Invocation, { verbose = 0 }: BridgeFlags, event: BridgeEvent): void {
  if (verbose === 0) return
  const from = safeText(event.remoteAddress)
  if (event.type === 'refused') tell(invocation, `refused ${from}: ${event.reason} (${event.status})`)
  else if (event.type === 'connected')
    tell(invocation, `${event.connection}: ${from} to ${safeText(event.target.host)}:${event.target.port}`)
  else
    tell(
      invocation,
      `${event.connection}: ended, ${event.bytesToTarget} bytes there and ${event.bytesToClient} back: ${safeText(event.reason) || event.code}`,
    )
}
