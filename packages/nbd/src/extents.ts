// From what a device knows about holes to what NBD says about them: the chunks of a READ ("Structured replies" under
// NBD_CMD_READ) and the descriptors of a BLOCK_STATUS ("base:allocation metadata context"). Pure; what a device says is
// clamped to the question, and where it says nothing there is data.

import type { Extent } from '@sshblock/blockdev'
import { maxReadPieceBytes, maxStatusDescriptors, minHoleBytes, statusWindowBytes } from './limits.ts'
import { baseAllocation } from './protocol.ts'

/** Answers what is known about a range; BlockDevice.extents. */
export type ExtentSource = (offset: number, length: number) => readonly Extent[]

/** A stretch of a READ that becomes one chunk. */
export interface ReadPiece {
  readonly offset: number
  readonly length: number
  readonly zero: boolean
}

/** Calls `visit` with stretches in order that cover the range without gap or overlap, whatever `extents` says. */
function cover(
  offset: number,
  length: number,
  extents: readonly Extent[],
  visit: (offset: number, length: number, zero: boolean) => void,
): void {
  const end = offset + length
  let at = offset
  for (const extent of extents) {
    if (at >= end) break
    const start = Math.max(extent.offset, at)
    const stop = Math.min(extent.offset + extent.length, end)
    if (stop <= start) continue
    if (start > at) visit(at, start - at, false)
    visit(start, stop - start, extent.zero)
    at = stop
  }
  if (at < end) visit(at, end - at, false)
}

/** Whether the whole range is known to read as zeros. */
export function isKnownZero(offset: number, length: number, extents: readonly Extent[]): boolean {
  let allZero = true
  cover(offset, length, extents, (_offset, _length, zero) => {
    if (!zero) allZero = false
  })
  return allZero
}

/** Splits a READ into pieces that cover it: known zeros of some length as holes, data in pieces of bounded size. */
export function planRead(offset: number, length: number, extents: readonly Extent[]): ReadPiece[] {
  const merged: { offset: number; length: number; zero: boolean }[] = []
  cover(offset, length, extents, (start, bytes, known) => {
    const last = merged.at(-1)
    if (last !== undefined && last.zero === known) last.length += bytes
    else merged.push({ offset: start, length: bytes, zero: known })
  })
  // Second pass, when neighbouring zeros are one: short ones are data, joined to the data around them.
  const pieces: ReadPiece[] = []
  let dataAt = offset
  for (const stretch of merged) {
    if (!stretch.zero || stretch.length < minHoleBytes) continue
    pushData(pieces, dataAt, stretch.offset)
    pieces.push(stretch)
    dataAt = stretch.offset + stretch.length
  }
  pushData(pieces, dataAt, offset + length)
  return pieces
}

/** Data from `start` to `end`, cut at multiples of the piece size so that the device sees aligned reads. */
function pushData(pieces: ReadPiece[], start: number, end: number): void {
  let at = start
  while (at < end) {
    const cut = Math.min(end, at - (at % maxReadPieceBytes) + maxReadPieceBytes)
    pieces.push({ offset: at, length: cut - at, zero: false })
    at = cut
  }
}

/**
 * Descriptors of a BLOCK_STATUS reply: pairs of length in bytes and status flags, neighbours different, together at most
 * `length` bytes and at least one descriptor.
 * @param one NBD_CMD_FLAG_REQ_ONE
 */
export function blockStatus(source: ExtentSource, offset: number, length: number, one: boolean): number[] {
  const pairs: number[] = []
  const maxPairs = one ? 1 : maxStatusDescriptors
  const end = offset + length
  let full = false
  for (let at = offset; at < end && !full; at += statusWindowBytes) {
    const window = Math.min(statusWindowBytes, end - at)
    cover(at, window, source(at, window), (_offset, bytes, zero) => {
      const status = zero ? baseAllocation.hole | baseAllocation.zero : 0
      const count = pairs.length
      if (full) return
      if (count > 0 && pairs[count - 1] === status) pairs[count - 2]! += bytes
      else if (count < 2 * maxPairs) pairs.push(bytes, status)
      else full = true
    })
  }
  return pairs
}
