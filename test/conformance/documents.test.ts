import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { sftpChecks } from '@sshblock/sftp/conformance'
import {
  type Check,
  clientChecks,
  formatComparison,
  parseExpectation,
  serverChecks,
} from '@sshblock/transport/conformance'
import { expect, test } from 'vitest'

const folder = fileURLToPath(new URL('expected', import.meta.url))
const guide = readFileSync(fileURLToPath(new URL('../../docs/conformance.md', import.meta.url)), 'utf8')

const peer = (name: string, file: string) => ({
  name,
  file,
  outcomes: parseExpectation(readFileSync(join(folder, `${file}.txt`), 'utf8')),
})

const servers = [
  peer('ours', 'sshblock'),
  peer('OpenSSH 9.2', 'openssh-9.2'),
  peer('OpenSSH 10.0', 'openssh-10.0'),
  peer('dropbear 2022.83', 'dropbear-2022.83'),
  peer('dropbear 2025.89', 'dropbear-2025.89'),
]
const clients = [
  peer('ours', 'sshblock-client'),
  peer('OpenSSH 9.2', 'ssh-9.2'),
  peer('dropbear 2022.83', 'dbclient-2022.83'),
]

// biome-ignore lint/suspicious/noExplicitAny: the list is of checks of several kinds of trial
const ofServers: readonly Check<any>[] = [...serverChecks, ...sftpChecks]

test('the report in the documentation is made of the expectation files', async () => {
  const report = `# Conformance report

The outcome of every check against every peer, made from test/conformance/expected by its tests. What the levels mean and why
some checks fail or do not apply is in [conformance.md](conformance.md). An empty cell: not run against that peer.

## Servers

${formatComparison(ofServers, servers)}

## Clients

${formatComparison(clientChecks, clients)}
`
  await expect(report).toMatchFileSnapshot('../../docs/conformance-report.md')
})

test('every expectation file is in the report, and names the checks that there are', () => {
  const files = readdirSync(folder).map((name) => name.replace(/\.txt$/, ''))
  expect([...servers, ...clients].map(({ file }) => file).sort()).toEqual(files.sort())
  const ids = (checks: readonly { id: string }[]) => new Set(checks.map(({ id }) => id))
  for (const { outcomes } of servers) for (const id of outcomes.keys()) expect(ids(ofServers)).toContain(id)
  for (const { outcomes } of clients)
    for (const id of outcomes.keys()) expect(ids(clientChecks)).toContain(id)
})

test.each([...servers, ...clients])('the guide explains every difference of $file', ({ outcomes }) => {
  const unexplained = [...outcomes].filter(
    ([id, outcome]) => outcome !== 'pass' && !guide.includes(`\`${id}\``),
  )
  expect(unexplained).toEqual([])
})

test('the guide counts the checks', () => {
  expect(guide).toContain(`${serverChecks.length} checks of servers and ${clientChecks.length} of clients`)
  expect(guide).toContain(`${sftpChecks.length} checks of SFTP servers`)
})
