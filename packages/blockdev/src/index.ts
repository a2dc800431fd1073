/**
 * A disk image as a block device, host-independent part: the device and its layers, locations, the memory device, disks on
 * any SFTP client, and the SSH driver for whoever brings a way to connect. Node adds openBlockDevice and local files
 * (`@sshblock/blockdev/node`).
 */

export {
  type CompareImagesOptions,
  type CopyImageOptions,
  type CopyImageResult,
  type CopyProgress,
  copyImage,
  copySegmentBytes,
  firstDifference,
  resumePoint,
  startsAlike,
} from './copy-image.ts'
export type { BlockDevice, CallOptions, Extent, WriteOptions } from './device.ts'
export { readRange, type WriteRangeOptions, writeRange } from './device-streams.ts'
export { BlockDeviceError, type BlockDeviceErrorCode, LocationError } from './errors.ts'
export { FileDevice } from './file-device.ts'
export type { DeviceBehaviour, DeviceStats, FileDeviceOptions } from './file-device-options.ts'
export {
  formatHostKeyCheck,
  type HashType,
  type HostKeyCheck,
  parseHostKeyCheck,
  parseStructuredHostKeyCheck,
} from './host-key-check.ts'
export type {
  Clock,
  ConnectionBehaviour,
  ConnectionEvent,
  ConnectionInfo,
  ConnectionState,
  FenceProof,
  OnLoss,
} from './image/options.ts'
export type { FlushPolicy } from './layers/flush-barrier.ts'
export type { ReadAheadOptions, ReadAheadStats } from './layers/read-ahead.ts'
export type { ZeroCopier } from './layers/zeroing.ts'
export {
  type FlatLocation,
  formatLocation,
  formatLocationJson,
  formatLocationUri,
  type Location,
  type LocationInput,
  type LocationJson,
  type ParseOptions,
  parseLocation,
  type StructuredLocation,
} from './location.ts'
export { MemoryDevice, type MemoryDeviceOptions } from './memory-device.ts'
export {
  type AccessOptions,
  type FileKind,
  type FileStatus,
  type FileSystemSpace,
  OutcomeUnknownError,
  type RandomAccessFile,
} from './random-access-file.ts'
export type { CommandResult, SftpChannel, SftpConnection, SftpConnector } from './sftp-connector.ts'
export {
  type ConnectorOptions,
  type CreateOnConnectorOptions,
  createDeviceOnConnector,
  type OpenOnConnectorOptions,
  openDeviceOnConnector,
} from './sftp-connector-device.ts'
export {
  type CreateOptions,
  createDeviceOnSftp,
  type DeviceInfo,
  openDeviceOnSftp,
  type ServerInfo,
  SftpDevice,
  type SftpDeviceOptions,
} from './sftp-device.ts'
export {
  type ConnectionOptions,
  type ConnectTarget,
  type CreateBlockDeviceOptions,
  createSshDevice,
  type DriverHost,
  type DriverSession,
  type OpenBlockDeviceOptions,
  openSshDevice,
} from './ssh-driver.ts'
