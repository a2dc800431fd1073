// What a refusal of the storage becomes: a code that a disk's user understands, the range, and what can be done.

import { SftpStatusError } from '@sshblock/sftp'
import { ConnectionLost } from '@sshblock/transport/errors'
import { describe, expect, test } from 'vitest'
import { BlockDeviceError } from '../../packages/blockdev/src/errors.ts'
import { callError, writeError } from '../../packages/blockdev/src/layers/storage-error.ts'
import {
  type FileSystemSpace,
  NotSyncedYetError,
  OutcomeUnknownError,
} from '../../packages/blockdev/src/random-access-file.ts'
import { nbdErrorOf } from '../../packages/nbd/src/error-mapping.ts'
import { command, nbdError } from '../../packages/nbd/src/protocol.ts'
import { ScriptedFile } from './scripted-file.ts'

const failure = (text = 'Failure') => new SftpStatusError(4, text, 'WRITE', { path: '/disk.img' })
const denied = new SftpStatusError(3, 'Permission denied', 'WRITE', { path: '/disk.img' })
const range = { offset: 4096, length: 512 }

class SpacedFile extends ScriptedFile {
  asked = 0
  readonly #space: FileSystemSpace | undefined
  constructor(space: FileSystemSpace | undefined) {
    super(0)
    this.#space = space
  }
  override async space() {
    this.asked++
    return this.#space as { availableBytes: number } | undefined
  }
}

describe('a write that the server refused', () => {
  const roomy = { availableBytes: 2 ** 40 }
  const rows: [name: string, error: Error, space: FileSystemSpace | undefined, code: string, says: RegExp][] =
    [
      ['no room by fstatvfs', failure(), { availableBytes: 100 }, 'ENOSPC', /100 bytes available.*make room/],
      ['read-only by fstatvfs', failure(), { availableBytes: 0, readOnly: true }, 'EROFS', /is read-only/],
      [
        'a server that says quota',
        failure('Disk quota exceeded'),
        roomy,
        'ENOSPC',
        /quota exceeded.*raise the quota/,
      ],
      [
        'a server that says no space',
        failure('No space left on device'),
        undefined,
        'ENOSPC',
        /no space left/,
      ],
      ['no reason at all', failure(), roomy, 'EIO', /gives no reason: a disk error, a quota/],
      ['permission', denied, roomy, 'EACCES', /permissions of the file/],
    ]
  for (const [name, error, space, code, says] of rows) {
    test(`${name}: ${code}, with range, cause and what to do`, async () => {
      const made = await writeError('write', error, new SpacedFile(space), range)
      expect(made).toBeInstanceOf(BlockDeviceError)
      expect(made).toMatchObject({ code, ...range, cause: error })
      expect(made.message).toMatch(says)
    })
  }

  test('nothing is asked over a connection that is gone, and no reason is made up for it', async () => {
    const lost = new ConnectionLost('connection', 'reset')
    for (const error of [
      new OutcomeUnknownError(lost),
      new BlockDeviceError('EIO', 'no connection for 30 s'),
    ]) {
      const file = new SpacedFile({ availableBytes: 0 })
      const made = await writeError('write', error, file, range)
      expect(made.code).toBe('EIO')
      expect(made.message).not.toMatch(/gives no reason/)
      expect(file.asked).toBe(0)
    }
  })
})

test('a flush that can be tried again says so, and its cause is what failed', () => {
  const made = callError('flush', new NotSyncedYetError(failure()))
  expect(made).toMatchObject({ code: 'EIO', cause: { status: 4 } })
  expect(made.message).toMatch(/is kept, and the next flush tries again/)
})

test('NBD clients get the value that comes nearest', () => {
  const value = (code: ConstructorParameters<typeof BlockDeviceError>[0]) =>
    nbdErrorOf(new BlockDeviceError(code, ''), command.write)
  expect(value('ENOSPC')).toBe(nbdError.enospc)
  expect(value('EROFS')).toBe(nbdError.eperm)
  expect(value('EACCES')).toBe(nbdError.eperm)
  expect(value('EIO')).toBe(nbdError.eio)
  expect(value('ESHUTDOWN')).toBe(nbdError.eshutdown)
})
