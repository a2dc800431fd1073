// In which order attributes are set. Pure.

import type { Attributes } from './messages/attributes.ts'

/**
 * Attributes as a row of SETSTATs that each change one thing: size, owner, mode, times. Servers exist that read several
 * fields of one SETSTAT shifted, and one that empties the file whenever SIZE is among them; mode comes after owner, because
 * a change of owner clears setuid.
 */
export function attributeSteps(attributes: Attributes): Attributes[] {
  const { size, uid, gid, permissions, atime, mtime, extended } = attributes
  const steps: Attributes[] = []
  if (size !== undefined) steps.push({ size })
  if (uid !== undefined || gid !== undefined)
    steps.push({ ...(uid === undefined ? {} : { uid }), ...(gid === undefined ? {} : { gid }) })
  if (permissions !== undefined) steps.push({ permissions })
  if (atime !== undefined || mtime !== undefined) {
    steps.push({ ...(atime === undefined ? {} : { atime }), ...(mtime === undefined ? {} : { mtime }) })
  }
  if (extended !== undefined && extended.length > 0) steps.push({ extended })
  return steps
}

/** A time as fs takes it: Date, or seconds since 1970 UTC; fractions are dropped, the protocol has whole seconds. */
export function wireSeconds(time: Date | number): number {
  return Math.floor(time instanceof Date ? time.getTime() / 1000 : time)
}
