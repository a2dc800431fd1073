/** The block device in Chromium: in the page, and in a worker with its handle in the page. */
import { randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Page } from 'playwright-core'
import { beforeAll, expect, it } from 'vitest'
import { needsOpenssh, type OpensshPeer, startOpensshServer } from '../support/openssh-server.ts'
import { startOurServer } from '../support/our-server.ts'
import { startProxy } from '../support/proxy.ts'
import { describeWith } from '../support/requirements.ts'
import type { Connection } from './page/connection.ts'
import { needsChromium, type RunningChromium, startChromium } from './support/chromium.ts'
import { connectionTo } from './support/connections.ts'
import { type PageServer, startPageServer } from './support/page-server.ts'
import { run, runInWorker } from './support/run-scenario.ts'

const size = 1024 * 1024 + 512
const exercise = { operations: 60, maxBytes: 60_000 }

describeWith([needsChromium(), needsOpenssh()], 'a block device in Chromium', () => {
  let page: Page
  let chromium: RunningChromium
  let server: PageServer
  let openssh: OpensshPeer
  const servers = new Map<string, { connection: Connection; data: string; path: (name: string) => string }>()
  beforeAll(async () => {
    const our = await startOurServer({ scope: 'file' })
    ;[chromium, server, openssh] = await Promise.all([
      startChromium(),
      startPageServer({ scope: 'file' }),
      startOpensshServer({ scope: 'file' }),
    ])
    page = await chromium.visit(server.url)
    servers.set('OpenSSH', {
      connection: await connectionTo(openssh),
      data: openssh.paths.data,
      path: (name) => join(openssh.paths.data, name),
    })
    servers.set('our own server', {
      connection: await connectionTo(our),
      data: our.paths.data,
      path: (name) => `/${name}`,
    })
  })

  it.each(['OpenSSH', 'our own server'])(
    'on %s holds what a device in memory holds, in the page and in a worker',
    async (name) => {
      const { connection, data, path } = servers.get(name)!
      const failure = { name: 'BlockDeviceError', code: 'EINVAL' }
      for (const [kind, seed] of [
        ['here', 11],
        ['worker', 12],
        ['handle', 13],
      ] as const) {
        writeFileSync(join(data, kind), randomBytes(size))
        const work = { path: path(kind), seed, ...exercise }
        const report =
          kind === 'here'
            ? await run(page, 'deviceHere', connection, work)
            : kind === 'worker'
              ? await runInWorker(page, 'deviceHere', connection, work)
              : await run(page, 'deviceInWorker', connection, work)
        expect(report).toMatchObject({ size, error: failure, cancelled: 'ABORT_ERR' })
        expect(report.compared).toBeGreaterThan(1.5 * size)
        if ('afterClose' in report) expect(report).toMatchObject({ afterClose: 'EBADF', abandoned: 'EIO' })
      }
    },
  )

  it('outlives a lost connection where no script can be fetched any more', async () => {
    const proxy = await startProxy({ target: openssh })
    const connection = await connectionTo(openssh, { port: proxy.port })
    const path = join(openssh.paths.data, 'outlives')
    writeFileSync(path, randomBytes(size))
    const visitor = await chromium.visit(server.url)
    const fetched = (): Promise<string> =>
      visitor.evaluate(() =>
        performance
          .getEntriesByType('resource')
          .map(({ name }) => name)
          .join(' '),
      )
    expect(await fetched()).not.toMatch(/sftp-connector-device/)
    expect(await run(visitor, 'holdDevice', connection, path)).toBe(size)
    expect(await fetched()).toMatch(/sftp-connector-device/)
    await visitor.route('**/*.js', (route) => route.abort())
    for (const each of proxy.connections) each.cut('rst')
    const report = await run(visitor, 'useHeldDevice', { seed: 14, ...exercise })
    expect(report).toMatchObject({ size, cancelled: 'ABORT_ERR' })
    expect(proxy.connections.length).toBeGreaterThan(1)
  })
})
