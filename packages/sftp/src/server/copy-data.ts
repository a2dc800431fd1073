// copy-data (draft-ietf-secsh-filexfer-extensions-00 s7): copies between two open files without a trip to the client.
// A copy of a file onto an overlapping range of itself would read what it wrote, and grow for ever where it goes "to the
// end": refused, by identity of the file and not by its name, as links and two handles of one file exist.

import { BackendError } from '../backend.ts'
import * as extended from '../messages/extended.ts'
import { statusCode } from '../messages/status.ts'
import type { OpenFile } from './open-handle.ts'
import { fileOf, type OperationContext, observe, type Request } from './operations.ts'
import { RequestRefused } from './status-of.ts'

const pieceBytes = 262_144
/** Bytes copied before others get their turn, where the back end answers at once. */
const bytesPerTurn = 16 * 1024 * 1024

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0))
}

/** Whether two ranges of one length share a byte. */
function overlap(from: number, to: number, length: number): boolean {
  return Math.abs(from - to) < length
}

async function checkOverlap(
  from: OpenFile,
  fromOffset: number,
  to: OpenFile,
  toOffset: number,
  length: number,
): Promise<void> {
  const same = from === to || (await from.file.sameFile(to.file))
  if (!same) return
  if (length === 0 || to.flags.append || overlap(fromOffset, toOffset, length)) {
    throw new RequestRefused(statusCode.failure, 'Source and destination overlap')
  }
}

export async function copyData(context: OperationContext, request: Request, data: Uint8Array): Promise<void> {
  const fields = extended.copyData.decode(data)
  const from = fileOf(context, fields.readFromHandle)
  const to = fileOf(context, fields.writeToHandle)
  const { readFromOffset, readDataLength, writeToOffset } = fields
  observe(context, { name: 'copy-data', path: from.path, target: to.path })
  await checkOverlap(from, readFromOffset, to, writeToOffset, readDataLength)
  const toEnd = readDataLength === 0
  const { pool } = context.core
  const buffer = pool.take(toEnd ? pieceBytes : Math.min(pieceBytes, readDataLength))
  let done = 0
  let untilTurn = bytesPerTurn
  try {
    while (toEnd || done < readDataLength) {
      if (context.isClosed) throw new BackendError('EINTR')
      const length = toEnd ? buffer.length : Math.min(buffer.length, readDataLength - done)
      const count = await from.file.read(readFromOffset + done, buffer.subarray(0, length))
      if (count === 0) break
      await to.file.write(writeToOffset + done, buffer.subarray(0, count))
      from.bytesRead += count
      to.bytesWritten += count
      done += count
      if ((untilTurn -= count) <= 0) {
        untilTurn = bytesPerTurn
        await nextTurn()
      }
    }
  } finally {
    pool.give(buffer)
  }
  // As OpenSSH: a source that ends before the length asked for is EOF, what was copied stays.
  if (!toEnd && done < readDataLength) throw new RequestRefused(statusCode.eof, 'End of file')
  context.core.ok(request)
}
