// @sshblock/transport/node-memory: giving the memory of large buffers back early, in Node.

export { releaseMemory } from './crypto/node-release.ts'
