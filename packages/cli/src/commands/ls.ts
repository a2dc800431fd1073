// `sshblock ls`: what is in a folder of a server.

import { type DirectoryEntry, joinPath, type Stats } from '@sshblock/sftp'
import { safeText } from '@sshblock/transport'
import { Command } from 'commander'
import { type ConnectionFlags, withConnection } from '../connection/flags.ts'
import { openServer } from '../connection/server.ts'
import { attempt } from '../failure.ts'
import { type Invocation, printJson, printLine } from '../invocation.ts'
import { parseRemoteTarget } from '../target.ts'

interface LsFlags extends ConnectionFlags {
  long?: boolean
  all?: boolean
  recursive?: boolean
  json?: boolean
}

interface Listed {
  /** Below what was asked for. */
  readonly name: string
  readonly type: string
  readonly stats: Stats
}

export function lsCommand(invocation: Invocation): Command {
  return withConnection(new Command('ls'))
    .description('Lists a folder, or shows a file, on a server.')
    .argument('<location>', 'host:path or ssh://user@host/path')
    .option('-l, --long', 'with mode, size and time (UTC)')
    .option('-a, --all', "also names that begin with '.'")
    .option('-R, --recursive', 'with everything below')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      `
Examples:
  sshblock ls -l myhost:/images
  sshblock ls --json -R myhost: | jq '.[] | select(.size > 1e9) | .name'`,
    )
    .action(async (location: string, flags: LsFlags) => {
      const target = parseRemoteTarget(location)
      await using server = await openServer(target, flags, invocation)
      const found = await attempt('cannot list', target.text, async () => {
        const listed: Listed[] = []
        const { signal } = invocation
        const stats = await server.sftp.stat(target.path, { signal }).catch((error: unknown) => {
          // A link that leads nowhere is there all the same.
          return server.sftp.lstat(target.path, { signal }).catch(() => {
            throw error
          })
        })
        if (!stats.isDirectory()) return [{ name: target.path, type: stats.type, stats }]
        const entries =
          flags.recursive === true
            ? server.sftp.walk(target.path, { signal })
            : server.sftp.readdir(target.path, { signal })
        const prefix = joinPath(target.path, '').length
        for await (const entry of entries as AsyncIterable<DirectoryEntry & { path?: string }>) {
          const name = entry.path?.slice(prefix) ?? entry.name
          if (flags.all === true || !/(^|\/)\./.test(name))
            listed.push({ name, type: entry.type, stats: entry.stats })
        }
        return listed.sort((a, b) => (a.name < b.name ? -1 : 1))
      })
      if (flags.json === true) printJson(invocation, found.map(jsonEntry))
      else printEntries(invocation, found, flags)
    })
}

function jsonEntry({ name, type, stats: { size, mode, uid, gid, modifiedAt } }: Listed): unknown {
  return { name, type, size, mode, uid, gid, modified: modifiedAt?.toISOString() }
}

function printEntries(invocation: Invocation, entries: readonly Listed[], { long }: LsFlags): void {
  const { stdout, env } = invocation
  const coloured = stdout.isTTY === true && (env['NO_COLOR'] ?? '') === '' && env['TERM'] !== 'dumb'
  const width = Math.max(...entries.map(({ stats }) => String(stats.size ?? '?').length), 0)
  for (const { name, type, stats } of entries) {
    const shown = safeText(name, 4096)
    const text = coloured && type === 'directory' ? `\u001b[1;34m${shown}\u001b[0m` : shown
    const facts = [
      modeText(type, stats.mode),
      String(stats.size ?? '?').padStart(width),
      timeText(stats.modifiedAt),
    ]
    printLine(invocation, long === true ? `${facts.join('  ')}  ${text}` : text)
  }
}

const typeLetters = new Map([
  ['directory', 'd'],
  ['symlink', 'l'],
  ['fifo', 'p'],
  ['socket', 's'],
  ['block-device', 'b'],
  ['character-device', 'c'],
  ['file', '-'],
])

/** 'drwxr-xr-x' */
function modeText(type: string, mode: number | undefined): string {
  const letter = typeLetters.get(type) ?? '?'
  if (mode === undefined) return `${letter}?????????`
  const bits = [...'rwxrwxrwx'].map((bit, i) => ((mode >> (8 - i)) & 1 ? bit : '-'))
  for (const [bit, at, name] of [
    [0o4000, 2, 's'],
    [0o2000, 5, 's'],
    [0o1000, 8, 't'],
  ] as const) {
    if (mode & bit) bits[at] = bits[at] === 'x' ? name : name.toUpperCase()
  }
  return letter + bits.join('')
}

function timeText(time: Date | undefined): string {
  return time === undefined ? '?'.padEnd(16) : time.toISOString().slice(0, 16).replace('T', ' ')
}
