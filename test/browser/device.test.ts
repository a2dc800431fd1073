/** The block device in Chromium: in the page, and in a worker with its handle in the page. */
import { randomBytes } from 'node:crypto'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { Page } from 'playwright-core'
import { beforeAll, expect, it } from 'vitest'
import { needsOpenssh, startOpensshServer } from '../support/openssh-server.ts'
import { startOurServer } from '../support/our-server.ts'
import { describeWith } from '../support/requirements.ts'
import type { Connection } from './page/connection.ts'
import { needsChromium, startChromium } from './support/chromium.ts'
import { connectionTo } from './support/connections.ts'
import { startPageServer } from './support/page-server.ts'
import { run, runInWorker } from './support/run-scenario.ts'

const size = 1024 * 1024 + 512
const exercise = { operations: 60, maxBytes: 60_000 }

describeWith([needsChromium(), needsOpenssh()], 'a block device in Chromium', () => {
  let page: Page
  const servers = new Map<string, { connection: Connection; data: string; path: (name: string) => string }>()
  beforeAll(async () => {
    const [chromium, server, openssh, our] = await Promise.all([
      startChromium(),
      startPageServer({ scope: 'file' }),
      startOpensshServer({ scope: 'file' }),
      startOurServer({ scope: 'file' }),
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
})
