// Certificates made by ssh-keygen -s, for the tests.

import { copyFileSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Certificate, certificateFromText } from '../../../packages/transport/src/keys/certificate.ts'
import type { KeyPair } from '../../support/keys.ts'
import { runOrThrow } from '../../support/program.ts'
import { tempDir } from '../../support/temp-dir.ts'

/**
 * Has `ca` certify `subject`.
 * @param args options of ssh-keygen -s: -h, -n names, -V validity, -O option, -t algorithm, -z serial
 */
export async function certify(
  ca: KeyPair,
  subject: { publicFile: string },
  args: readonly string[],
): Promise<Certificate> {
  return certificateFromText(readFileSync(await certifyFile(ca, subject, args), 'utf8')).certificate
}

/** The same, as the path of the '-cert.pub' file. */
export async function certifyFile(
  ca: KeyPair,
  subject: { publicFile: string },
  args: readonly string[],
): Promise<string> {
  const dir = tempDir('certificate')
  copyFileSync(subject.publicFile, join(dir, 'key.pub'))
  await runOrThrow('ssh-keygen', ['-q', '-s', ca.privateFile, '-I', 'the id', ...args, join(dir, 'key.pub')])
  return join(dir, 'key-cert.pub')
}
