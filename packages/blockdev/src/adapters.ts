/**
 * Block devices for others: in another thread, as a hard disk of the v86 emulator, as a disk of balena's `file-disk`, and
 * a cache of large blocks for readers that ask for little at a time. Host-independent.
 */
export {
  BlockCache,
  type BlockCacheOptions,
  type BlockFetch,
  type ReadableBlocks,
} from './adapters/block-cache.ts'
export type { DevicePort } from './adapters/device-port.ts'
export { type FileDiskClass, type FileDiskOptions, toFileDisk } from './adapters/file-disk.ts'
export { deviceFromPort, type PortDevice } from './adapters/port-device.ts'
export { serveDevice } from './adapters/serve-device.ts'
export {
  type CommitOptions,
  type CommitProgress,
  toV86Disk,
  type V86Disk,
  type V86DiskOptions,
} from './adapters/v86-disk.ts'
