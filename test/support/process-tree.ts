/** The processes below a process, as Linux's /proc tells them: servers that fork are watched, stopped and killed so. */
import { readdirSync, readFileSync } from 'node:fs'

/** The direct children of `pid`; none where it has ended. */
export function childrenOf(pid: number): number[] {
  const children: number[] = []
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue
    try {
      // proc(5): "pid (comm) state ppid ..."; comm may hold spaces and parentheses, so look behind the last one.
      const stat = readFileSync(`/proc/${entry}/stat`, 'latin1')
      const parent = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]
      if (Number(parent) === pid) children.push(Number(entry))
    } catch {
      // Ended between the listing and the look.
    }
  }
  return children
}

/** All processes below `pid`, parents before their children. */
export function descendantsOf(pid: number): number[] {
  return childrenOf(pid).flatMap((child) => [child, ...descendantsOf(child)])
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
