// What is more than a request or a few: transfers of whole files, streams, trees, patterns.

export { removeTree } from './remove.ts'
export { download, readWholeFile, upload } from './transfer.ts'
export { fileChunks } from './transfer-chunks.ts'
export { FileSink } from './transfer-file-sink.ts'
export { globTree, walkTree } from './tree-walk.ts'
