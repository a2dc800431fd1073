// Constraints on keys added to an agent: RFC 9987 "Key Constraints" and OpenSSH PROTOCOL.agent section 2.
// Reading them fails for every constraint that is not known: to drop one would give a key more freedom than its owner did.

import { KeyFormatError, quote, UsageError } from '../errors.ts'
import type { Reader } from '../wire/reader.ts'
import { Writer } from '../wire/writer.ts'
import { constraintNumbers, restrictDestinationName } from './messages.ts'

/** One permitted step: from a host (or from here) to a user on another. */
export interface DestinationConstraint {
  /** Where the step starts; left out for the machine the agent runs on. */
  from?: DestinationHost
  to: DestinationHost & {
    /** User names it is for, as a pattern; left out for any. */
    user?: string
  }
}

export interface DestinationHost {
  hostname: string
  /** Keys of that host, or of authorities for it. */
  keys: readonly { keyBlob: Uint8Array; isAuthority?: boolean }[]
}

export interface KeyConstraints {
  /** The agent forgets the key after so many seconds. */
  lifetimeSeconds?: number
  /** The agent asks its user before each signature. */
  confirm?: boolean
  /** Hosts the key may be used for; OpenSSH 8.9 and later. */
  destinations?: readonly DestinationConstraint[]
}

/**
 * Writes constraints; nothing where there are none.
 * @throws UsageError where the lifetime is not from 1 to 2^32 - 1 seconds.
 */
export function writeConstraints(writer: Writer, constraints: KeyConstraints): void {
  const { lifetimeSeconds, confirm, destinations } = constraints
  if (lifetimeSeconds !== undefined) {
    if (!Number.isInteger(lifetimeSeconds) || lifetimeSeconds < 1 || lifetimeSeconds > 0xffff_ffff) {
      throw new UsageError(`lifetimeSeconds: expected 1 to 2^32 - 1, got ${lifetimeSeconds}`)
    }
    writer.u8(constraintNumbers.lifetime).u32(lifetimeSeconds)
  }
  if (confirm === true) writer.u8(constraintNumbers.confirm)
  if (destinations !== undefined && destinations.length > 0) {
    const list = new Writer()
    for (const { from, to } of destinations) {
      const step = new Writer()
      writeHop(step, from ?? { hostname: '', keys: [] })
      writeHop(step, to)
      step.text('') // reserved
      list.string(step.bytes())
    }
    writer.u8(constraintNumbers.extension).text(restrictDestinationName).string(list.bytes())
  }
}

/** Reads lifetime and confirmation up to the end. Throws KeyFormatError for any other constraint, WireError where cut off. */
export function readConstraints(reader: Reader): { lifetimeSeconds?: number; confirm: boolean } {
  let lifetimeSeconds: number | undefined
  let confirm = false
  while (reader.remaining > 0) {
    const type = reader.u8()
    if (type === constraintNumbers.lifetime && lifetimeSeconds === undefined) lifetimeSeconds = reader.u32()
    else if (type === constraintNumbers.confirm && !confirm) confirm = true
    else if (type === constraintNumbers.extension) {
      throw new KeyFormatError(`key constraint ${quote(reader.text(), 80)} is not supported`)
    } else throw new KeyFormatError(`key constraint ${type} is not supported, or there twice`)
  }
  return lifetimeSeconds === undefined ? { confirm } : { lifetimeSeconds, confirm }
}

/** One end of a step: user, host, a reserved field, then key and CA flag for each key. */
function writeHop(writer: Writer, hop: DestinationHost & { user?: string }): void {
  const inner = new Writer()
    .text(hop.user ?? '')
    .text(hop.hostname)
    .text('')
  for (const { keyBlob, isAuthority } of hop.keys) inner.string(keyBlob).bool(isAuthority === true)
  writer.string(inner.bytes())
}
