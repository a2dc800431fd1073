// What many checks of files expect: a status, some data, the content of a file.

import { Unexpected } from '@sshblock/transport/conformance'
import { equalBytes } from '@sshblock/transport/wire'
import { openFlag } from '../messages/open-flags.ts'
import { statusCode, statusName } from '../messages/status.ts'
import { bytesOf, type ScriptedSftp, textOf } from './scripted-sftp.ts'

/** What most files of the checks hold. */
export const hello: Uint8Array = bytesOf('hello, world')

/** A status other than OK, in words. @throws Unexpected */
export function refusal(code: number): string {
  if (code === statusCode.ok) throw new Unexpected('a refusal', 'STATUS OK')
  return `STATUS ${statusName(code)}`
}

/** One status, by its name. @throws Unexpected */
export function expectCode(code: number, wanted: number, what: string): void {
  if (code !== wanted) throw new Unexpected(`${statusName(wanted)} for ${what}`, statusName(code))
}

/** What READ gave must be these bytes. @throws Unexpected */
export function expectData(came: Uint8Array | number, wanted: Uint8Array): void {
  if (typeof came === 'number') throw new Unexpected(`${wanted.length} bytes`, `STATUS ${statusName(came)}`)
  if (!equalBytes(came, wanted))
    throw new Unexpected(
      JSON.stringify(textOf(wanted.subarray(0, 40))),
      JSON.stringify(textOf(came.subarray(0, 40))),
    )
}

/** Everything in a file. @throws Unexpected */
export async function content(sftp: ScriptedSftp, path: string): Promise<Uint8Array> {
  const handle = await sftp.open(path, openFlag.read)
  const came = await sftp.read(handle, 0, 30_000)
  await sftp.close(handle)
  if (typeof came === 'number') {
    expectCode(came, statusCode.eof, 'an empty file')
    return new Uint8Array(0)
  }
  return came
}
