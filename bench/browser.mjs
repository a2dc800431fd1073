// SFTP in Chromium beside a bare WebSocket-to-TCP transfer of the same bytes, in the same tab and the same run, and beside
// Node: `npm run build && node bench/browser.mjs [MiB] [rounds] [file.json]`. Servers are OpenSSH and our own, the relay is
// @sshblock/bridge; each is a process of its own. Rounds are interleaved; figures are medians.

import { execFileSync, fork } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { SftpClient } from '@sshblock/sftp/node'
import { connect, insecureAcceptAnyHostKey, keyFileAuth } from '@sshblock/transport/node'
import { rolldown } from 'rolldown'
import { ChromiumTab } from './harness/chromium-tab.mjs'
import { Ground } from './harness/ground.mjs'

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
  const relay = fork(here('browser-relay.mjs'))
  undo.push(() => relay.disconnect())
  relay.send([...(await bundlePage())])
  const [{ url }] = await once(relay, 'message')
  return url
}

async function openTab(/** @type {string} */ url) {
  const tab = await ChromiumTab.open(url)
  undo.push(() => tab.close())
  await tab.until('typeof jobs === "object"')
  return tab
}

/** @param {ChromiumTab} tab @param {string} name @param {unknown[]} args */
const inPage = (tab, name, ...args) => tab.evaluate(`jobs.${name}(...${JSON.stringify(args)})`)

async function startRaw() {
  const raw = fork(here('browser-raw.mjs'))
  undo.push(() => raw.disconnect())
  const [{ port }] = await once(raw, 'message')
  return port
}

/** Our own server with a copy of the image. @param {string} image */
async function startOurs(image) {
  const server = fork(here('server-process.mjs'))
  undo.push(async () => {
    server.send('stop')
    await once(server, 'exit')
  })
  const [{ location, connection, imageFile }] = await once(server, 'message')
  const { port, username } = new URL(location)
  copyFileSync(image, imageFile)
  const [knownHosts] = connection.knownHostsFiles
  const [identity] = connection.keyFiles
  return {
    access: {
      port: Number(port),
      user: decodeURIComponent(username),
      privateKey: readFileSync(identity, 'utf8'),
      fingerprint: fingerprintOf(knownHosts),
    },
    node: { port: Number(port), user: decodeURIComponent(username), identity },
    image: '/disk.img',
    uploaded: '/uploaded',
    uploadedFile: join(dirname(imageFile), 'uploaded'),
  }
}

const fingerprintOf = (/** @type {string} */ file) =>
  execFileSync('ssh-keygen', ['-lf', file], { encoding: 'utf8' }).split(' ')[1]

/**
 * The same work in Node, over TCP.
 * @param {{ port: number, user: string, identity: string }} ground
 * @param {(sftp: SftpClient) => Promise<unknown>} use
 */
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
  const near = {
    port: ground.port,
    user: ground.user,
    privateKey: readFileSync(ground.identity, 'utf8'),
    fingerprint: fingerprintOf(`${ground.folder}/host.pub`),
  }
  const far = { ...near, port: delayed.port }
  const ours = await startOurs(image)
  const uploaded = () => ground.scratch('uploaded')
  const checkedUpload = async (/** @type {object} */ access, path = uploaded(), file = path) => {
    const sample = await inPage(tab, 'sftpUpload', access, path, bytes)
    if (statSync(file).size !== bytes) throw new Error('the upload is not whole')
    return sample
  }
  const block = new Uint8Array(256 * 1024).fill(0x5a)
  function* blocks() {
    for (let at = 0; at < bytes; at += block.length) yield block
  }
  /** @type {[name: string, run: () => Promise<any>][]} */
  const contestants = [
    ['download, bare WebSocket', () => inPage(tab, 'bareDownload', rawPort, bytes)],
    ['download, SFTP', () => inPage(tab, 'sftpDownload', near, image)],
    ['download, SFTP, 50 ms', () => inPage(tab, 'sftpDownload', far, image)],
    ['download, SFTP, Node', () => inNode(ground, (sftp) => sftp.get(image, () => {}))],
    ['download, our server', () => inPage(tab, 'sftpDownload', ours.access, ours.image)],
    ['download, our server, Node', () => inNode(ours.node, (sftp) => sftp.get(ours.image, () => {}))],
    ['upload, bare WebSocket', () => inPage(tab, 'bareUpload', rawPort, bytes)],
    ['upload, SFTP', () => checkedUpload(near)],
    ['upload, SFTP, 50 ms', () => checkedUpload(far)],
    ['upload, SFTP, Node', () => inNode(ground, (sftp) => sftp.put(blocks(), uploaded()))],
    ['upload, our server', () => checkedUpload(ours.access, ours.uploaded, ours.uploadedFile)],
    ['upload, our server, Node', () => inNode(ours.node, (sftp) => sftp.put(blocks(), ours.uploaded))],
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
    [
      `${way}: our server to bare WebSocket`,
      rate(`${way}, our server`) / rate(`${way}, bare WebSocket`),
      0.8,
    ],
    // No page can be faster than the slower of the two that it is made of: its socket, and what the server gives anybody.
    [
      `${way}: SFTP to the slower of bare WebSocket and Node`,
      rate(`${way}, SFTP`) / Math.min(rate(`${way}, bare WebSocket`), rate(`${way}, SFTP, Node`)),
      0.8,
    ],
    [`${way}: 50 ms to no delay`, rate(`${way}, SFTP, 50 ms`) / rate(`${way}, SFTP`), 0.7],
  ])
  console.log(`${tab.version}, Node ${process.version}, ${mebibytes} MiB, medians of ${rounds} rounds\n`)
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
