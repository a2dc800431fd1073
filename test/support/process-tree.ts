/** The processes below a process, as Linux's /proc tells them: servers that fork are watched, stopped and killed so. */
import { readdirSync, readFileSync } from 'node:fs'

/** State and parent of a process, from proc(5): "pid (comm) state ppid ..."; undefined where there is none. */
function statOf(pid: number | string): { state: string; parent: number } | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    // comm may hold spaces and parentheses, so look behind the last one.
    const [state = '', parent = ''] = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return { state, parent: Number(parent) }
  } catch {
    return undefined
  }
}

/** Whether a process runs; one that has ended but was not waited for yet does not. */
export function isAlive(pid: number): boolean {
  const stat = statOf(pid)
  return stat !== undefined && stat.state !== 'Z' && stat.state !== 'X'
}

/** All processes by their parents, from one look at /proc. */
function processesByParent(): Map<number, number[]> {
  const byParent = new Map<number, number[]>()
  for (const entry of readdirSync('/proc')) {
    const stat = /^\d+$/.test(entry) ? statOf(entry) : undefined
    if (stat === undefined) continue
    const siblings = byParent.get(stat.parent) ?? []
    siblings.push(Number(entry))
    byParent.set(stat.parent, siblings)
  }
  return byParent
}

/** The direct children of `pid`; none where it has ended. */
export function childrenOf(pid: number): number[] {
  return processesByParent().get(pid) ?? []
}

/** All processes below `pid`, parents before their children. */
export function descendantsOf(pid: number): number[] {
  const byParent = processesByParent()
  const below = (each: number): number[] =>
    (byParent.get(each) ?? []).flatMap((child) => [child, ...below(child)])
  return below(pid)
}

/** The command line of a process, with spaces between its words; '' where it has ended or is a zombie. */
export function commandOf(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').join(' ').trim()
  } catch {
    return ''
  }
}

/** Sends a signal; false where the process has ended. */
export function signal(pid: number, name: NodeJS.Signals): boolean {
  try {
    process.kill(pid, name)
    return true
  } catch {
    return false
  }
}

/** Kills a process and all below it. */
export function killTree(pid: number): void {
  const doomed = [pid, ...descendantsOf(pid)]
  for (const each of doomed) signal(each, 'SIGKILL')
}
