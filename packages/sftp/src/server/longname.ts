// The longname of NAME: a line as `ls -l` prints it (draft-ietf-secsh-filexfer-02 s7), laid out as OpenSSH's server does.
// For people; no client may parse it.

import type { FileStat } from '../backend.ts'
import { fileTypeBits } from '../messages/attributes.ts'

const typeLetters = new Map<number, string>([
  [fileTypeBits.fifo, 'p'],
  [fileTypeBits.characterDevice, 'c'],
  [fileTypeBits.directory, 'd'],
  [fileTypeBits.blockDevice, 'b'],
  [fileTypeBits.file, '-'],
  [fileTypeBits.symlink, 'l'],
  [fileTypeBits.socket, 's'],
])

function triple(bits: number, special: boolean, letter: string): string {
  const execute = (bits & 1) !== 0
  const last = special ? (execute ? letter : letter.toUpperCase()) : execute ? 'x' : '-'
  return `${bits & 4 ? 'r' : '-'}${bits & 2 ? 'w' : '-'}${last}`
}

/** 'drwxr-xr-x' of a st_mode. */
export function modeText(mode: number): string {
  const type = typeLetters.get(mode & fileTypeBits.mask) ?? '?'
  const user = triple((mode >> 6) & 7, (mode & 0o4000) !== 0, 's')
  const group = triple((mode >> 3) & 7, (mode & 0o2000) !== 0, 's')
  return type + user + group + triple(mode & 7, (mode & 0o1000) !== 0, 't')
}

const months = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec']
const halfYearSeconds = (365 * 24 * 3600) / 2

/** 'Mar  7 09:05', or 'Mar  7  2019' where it is more than half a year from now; in the local time zone. */
export function timeText(time: number, now: number): string {
  const date = new Date(time * 1000)
  if (Number.isNaN(date.getTime())) return '?'
  const day = `${months[date.getMonth()]} ${String(date.getDate()).padStart(2)}`
  const recent = now - halfYearSeconds < time && Math.floor(time) <= now
  if (!recent) return `${day}  ${date.getFullYear()}`
  return `${day} ${String(date.getHours()).padStart(2, '0')}:${String(date.getMinutes()).padStart(2, '0')}`
}

/** One line of `ls -l`. `now` is in seconds since 1970. */
export function longname(name: string, stat: FileStat, user: string, group: string, now: number): string {
  const links = String(stat.nlink).padStart(3)
  const size = String(stat.size).padStart(8)
  // Behind the mode stands the mark for access control lists, which nobody fills.
  return `${modeText(stat.permissions)}  ${links} ${user.padEnd(8)} ${group.padEnd(8)} ${size} ${timeText(stat.mtime, now)} ${name}`
}
