// OpenSSH's PROTOCOL.sshsig, as far as it lets ssh-keygen -Y sign and verify the signatures of our tests.

import { createHash } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { formatPem, readPem } from '../../../packages/transport/src/keys/pem.ts'
import { formatPublicKey } from '../../../packages/transport/src/keys/public-key.ts'
import { toBase64, utf8Bytes } from '../../../packages/transport/src/wire/bytes.ts'
import { Reader } from '../../../packages/transport/src/wire/reader.ts'
import { Writer } from '../../../packages/transport/src/wire/writer.ts'
import { run, runOrThrow } from '../../support/program.ts'
import { tempDir } from '../../support/temp-dir.ts'

const namespace = 'test'
const magic = utf8Bytes('SSHSIG')

/** The bytes that a key signs for a message. */
export function signedData(message: Uint8Array): Uint8Array {
  const hash = createHash('sha512').update(message).digest()
  return new Writer().raw(magic).text(namespace).text('').text('sha512').string(hash).copy()
}

/** Whether `ssh-keygen -Y verify` takes a signature blob over `signedData(message)` as one of that key. */
export async function opensshVerifies(
  key: { type: string; blob: Uint8Array },
  message: Uint8Array,
  signature: Uint8Array,
  options = '',
): Promise<boolean> {
  const dir = tempDir('sshsig')
  const file = new Writer()
    .raw(magic)
    .u32(1)
    .string(key.blob)
    .text(namespace)
    .text('')
    .text('sha512')
    .string(signature)
  writeFileSync(join(dir, 'signature'), formatPem('SSH SIGNATURE', toBase64(file.bytes())))
  writeFileSync(join(dir, 'allowed'), `somebody ${options} ${formatPublicKey(key)}\n`)
  const args = [
    '-Y',
    'verify',
    '-f',
    join(dir, 'allowed'),
    '-I',
    'somebody',
    '-n',
    namespace,
    '-s',
    join(dir, 'signature'),
  ]
  return (await run('ssh-keygen', args, { input: message })).code === 0
}

/** The signature blob that `ssh-keygen -Y sign` makes over `signedData(message)`. */
export async function opensshSigns(privateFile: string, message: Uint8Array): Promise<Uint8Array> {
  const { stdout } = await runOrThrow(
    'ssh-keygen',
    ['-Y', 'sign', '-q', '-f', privateFile, '-n', namespace],
    { input: message },
  )
  const reader = new Reader(readPem(stdout).body)
  reader.raw(6)
  reader.u32()
  for (let i = 0; i < 4; i++) reader.string()
  return reader.string().slice()
}
