// What @sshblock/sftp offers everywhere: the client, the server and its in-memory back end. Entry points: node.ts adds local
// files, pipes and the back end on node:fs, browser.ts is this.

export type { ByteChannel, ByteReceiver } from '@sshblock/transport/byte-channel'
export {
  type AttributeChanges,
  type Awaitable,
  type BackendDirectory,
  type BackendEntry,
  BackendError,
  type BackendFile,
  type BackendOpenFlags,
  type FileStat,
  type FileSystemStat,
  type SftpBackend,
} from './backend.ts'
export {
  channelsForUpload,
  type SubsystemOpener,
  sftpChannels,
  takesRequestsBehindInit,
} from './channel-opener.ts'
export { type ChannelPairOptions, channelPair } from './channel-pair.ts'
export {
  type MakeDirectoryOptions,
  type OpenOptions,
  type RenameOptions,
  SftpClient,
  type WriteFileOptions,
} from './client.ts'
export type { CallOptions, Clock, SftpClientOptions, SftpTraceEvent } from './client-session.ts'
export { SftpClientError } from './core/client-error.ts'
export type { SftpLimits } from './core/peer-limits.ts'
export {
  type DirectoryEntry,
  joinPath,
  type ReadDirectoryOptions,
  type WalkEntry,
  type WalkOptions,
} from './directory.ts'
export {
  SftpProtocolError,
  SftpStatusError,
  type SftpSubject,
  SftpTransferError,
  type TransferProblem,
} from './errors.ts'
export type { CopySource, CopyTarget, DeviceSession, UserAndGroupNames } from './extension-calls.ts'
export { RemoteFile, type StartedWrite } from './file.ts'
export { MemoryBackend, type MemoryBackendOptions } from './memory-backend.ts'
export type { Attributes, ExtendedAttribute, FileType } from './messages/attributes.ts'
export * as messages from './messages/index.ts'
export type { OpenFlags, OpenMode } from './open-mode.ts'
export { pathBytes, pathText } from './path-text.ts'
export type { RemoveOptions } from './remove.ts'
export type { FileSystemStats } from './request-forms.ts'
export { requestNames } from './server/request-names.ts'
export { SessionEpochs } from './server/session-epochs.ts'
export {
  type ObservedHandle,
  type ObservedRequest,
  type SftpServerObserver,
  type SftpServerOptions,
  type SftpServerOutcome,
  type SftpServerSession,
  type SftpServerStatistics,
  serveSftp,
} from './server.ts'
export { Stats } from './stats.ts'
export type {
  GetOptions,
  PutOptions,
  ReadFileOptions,
  TransferOptions,
  TransferProgress,
  TransferResult,
  TransferSink,
  TransferSource,
} from './transfer.ts'
export type { LaneClient, LaneOptions } from './transfer-lanes.ts'
export { isConnectionLoss, type LostTransfer, type RetryOptions } from './transfer-retry.ts'
export type { ReadStreamOptions, WriteStreamOptions } from './transfer-streams.ts'
