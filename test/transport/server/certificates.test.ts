// User certificates (OpenSSH PROTOCOL.certkeys) made by ssh-keygen, and signatures of security keys (PROTOCOL.u2f), shown to
// our server by a client that sends what it is told.

import { copyFileSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Login, ServerAuthPolicy, ServerOptions, Signer } from '@sshblock/transport'
import {
  certificateFromText,
  nodeCrypto,
  parsePrivateKey,
  publicKeyFromText,
  signerFromPrivateKey,
  systemRandom,
} from '@sshblock/transport'
import { beforeAll, describe, expect, test } from 'vitest'
import { admitCertificate } from '../../../packages/transport/src/auth/user-certificate.ts'
import { generateKeyPair } from '../../../packages/transport/src/keys/generate.ts'
import { concat, toBase64 } from '../../../packages/transport/src/wire/bytes.ts'
import { Reader } from '../../../packages/transport/src/wire/reader.ts'
import { Writer } from '../../../packages/transport/src/wire/writer.ts'
import type { KeyPair, KeyType } from '../../support/keys.ts'
import { clientKey, hostKey } from '../../support/keys.ts'
import { needsOpensshClient } from '../../support/openssh-client.ts'
import { runOrThrow } from '../../support/program.ts'
import { describeWith } from '../../support/requirements.ts'
import { tempDir } from '../../support/temp-dir.ts'
import { RawClient, said, serve } from './raw-client.ts'

async function attempt(
  user: string,
  signer: Signer,
  auth: ServerAuthPolicy,
  options: Partial<ServerOptions> = {},
  address = '192.0.2.7',
): Promise<{ answer: string; query: string; login: Login | undefined; reason: string | undefined }> {
  let reason: string | undefined
  const onEvent: ServerOptions['onEvent'] = (event) => {
    if (event.type === 'login-attempt') reason = event.reason
  }
  const { duplex, connection } = serve(
    { auth: { refusalFloorMs: 0, ...auth }, announceHostKeys: false, onEvent, ...options },
    address,
  )
  const client = new RawClient(duplex)
  await client.service()
  const query = said(await client.query(user, signer))
  const answer = said(await client.sign(user, signer))
  client.close()
  return { answer, query, login: connection.login, reason }
}

describeWith([needsOpensshClient()], 'user certificates by ssh-keygen', () => {
  let ca: KeyPair
  let otherCa: KeyPair

  beforeAll(async () => {
    ca = await hostKey('ecdsa-256')
    otherCa = await hostKey('ed25519')
  })

  async function certificate(
    args: readonly string[],
    options: { ca?: KeyPair; type?: KeyType } = {},
  ): Promise<Signer> {
    const key = await clientKey(options.type ?? 'ed25519')
    const file = join(tempDir('certificate'), 'key')
    copyFileSync(key.publicFile, `${file}.pub`)
    await runOrThrow('ssh-keygen', [
      '-q',
      '-s',
      (options.ca ?? ca).privateFile,
      '-I',
      'the id',
      ...args,
      `${file}.pub`,
    ])
    const { certificate: shown } = certificateFromText(readFileSync(`${file}-cert.pub`, 'utf8'))
    return signerFromPrivateKey(
      nodeCrypto,
      await parsePrivateKey(nodeCrypto, readFileSync(key.privateFile)),
      { certificate: shown },
    )
  }

  const trusting = (...pairs: KeyPair[]): ServerAuthPolicy => ({
    trustedUserCas: pairs.map((pair) => publicKeyFromText(pair.publicLine).publicKey),
  })
  const caLine = (options = ''): ServerAuthPolicy => ({
    authorizedKeys: () => `cert-authority${options} ${ca.publicLine}`,
  })

  test.each(['ed25519', 'ecdsa-256', 'ecdsa-384', 'ecdsa-521', 'rsa-2048'] as const)(
    'a certificate of a %s key by a trusted CA lets in its principal',
    async (type) => {
      const signer = await certificate(['-n', 'ann'], { type })
      const { answer, query, login } = await attempt('ann', signer, trusting(ca))
      expect([query, answer]).toEqual(['message 60', 'success'])
      expect(login?.methods[0]).toMatchObject({
        method: 'publickey',
        certificate: { keyId: 'the id', principals: ['ann'] },
      })
    },
  )

  test.each(['rsa-2048', 'ecdsa-384', 'ed25519'] as const)('a CA of type %s is as good', async (type) => {
    const pair = await hostKey(type)
    expect(
      (await attempt('ann', await certificate(['-n', 'ann'], { ca: pair }), trusting(pair))).answer,
    ).toBe('success')
  })

  test.each([
    ['another user', ['-n', 'bob'], /principals/],
    ['nobody: no principal at all', [], /principals/],
    ['one principal "ann bob", which only begins with the name', ['-n', 'ann bob'], /principals/],
    ['a time that is over', ['-n', 'ann', '-V', '20200101:20200201'], /expired/],
    ['a time to come', ['-n', 'ann', '-V', '+1d:+2d'], /not valid before/],
    ['a host', ['-h', '-n', 'ann'], /host certificate/],
    ['an unknown critical option', ['-n', 'ann', '-O', 'critical:no-such@example.com'], /critical option/],
    ['another address', ['-n', 'ann', '-O', 'source-address=10.0.0.0/8'], /source-address/],
  ])('a certificate for %s is refused, also as a question', async (_, args, reason) => {
    const found = await attempt('ann', await certificate(args), trusting(ca))
    expect([found.query, found.answer]).toEqual(['failure publickey', 'failure publickey'])
    expect(found.reason).toMatch(reason)
  })

  test('a certificate of an unknown CA is refused, and the certified key alone is not asked about', async () => {
    const signer = await certificate(['-n', 'ann'], { ca: otherCa })
    expect((await attempt('ann', signer, trusting(ca))).answer).toBe('failure publickey')
    const key = await clientKey('ed25519')
    expect((await attempt('ann', signer, { authorizedKeys: () => key.publicLine })).answer).toBe(
      'failure publickey',
    )
    expect((await attempt('ann', signer, { authorizedKeys: () => otherCa.publicLine })).answer).toBe(
      'failure publickey',
    )
  })

  test('a principal with a comma is one name, not two', async () => {
    const { certificate: shown } = await certificate(['-n', 'ann'])
    const now = Date.now()
    const admit = (principals: string[], wanted: string[]) =>
      admitCertificate(nodeCrypto, { ...shown!, principals }, wanted, now)
    expect(await admit(['ann,bob'], ['ann'])).toHaveProperty('refusal')
    expect(await admit(['ann,bob'], ['bob', 'ann'])).toHaveProperty('refusal')
    expect(await admit(['x', 'ann'], ['bob', 'ann'])).toHaveProperty('restrictions')
  })

  test('a certificate with a wrong signature of the CA is refused', async () => {
    const signer = await certificate(['-n', 'ann'])
    const blob = signer.publicKeyBlob.slice()
    blob[blob.length - 3]! ^= 1
    expect((await attempt('ann', { ...signer, publicKeyBlob: blob }, trusting(ca))).answer).toBe(
      'failure publickey',
    )
  })

  test('authorized principals take the place of the name', async () => {
    const policy = {
      ...trusting(ca),
      authorizedPrincipals: (user: string) => (user === 'ann' ? ['admins', 'ops'] : []),
    }
    expect((await attempt('ann', await certificate(['-n', 'ops,x']), policy)).answer).toBe('success')
    expect((await attempt('ann', await certificate(['-n', 'ann']), policy)).answer).toBe('failure publickey')
    expect((await attempt('bob', await certificate(['-n', 'bob']), policy)).answer).toBe('failure publickey')
  })

  test('a cert-authority line lets in its principals, or the user by name', async () => {
    expect((await attempt('ann', await certificate(['-n', 'ann']), caLine())).answer).toBe('success')
    expect((await attempt('ann', await certificate(['-n', 'ops']), caLine())).answer).toBe(
      'failure publickey',
    )
    expect(
      (await attempt('ann', await certificate(['-n', 'ops']), caLine(',principals="x,ops"'))).answer,
    ).toBe('success')
    expect(
      (await attempt('ann', await certificate(['-n', 'ann']), caLine(',principals="x,ops"'))).answer,
    ).toBe('failure publickey')
    expect((await attempt('ann', await certificate([]), caLine())).answer).toBe('failure publickey')
  })

  test('permissions are what certificate and line both give', async () => {
    const plain = await certificate(['-n', 'ann'])
    expect((await attempt('ann', plain, trusting(ca))).login?.permissions).toMatchObject({
      pty: true,
      portForwarding: true,
      command: undefined,
    })
    const bare = await certificate(['-n', 'ann', '-O', 'clear', '-O', 'permit-port-forwarding'])
    expect((await attempt('ann', bare, trusting(ca))).login?.permissions).toMatchObject({
      pty: false,
      portForwarding: true,
      agentForwarding: false,
      x11Forwarding: false,
      userRc: false,
    })
    expect((await attempt('ann', bare, caLine(',no-port-forwarding'))).login?.permissions).toMatchObject({
      portForwarding: false,
    })
  })

  test('a forced command of the certificate holds, and one of the line that differs shuts the door', async () => {
    const forced = await certificate(['-n', 'ann', '-O', 'force-command=backup --all'])
    expect((await attempt('ann', forced, trusting(ca))).login?.permissions.command).toBe('backup --all')
    expect((await attempt('ann', forced, caLine(',command="backup --all"'))).answer).toBe('success')
    expect((await attempt('ann', forced, caLine(',command="other"'))).answer).toBe('failure publickey')
  })

  test('source-address of the certificate and from of the line must both admit the client', async () => {
    const local = await certificate(['-n', 'ann', '-O', 'source-address=192.0.2.0/24,10.0.0.0/8'])
    expect((await attempt('ann', local, caLine(',from="192.0.2.*"'))).answer).toBe('success')
    expect((await attempt('ann', local, caLine(',from="198.51.100.*"'))).answer).toBe('failure publickey')
    expect((await attempt('ann', local, caLine(',from="*"'), {}, '198.51.100.1')).answer).toBe(
      'failure publickey',
    )
  })

  test('the times of a certificate are looked at on the server clock', async () => {
    const signer = await certificate(['-n', 'ann', '-V', '20300101000000Z:20300201000000Z'])
    const at = async (time: number) =>
      (await attempt('ann', signer, trusting(ca), { wallClock: () => time })).answer
    expect(await at(Date.UTC(2029, 11, 31, 23, 59, 59))).toBe('failure publickey')
    expect(await at(Date.UTC(2030, 0, 1))).toBe('success')
    expect(await at(Date.UTC(2030, 0, 31, 23, 59, 59))).toBe('success')
    expect(await at(Date.UTC(2030, 1, 1))).toBe('failure publickey')
  })
})

describe('security keys', () => {
  /** An authenticator in software: signs like an sk-ecdsa key, with the flags it is told. */
  function authenticator(flags: number): { signer: Signer; line: string } {
    const key = generateKeyPair(nodeCrypto, 'ecdsa-sha2-nistp256', systemRandom)
    const inner = signerFromPrivateKey(nodeCrypto, key)
    const reader = new Reader(key.publicKey.blob)
    reader.string()
    const curve = reader.string()
    const blob = new Writer()
      .text('sk-ecdsa-sha2-nistp256@openssh.com')
      .string(curve)
      .string(reader.string())
      .text('ssh:')
      .copy()
    const sign = (algorithm: string, data: Uint8Array): Uint8Array => {
      const sha256 = (bytes: Uint8Array) => nodeCrypto.digest('sha256', bytes)
      const wrapped = concat(
        sha256(new TextEncoder().encode('ssh:')),
        Uint8Array.of(flags, 0, 0, 0, 9),
        sha256(data),
      )
      const plain = new Reader(inner.sign('ecdsa-sha2-nistp256', wrapped) as Uint8Array)
      plain.string()
      return new Writer().text(algorithm).string(plain.string()).u8(flags).u32(9).copy()
    }
    const algorithms = ['sk-ecdsa-sha2-nistp256@openssh.com']
    return {
      signer: { publicKeyBlob: blob, keyType: algorithms[0]!, algorithms, comment: '', sign },
      line: `${algorithms[0]} ${toBase64(blob)}`,
    }
  }

  test.each([
    ['a touch', 0x01, '', 'success'],
    ['no touch', 0x00, '', 'failure publickey'],
    ['no touch where none is needed', 0x00, 'no-touch-required', 'success'],
    ['a touch where the user must be verified', 0x01, 'verify-required', 'failure publickey'],
    ['a verified user where that is needed', 0x05, 'verify-required', 'success'],
    ['a verified user who did not touch', 0x04, 'verify-required', 'failure publickey'],
  ])('%s: flags %i, options "%s": %s', async (_, flags, options, expected) => {
    const { signer, line } = authenticator(flags)
    expect((await attempt('ann', signer, { authorizedKeys: () => `${options} ${line}` })).answer).toBe(
      expected,
    )
  })

  test('a restriction by the account can demand verification as well', async () => {
    const { signer, line } = authenticator(0x01)
    const policy = { authorizedKeys: () => line, account: () => ({ verifyRequired: true }) }
    expect((await attempt('ann', signer, policy)).answer).toBe('failure publickey')
  })

  test('an account that says nothing about touches leaves a waved touch waved', async () => {
    const { signer, line } = authenticator(0x00)
    const policy = { authorizedKeys: () => `no-touch-required ${line}`, account: () => ({ pty: false }) }
    expect((await attempt('ann', signer, policy)).answer).toBe('success')
  })

  test('an account cannot wave the touch that a line did not wave', async () => {
    const { signer, line } = authenticator(0x00)
    const policy = { authorizedKeys: () => line, account: () => ({ touchRequired: false }) }
    expect((await attempt('ann', signer, policy)).answer).toBe('failure publickey')
  })
})
