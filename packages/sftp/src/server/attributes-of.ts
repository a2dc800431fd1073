// Between a back end's stat and the ATTRS of the wire (draft-ietf-secsh-filexfer-02 s5).

import { type AttributeChanges, BackendError, type FileStat } from '../backend.ts'
import type { Attributes } from '../messages/attributes.ts'

const maxU32 = 0xffff_ffff

/** Times before 1970 or after 2106 cannot be said in 32 bits: the nearest that can. */
function seconds(time: number): number {
  return Math.min(Math.max(Math.floor(time), 0), maxU32)
}

/** @throws BackendError EOVERFLOW for a size above 2^53 - 1: never a rounded one */
export function attributesOf(stat: FileStat): Attributes {
  if (!Number.isSafeInteger(stat.size) || stat.size < 0) throw new BackendError('EOVERFLOW')
  return { size: stat.size, ...attributesWithoutSize(stat) }
}

/** For listings, where one giant must not hide the others. */
export function listedAttributesOf(stat: FileStat): Attributes {
  return Number.isSafeInteger(stat.size) && stat.size >= 0 ? attributesOf(stat) : attributesWithoutSize(stat)
}

function attributesWithoutSize({ uid, gid, permissions, atime, mtime }: FileStat): Attributes {
  return {
    uid: uid >>> 0,
    gid: gid >>> 0,
    permissions: permissions >>> 0,
    atime: seconds(atime),
    mtime: seconds(mtime),
  }
}

/** What a client's ATTRS ask to change. `modeMask` holds the permission bits that clients may set. */
export function changesOf(attributes: Attributes, modeMask: number): AttributeChanges {
  const { size, permissions, atime, mtime, uid, gid } = attributes
  const changes: { -readonly [K in keyof AttributeChanges]: AttributeChanges[K] } = {}
  if (size !== undefined) changes.size = size
  if (permissions !== undefined) changes.permissions = permissions & modeMask
  if (atime !== undefined) changes.atime = atime
  if (mtime !== undefined) changes.mtime = mtime
  if (uid !== undefined) changes.uid = uid
  if (gid !== undefined) changes.gid = gid
  return changes
}
