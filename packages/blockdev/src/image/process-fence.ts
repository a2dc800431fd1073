// The fence by processes: which processes on the server serve a connection is learned by a command while it lives; after a
// loss a command on a new connection looks whether they are gone, kills them where not, and waits until they are.
// A process is named by its number and start time, on a machine named by its boot and process namespace: anything else
// (another machine behind the same address, a reboot, a container started again) proves nothing.
// Works where the connection is served by a process of its own whose children serve the channels: sshd, with sftp-server
// and with internal-sftp, and dropbear. Servers that serve everybody in one process are told apart by the name of the
// parent: there, nothing is learned, and nothing is ever killed.
// The commands are for /bin/sh, in a form that every login shell passes on: no single quote, no newline, no '!'.

import { SshError } from '@sshblock/transport/errors'
import { utf8Text } from '@sshblock/transport/wire'
import type { CommandOutput } from './host.ts'

/** The processes that serve one connection, as of some moment. */
export interface ServerProcesses {
  /** Boot and process namespace. */
  readonly machine: string
  /** Process numbers and start times (in clock ticks after boot). */
  readonly processes: ReadonlyMap<number, string>
}

const learnMark = 'sshblock-processes'
const fenceMark = 'sshblock-fence'
const endMark = 'sshblock-end'

/** Parents that serve exactly one connection. */
const connectionServers = new Set(['sshd', 'sshd-session', 'dropbear'])

const machineCommand = 'cat /proc/sys/kernel/random/boot_id && readlink /proc/self/ns/pid'

/** Lists the processes that can be seen: number, parent, start time. Fields as in proc(5), after the name in brackets. */
export const learnCommand = `exec sh -c '${[
  `echo ${learnMark}`,
  machineCommand,
  'read -r l < /proc/self/stat',
  'echo self $$ $PPID ${l%% *}',
  'read -r c < /proc/$PPID/comm',
  'echo comm $c',
  'cd /proc && for p in [0-9]*',
  'do { read -r l < $p/stat; } 2>/dev/null || continue',
  'r=${l##*) }',
  'set -- $r',
  'echo $p $2 ${20}',
  'done',
  `echo ${endMark}`,
].join('; ')}'`

/** Ends the processes, and tells which are still there in the end. `patience` is about seconds. */
export function fenceCommand(processes: ReadonlyMap<number, string>, patience: number): string {
  const targets = [...processes].map(([pid, start]) => `${pid}:${start}`).join(' ')
  return `exec sh -c '${[
    `echo ${fenceMark}`,
    machineCommand,
    'cd /proc',
    // Gone, a zombie (which has closed its files), or a number that was given to another process: not alive.
    'alive() { { read -r l < $1/stat; } 2>/dev/null || return 1; s=$2; r=${l##*) }; set -- $r; case $1 in Z|X|x) return 1;; esac; [ "${20}" = "$s" ]; }',
    'n=0',
    `while :; do left=; for t in ${targets}`,
    'do if alive ${t%%:*} ${t##*:}; then left="$left ${t%%:*}"; kill -9 ${t%%:*} 2>/dev/null; fi',
    'done',
    '[ -z "$left" ] && break',
    'n=$((n+1))',
    `[ $n -gt ${patience + 3} ] && break`,
    '[ $n -gt 3 ] && sleep 1',
    'done',
    'echo left $left',
    `echo ${endMark}`,
  ].join('; ')}'`
}

/** What `learnCommand` printed; undefined where it proves nothing. */
export function learnedProcesses(output: CommandOutput): ServerProcesses | undefined {
  const lines = linesAfter(output, learnMark)
  if (lines === undefined) return undefined
  const [boot = '', namespace = '', self = '', comm = '', ...rows] = lines
  const machine = machineName(boot, namespace)
  const [, shell, parent, seen] = /^self (\d+) (\d+) (\d+)$/.exec(self) ?? []
  if (machine === undefined || shell === undefined || parent === undefined) return undefined
  // A /proc of another process namespace: its numbers mean other processes.
  if (seen !== shell) return undefined
  if (!comm.startsWith('comm ') || !connectionServers.has(comm.slice(5))) return undefined
  const children = new Map<number, { pid: number; start: string }[]>()
  for (const row of rows) {
    const [, pid, ppid, start] = /^(\d+) (\d+) (\d+)$/.exec(row) ?? []
    if (pid === undefined || ppid === undefined || start === undefined || pid === shell) continue
    const siblings = children.get(Number(ppid))
    const child = { pid: Number(pid), start }
    if (siblings === undefined) children.set(Number(ppid), [child])
    else siblings.push(child)
  }
  const processes = new Map<number, string>()
  const waiting = [Number(parent)]
  for (let pid = waiting.pop(); pid !== undefined; pid = waiting.pop()) {
    for (const child of children.get(pid) ?? []) {
      if (processes.has(child.pid)) continue
      processes.set(child.pid, child.start)
      waiting.push(child.pid)
    }
  }
  return { machine, processes }
}

/** Whether what `fenceCommand` printed proves that none of the processes is there any more, on that machine. */
export function provesGone(output: CommandOutput, machine: string): boolean {
  const lines = linesAfter(output, fenceMark)
  if (lines === undefined) return false
  const [boot = '', namespace = '', left = ''] = lines
  return machineName(boot, namespace) === machine && left.trim() === 'left'
}

/** The server allows no command, or none that tells anything: it will not be asked again. */
export class NoProcessesError extends SshError {
  constructor(cause?: unknown) {
    super('ENOTSUP', 'the server does not tell which of its processes serve this connection', { cause })
  }
}

// A login shell may print a greeting first. Undefined where the command did not run to its end.
function linesAfter(output: CommandOutput, mark: string): string[] | undefined {
  const lines = utf8Text(output.stdout)
    .split('\n')
    .map((line) => line.replace(/\r$/, ''))
  const start = lines.indexOf(mark)
  const end = lines.lastIndexOf(endMark)
  return start < 0 || end < start ? undefined : lines.slice(start + 1, end)
}

function machineName(boot: string, namespace: string): string | undefined {
  if (!/^[0-9a-f-]{36}$/.test(boot) || !/^pid:\[\d+\]$/.test(namespace)) return undefined
  return `${boot} ${namespace}`
}
