// A block device as a disk of balena's `file-disk` (version 8), which partitioninfo, ext2fs, balena-image-fs and others read.
// The package is not ours to depend on: its class `Disk` is handed in. Those libraries send one small request per block, so
// reads go through a cache; writes go to the device and into the cache.

import type { BlockDevice } from '../device.ts'
import { BlockCache, type BlockCacheOptions } from './block-cache.ts'

/** The abstract class `Disk` of the package file-disk. */
// biome-ignore lint/suspicious/noExplicitAny: the constructor of a class that is derived from must be written so
export type FileDiskClass<D> = abstract new (...options: any[]) => D

export interface FileDiskOptions extends BlockCacheOptions {
  /** A cache that others share, of this device; the cache's options are not used then. */
  cache?: BlockCache
}

/**
 * Makes a disk for `file-disk`'s users.
 *
 *     import { Disk } from 'file-disk'
 *     await partitioninfo.getPartitions(toFileDisk(Disk, device))
 *
 * @param Disk the class of that package
 * @returns an instance of it; the device stays the caller's. Discards stay with file-disk, which only notes them, and its
 *   capacity is the device's when it was first asked for.
 */
export function toFileDisk<D extends object>(
  Disk: FileDiskClass<D>,
  device: BlockDevice,
  options: FileDiskOptions = {},
): D {
  const cache = options.cache ?? new BlockCache(device, options)
  const Base = Disk as FileDiskClass<object>

  class DeviceDisk extends Base {
    constructor() {
      // readOnly, recordWrites, recordReads, discardIsZero
      super(device.readOnly, false, false, false)
    }

    async _getCapacity(): Promise<number> {
      return device.size
    }

    async _read<B extends Uint8Array>(
      buffer: B,
      bufferOffset: number,
      length: number,
      fileOffset: number,
    ): Promise<{ bytesRead: number; buffer: B }> {
      const bytesRead = Math.max(0, Math.min(length, device.size - fileOffset))
      await cache.read(fileOffset, buffer.subarray(bufferOffset, bufferOffset + bytesRead))
      return { bytesRead, buffer }
    }

    async _write<B extends Uint8Array>(
      buffer: B,
      bufferOffset: number,
      length: number,
      fileOffset: number,
    ): Promise<{ bytesWritten: number; buffer: B }> {
      const bytes = buffer.subarray(bufferOffset, bufferOffset + length)
      await device.write(fileOffset, bytes)
      cache.replace(fileOffset, bytes)
      return { bytesWritten: length, buffer }
    }

    async _flush(): Promise<void> {
      await device.flush()
    }
  }
  return new DeviceDisk() as D
}
