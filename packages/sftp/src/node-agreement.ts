// Whether what is there of a copy is what was sent: compared in samples, or byte by byte.

import type { FileHandle } from 'node:fs/promises'
import { equalBytes } from '@sshblock/transport/wire'
import type { RemoteFile } from './file.ts'
import { readLocal } from './node-local-file.ts'

/** The end of what is kept is where an interruption shows: compared in full. */
const overlapBytes = 1024 * 1024
/** Samples compared elsewhere, evenly spread, and the bytes of each. */
const sampleCount = 16
const sampleBytes = 32 * 1024
const compareBytes = 1024 * 1024

export type Agreement = (
  local: FileHandle,
  remote: RemoteFile,
  length: number,
  signal: AbortSignal | undefined,
) => Promise<boolean>

/** The last part of the first `length` bytes in full, and samples of the rest. */
export const samplesAgree: Agreement = async (local, remote, length, signal) => {
  const tail = Math.min(length, overlapBytes)
  if (!(await rangeAgrees(local, remote, length - tail, tail, signal))) return false
  const rest = length - tail
  const samples: Promise<boolean>[] = []
  for (let index = 0; index < sampleCount && rest > 0; index++) {
    const offset = Math.floor((rest * index) / sampleCount)
    samples.push(rangeAgrees(local, remote, offset, Math.min(sampleBytes, rest - offset), signal))
  }
  return (await Promise.all(samples)).every((agrees) => agrees)
}

/** All of the first `length` bytes. */
export const allAgrees: Agreement = async (local, remote, length, signal) => {
  for (let at = 0; at < length; at += compareBytes) {
    if (!(await rangeAgrees(local, remote, at, Math.min(compareBytes, length - at), signal))) return false
  }
  return true
}

async function rangeAgrees(
  local: FileHandle,
  remote: RemoteFile,
  offset: number,
  length: number,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  const ours = new Uint8Array(length)
  const theirs = new Uint8Array(length)
  const counts = await Promise.all([readLocal(local, ours, offset), remote.read(offset, theirs, { signal })])
  return counts.every((count) => count === length) && equalBytes(ours, theirs)
}
