// SFTP in Chromium beside a bare WebSocket-to-TCP transfer of the same bytes, in the same tab and the same run, and beside
// Node: `npm run build && node bench/browser.mjs [MiB] [rounds] [file.json]`. The server is OpenSSH, the relay @sshblock/bridge.
// Rounds are interleaved; figures are medians.

import { execFileSync, fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { createBridge } from '@sshblock/bridge'
import { SftpClient } from '@sshblock/sftp/node'
import { connect, insecureAcceptAnyHostKey, keyFileAuth } from '@sshblock/transport/node'
import { chromium } from 'playwright-core'
import { rolldown } from 'rolldown'
import { findProgram, Ground } from './harness/ground.mjs'

const [mebibytes, rounds] = [Number(process.argv[2] ?? 64), Number(process.argv[3] ?? 5)]
const bytes = mebibytes * 1024 ** 2
const here = (/** @type {string} */ name) => fileURLToPath(new URL(name, import.meta.url))
/** @type {(() => unknown)[]} */
const undo = []

const median = (/** @type {number[]} */ values) => {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}

async function bundlePage() {
  const build = await rolldown({
    input: here('browser-page.mjs'),
    platform: 'browser',
    logLevel: 'silent',
    resolve: { conditionNames: ['browser', 'import', 'module', 'default'] },
  })
  const { output } = await build.generate({ format: 'esm', minify: true })
  await build.close()
  return new Map(output.flatMap((each) => (each.type === 'chunk' ? [[`/${each.fileName}`, each.code]] : [])))
}

async function servePage() {
  const scripts = await bundlePage()
  const server = createServer((request, response) => {
    const script = scripts.get(request.url ?? '')
    if (script !== undefined) response.writeHead(200, { 'content-type': 'text/javascript' }).end(script)
    else if (request.url === '/')
      response
        .writeHead(200, { 'content-type': 'text/html' })
        .end('<!doctype html><title>bench</title><script type="module" src="/browser-page.js"></script>')
    else response.writeHead(404).end()
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = /** @type {import('node:net').AddressInfo} */ (server.address())
  const url = `http://127.0.0.1:${port}`
  const bridge = createBridge({
    targets: { allow: ['127.0.0.1:*'] },
    origins: [url],
    pathPrefix: '/ssh',
    healthPath: false,
  })
  bridge.attach(server)
  undo.push(async () => {
    await bridge.close()
    server.closeAllConnections()
    server.close()
  })
  return url
}

async function openTab(/** @type {string} */ url) {
  const profile = mkdtempSync(join(tmpdir(), 'sshblock-bench-chromium-'))
  undo.push(() => rmSync(profile, { recursive: true, force: true, maxRetries: 5 }))
  const browser = await chromium.launch({
    executablePath: findProgram('chromium') ?? 'chromium',
    args: [
      ...['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-dev-shm-usage'],
      ...['--disable-background-networking', '--disable-component-update', '--disable-sync'],
    ],
    env: { ...process.env, HOME: profile },
  })
  undo.push(() => browser.close())
  const page = await browser.newPage()
  await page.goto(url)
  await page.waitForFunction('typeof jobs === "object"')
  return {
    version: browser.version(),
    /** @param {string} name @param {unknown[]} args */
    run: (name, ...args) =>
      page.evaluate(([name, args]) => /** @type {any} */ (globalThis).jobs[name](...args), [name, args]),
  }
}

async function startRaw() {
  const raw = fork(here('browser-raw.mjs'))
  undo.push(() => raw.disconnect())
  const [{ port }] = await once(raw, 'message')
  return port
}

/** The same work in Node, over TCP. @param {Ground} ground @param {(sftp: SftpClient) => Promise<unknown>} use */
async function inNode(ground, use) {
  const session = await connect({
    host: '127.0.0.1',
    port: ground.port,
    username: ground.user,
    hostKeyPolicy: insecureAcceptAnyHostKey(),
    auth: [keyFileAuth(ground.identity)],
  })
  const sftp = await SftpClient.open(await session.openSubsystem('sftp'))
  const startedAt = performance.now()
  await use(sftp)
  const seconds = (performance.now() - startedAt) / 1000
  await session.close()
  return { bytes, seconds, blockedMs: 0 }
}

async function main() {
  const ground = await Ground.start()
  undo.push(() => ground.stop())
  const [url, rawPort, delayed] = await Promise.all([servePage(), startRaw(), ground.path({ delayMs: 25 })])
  const tab = await openTab(url)
  const image = ground.image(bytes)
  const fingerprint = execFileSync('ssh-keygen', ['-lf', `${ground.folder}/host.pub`], {
    encoding: 'utf8',
  }).split(' ')[1]
  const near = {
    port: ground.port,
    user: ground.user,
    privateKey: readFileSync(ground.identity, 'utf8'),
    fingerprint,
  }
  const far = { ...near, port: delayed.port }
  const uploaded = () => ground.scratch('uploaded')
  const checkedUpload = async (/** @type {object} */ access) => {
    const path = uploaded()
    const sample = await tab.run('sftpUpload', access, path, bytes)
    if (statSync(path).size !== bytes) throw new Error('the upload is not whole')
    return sample
  }
  const block = new Uint8Array(256 * 1024).fill(0x5a)
  function* blocks() {
    for (let at = 0; at < bytes; at += block.length) yield block
  }
  /** @type {[name: string, run: () => Promise<any>][]} */
  const contestants = [
    ['download, bare WebSocket', () => tab.run('bareDownload', rawPort, bytes)],
    ['download, SFTP', () => tab.run('sftpDownload', near, image)],
    ['download, SFTP, 50 ms', () => tab.run('sftpDownload', far, image)],
    ['download, SFTP, Node', () => inNode(ground, (sftp) => sftp.get(image, () => {}))],
    ['upload, bare WebSocket', () => tab.run('bareUpload', rawPort, bytes)],
    ['upload, SFTP', () => checkedUpload(near)],
    ['upload, SFTP, 50 ms', () => checkedUpload(far)],
    ['upload, SFTP, Node', () => inNode(ground, (sftp) => sftp.put(blocks(), uploaded()))],
  ]
  const samples = new Map(contestants.map(([name]) => [name, /** @type {any[]} */ ([])]))
  // The first round warms up: compiled code, grown buffers.
  for (let round = 0; round <= rounds; round++)
    for (const [name, run] of contestants) {
      const sample = await run()
      if (round > 0) samples.get(name)?.push(sample)
    }
  const rows = contestants.map(([name]) => {
    const all = samples.get(name) ?? []
    return {
      name,
      megabytesPerSecond: median(all.map((sample) => sample.bytes / 1e6 / sample.seconds)),
      longestBlockMs: Math.max(...all.map(({ blockedMs }) => blockedMs)),
      cipher: all[0]?.cipher,
    }
  })
  const rate = (/** @type {string} */ name) => rows.find((row) => row.name === name)?.megabytesPerSecond ?? 0
  const ratios = ['download', 'upload'].flatMap((way) => [
    [`${way}: SFTP to bare WebSocket`, rate(`${way}, SFTP`) / rate(`${way}, bare WebSocket`), 0.8],
    [`${way}: 50 ms to no delay`, rate(`${way}, SFTP, 50 ms`) / rate(`${way}, SFTP`), 0.7],
  ])
  console.log(
    `Chromium ${tab.version}, Node ${process.version}, OpenSSH, ${mebibytes} MiB, medians of ${rounds} rounds\n`,
  )
  console.log('| transfer | MB/s | longest block of the page |\n| --- | ---: | ---: |')
  for (const { name, megabytesPerSecond, longestBlockMs } of rows) {
    const block = name.endsWith('Node')
      ? ''
      : longestBlockMs === 0
        ? 'below 50 ms'
        : `${longestBlockMs.toFixed(0)} ms`
    console.log(`| ${name} | ${megabytesPerSecond.toFixed(1)} | ${block} |`)
  }
  console.log('\n| ratio | measured | aim |\n| --- | ---: | ---: |')
  for (const [name, value, aim] of ratios) console.log(`| ${name} | ${Number(value).toFixed(2)} | ${aim} |`)
  const file = process.argv[4]
  if (file !== undefined)
    writeFileSync(file, `${JSON.stringify({ mebibytes, rounds, rows, ratios }, undefined, 2)}\n`)
}

try {
  await main()
} finally {
  for (const step of undo.reverse()) await step()
}
