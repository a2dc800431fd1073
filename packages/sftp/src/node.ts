// @sshblock/sftp in Node: everything, with local files, trees and processes.

export * from './index.ts'
export { type Containment, NodeBackend, type NodeBackendOptions, userRoot } from './node-backend.ts'
export { getFile } from './node-download.ts'
export { type PipeOptions, pipeChannel, type SftpServerProcess, spawnSftpServer } from './node-pipe.ts'
export { getFileResuming, putFileResuming } from './node-resume.ts'
export type { ResumingTransferOptions, ResumingTransferResult } from './node-resuming-options.ts'
export { type LogLevel, logLevels } from './node-stdio-options.ts'
export { loggingObserver, runStdioServer } from './node-stdio-server.ts'
export type { FileTransferOptions, FileTransferResult } from './node-transfer-options.ts'
export type { TreeRetryOptions } from './node-tree-connection.ts'
export { getTree, putTree, type SkippedEntry, type TreeOptions, type TreeResult } from './node-trees.ts'
export { putFile } from './node-upload.ts'
