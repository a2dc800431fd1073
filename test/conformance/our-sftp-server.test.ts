import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { runSftpTrials, sftpChecks } from '@sshblock/sftp/conformance'
import { MemoryBackend, NodeBackend, type SftpBackend, serveSftp } from '@sshblock/sftp/node'
import { test } from 'vitest'
import { channelPair } from '../../packages/sftp/src/channel-pair.ts'
import { tempDir } from '../support/temp-dir.ts'
import { expectConforming } from './report.ts'

function onFolder(): SftpBackend {
  const root = join(tempDir('sftp'), 'root')
  mkdirSync(root)
  return new NodeBackend({ root })
}

test.each([
  ['in memory', () => new MemoryBackend()],
  ['on a folder', onFolder],
])('our SFTP server passes every check, %s', async (_name, make) => {
  const backend = make()
  const open = async () => {
    const [ours, theirs] = channelPair()
    serveSftp(ours, backend)
    return theirs
  }
  expectConforming(await runSftpTrials({ open }, sftpChecks), [])
})
