import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { ClientProgram } from '../../conformance/src/client-command.ts'
import { readOptions } from '../../conformance/src/options.ts'
import { runAgainstServer } from '../../conformance/src/server-run.ts'
import { clientKey } from '../support/keys.ts'
import { startOurServer } from '../support/our-server.ts'
import { tempDir } from '../support/temp-dir.ts'

test.each([
  [[]],
  [['--server', 'a:1', '--client', 'b']],
  [['--server', 'a:b:c']],
  [['--server', 'a', 'what']],
  [['--server', 'a', '--at-once', '0']],
  [['--server', 'a', '--key', '/nothing']],
])('%j is refused', async (args) => {
  await expect(readOptions(args)).rejects.toThrow()
})

test('hosts and ports are read in every form', async () => {
  for (const [text, host, port] of [
    ['host', 'host', 22],
    ['host:2022', 'host', 2022],
    ['[::1]:2022', '::1', 2022],
    ['[::1]', '::1', 22],
  ]) {
    expect(await readOptions(['--server', text as string])).toMatchObject({ host, port })
  }
})

test('a server on a port is checked with SSH and SFTP, by a key', async () => {
  const { host, port, user } = await startOurServer()
  const { privateFile } = await clientKey('ed25519')
  const only = 'service.accept,channel.session,sftp.write-read'
  const options = await readOptions([
    '--server',
    `${host}:${port}`,
    '--user',
    user,
    '--key',
    privateFile,
    '--only',
    only,
  ])
  const results = await runAgainstServer(options)
  expect(results.map(({ id, outcome }) => `${id} ${outcome}`)).toEqual([
    'service.accept pass',
    'channel.session pass',
    'sftp.write-read pass',
  ])
})

test('checks that need a user are not applicable without one', async () => {
  const { host, port } = await startOurServer()
  const only = 'service.accept,channel.session,sftp.write-read'
  const results = await runAgainstServer(await readOptions(['--server', `${host}:${port}`, '--only', only]))
  expect(results.map(({ id, outcome }) => `${id} ${outcome}`)).toEqual([
    'service.accept pass',
    'channel.session not-applicable',
  ])
})

test('a password is read from a file, and only its first line', async () => {
  const file = join(tempDir(), 'password')
  writeFileSync(file, 'secret\nmore\n')
  expect((await readOptions(['--server', 'a', '--password-file', file])).password).toBe('secret')
})

test('a client program that does not connect is told', async () => {
  const program = new ClientProgram('exit 3')
  await expect(program.connect()).rejects.toThrow('ended before it connected')
  program.close()
})
