// `sshblock info`: what is known about an image and the server that keeps it.

import type { DeviceInfo } from '@sshblock/blockdev'
import { safeText } from '@sshblock/transport'
import { Command } from 'commander'
import { type ConnectionFlags, withConnection } from '../connection/flags.ts'
import { openLastingImage } from '../connection/lasting-image.ts'
import { type ImageFlags, openServer } from '../connection/server.ts'
import { attempt } from '../failure.ts'
import { type Invocation, printJson, printLine } from '../invocation.ts'
import { exactSizeText, sizeText } from '../sizes.ts'
import { parseRemoteTarget } from '../target.ts'

interface InfoFlags extends ConnectionFlags, ImageFlags {
  json?: boolean
}

export function infoCommand(invocation: Invocation): Command {
  return withConnection(new Command('info'))
    .description(
      'Shows size and kind of an image, and the server: algorithms, host key, extensions, what flush means.',
    )
    .argument('<location>', 'host:path or ssh://user@host/path')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      `
Examples:
  sshblock info myhost:/images/a.img
  sshblock info --json ssh://alice@example.org:2222/images/a.img | jq .size`,
    )
    .action(async (location: string, flags: InfoFlags) => {
      const target = parseRemoteTarget(location)
      await using server = await openServer(target, flags, invocation)
      await server.sftp.limitsKnown
      await using device = await attempt('cannot open', target.text, () =>
        openLastingImage(server, target, flags, invocation, { writable: false, borrowsSession: true }),
      )
      if (flags.json === true) printJson(invocation, jsonInfo(device.info))
      else
        for (const [name, text] of infoLines(device.info)) printLine(invocation, `${name.padEnd(16)}${text}`)
    })
}

// What a device opened for reading can tell about flushing: whether the server has a way to do it.
function canFlush({ extensions }: DeviceInfo): boolean {
  return extensions.has('fsync@openssh.com')
}

function jsonInfo(info: DeviceInfo): unknown {
  return {
    path: info.path,
    size: info.size,
    kind: info.kind,
    flush: canFlush(info) ? 'durable' : 'none',
    extensions: Object.fromEntries(info.extensions),
    limits: info.limits,
    server: info.server,
    connection: info.connection,
  }
}

function infoLines(info: DeviceInfo): [string, string][] {
  const lines: [string, string][] = [
    ['path', safeText(info.path)],
    ['size', exactSizeText(info.size)],
    ['kind', info.kind],
    [
      'flush',
      canFlush(info) ? 'reaches stable storage' : 'the server has none: writing needs --unsafe-flush',
    ],
    ['extensions', [...info.extensions.keys()].map((name) => safeText(name)).join(', ') || 'none'],
    [
      'requests',
      `${sizeText(info.limits.maxReadBytes)} to read, ${sizeText(info.limits.maxWriteBytes)} to write`,
    ],
  ]
  const { server, connection } = info
  if (connection !== undefined)
    lines.push([
      'connection',
      `${connection.state}, ${counted(connection.connections, 'connection')}, ${counted(connection.channels, 'channel')}`,
    ])
  if (server === undefined) return lines
  const { kex, cipherServerToClient: cipher, macServerToClient: mac, strict } = server.algorithms
  const algorithms = [
    kex,
    cipher,
    ...(mac === undefined ? [] : [mac]),
    ...(strict ? ['strict key exchange'] : []),
  ]
  return [
    ...lines,
    ['server', `${safeText(server.identification)} at ${server.host}:${server.port}`],
    ['host key', `${server.hostKeyType} ${server.hostKeyFingerprint}`],
    ['algorithms', algorithms.join(', ')],
    ['user', `${safeText(server.user)}, by ${safeText(server.authentication)}`],
  ]
}

function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`
}
