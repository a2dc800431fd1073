// Whether it is the same file that is open again after a loss (R7, R8): its kind, its size, and in samples its content.

import type { ContentSamples } from './content-samples.ts'
import { IdentityError } from './errors.ts'
import type { Lane } from './host.ts'
import type { ImageSize } from './image-size.ts'

/** @throws IdentityError where it is another file, or nothing is known by which it could be told from one. */
export async function checkIdentity(
  lane: Lane,
  size: ImageSize,
  samples: ContentSamples,
  onWarning: (message: string) => void,
): Promise<void> {
  const { kind, bytes, isSetUnsynced } = size
  const status = await lane.status()
  if (status.kind !== kind)
    throw new IdentityError(`the image is a ${status.kind} now, and was a ${kind} when it was opened`)
  if (bytes !== undefined && status.size !== undefined) {
    size.check(status.size)
    if (status.size > bytes && !isSetUnsynced)
      onWarning(
        `the file became longer: it has ${status.size} bytes, and had ${bytes}; the rest is left alone`,
      )
  }
  if (!samples.proves && kind === 'file' && (bytes ?? 0) > 0)
    throw new IdentityError(
      'the connection was lost before anything of the file was seen by which it could be told from another one',
    )
  const difference = await samples.firstDifference((offset, into) => lane.read(offset, into))
  if (difference !== undefined)
    throw new IdentityError(
      `the file is not the one that was opened: its content differs at byte ${difference}; it was replaced, or changed by somebody else`,
    )
}
