/** Uploads over several SFTP channels, through a path with delay, to a real server: contents, limits of sessions, ends. */
import { createHash, randomBytes } from 'node:crypto'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { channelsForUpload, SftpClient, sftpChannels } from '../../packages/sftp/src/index.ts'
import { putFile, putFileResuming } from '../../packages/sftp/src/node.ts'
import { connect, insecureAcceptAnyHostKey, keyFileAuth } from '../../packages/transport/src/node.ts'
import { clientKey } from '../support/keys.ts'
import { needsOpenssh, type OpensshOptions, startOpensshServer } from '../support/openssh-server.ts'
import { startProxy } from '../support/proxy.ts'
import { describeWith } from '../support/requirements.ts'
import { tempDir } from '../support/temp-dir.ts'

const mebibyte = 1024 * 1024
const hash = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex')

async function uploader(options: OpensshOptions, delayMs: number) {
  const peer = await startOpensshServer(options)
  const proxy = await startProxy({ target: { host: peer.host, port: peer.port }, delayMs })
  const auth = [keyFileAuth((await clientKey('ed25519')).privateFile)]
  const login = () =>
    connect({
      host: proxy.host,
      port: proxy.port,
      username: peer.user,
      hostKeyPolicy: insecureAcceptAnyHostKey(),
      auth,
    })
  const session = await login()
  const client = await SftpClient.open(await session.openSubsystem('sftp'))
  let asked = 0
  let given = 0
  const open = sftpChannels(session)
  const openChannel: ReturnType<typeof sftpChannels> = async (wanted) => {
    asked++
    const added = await open(wanted)
    given++
    return added
  }
  const channels = () => ({ asked, given })
  return { folder: peer.paths.data, proxy, login, session, client, openChannel, channels }
}

describeWith([needsOpenssh()], 'an upload with more channels to be had', () => {
  test('uses them over distance, and the file is whole and alone in its folder', async () => {
    const { folder, session, client, openChannel, channels } = await uploader({}, 40)
    const bytes = randomBytes(24 * mebibyte + 12_345)
    const local = join(tempDir('lanes'), 'local')
    await writeFile(local, bytes)
    const progress: number[] = []
    const result = await putFile(client, local, `${folder}/file`, {
      openChannel,
      maxChannels: 4,
      onProgress: ({ transferredBytes }) => progress.push(transferredBytes),
    })
    expect(result).toEqual({ bytes: bytes.length, resumedFrom: 0 })
    expect(hash(await readFile(join(folder, 'file')))).toBe(hash(bytes))
    expect(await readdir(folder)).toEqual(['file'])
    expect(channels().given).toBeGreaterThan(0)
    expect(channels().given).toBeLessThan(4)
    expect(progress).toEqual([...progress].sort((a, b) => a - b))
    expect(progress.at(-1)).toBe(bytes.length)
    await session.close()
  })

  test('goes on with what it has where the server gives no more than two', async () => {
    const { folder, session, client, openChannel, channels } = await uploader({ maxSessions: 2 }, 40)
    const bytes = randomBytes(16 * mebibyte)
    await client.put(bytes, `${folder}/file`, { openChannel, atomic: true })
    expect(hash(await readFile(join(folder, 'file')))).toBe(hash(bytes))
    expect(await readdir(folder)).toEqual(['file'])
    expect(channels()).toMatchObject({ given: 1 })
    // The added channel was given back: another can be had.
    await (await openChannel()).close()
    await session.close()
  })

  test('a stream uses them too, and what it wrote is whole when it is closed', async () => {
    const { folder, session, client, openChannel, channels } = await uploader({}, 40)
    const bytes = randomBytes(20 * mebibyte + 321)
    const writer = client.createWriteStream(`${folder}/file`, { openChannel, maxChannels: 3 }).getWriter()
    for (let at = 0; at < bytes.length; at += 300_000) await writer.write(bytes.subarray(at, at + 300_000))
    await writer.close()
    expect(channels()).toEqual({ asked: 2, given: 2 })
    expect(hash(await readFile(join(folder, 'file')))).toBe(hash(bytes))
    await session.close()
  })

  test('a stream that is given up gives its channels back', async () => {
    const { folder, session, client, openChannel } = await uploader({ maxSessions: 2 }, 40)
    const stream = client.createWriteStream(`${folder}/file`, { openChannel, maxChannels: 2 })
    const writer = stream.getWriter()
    for (let i = 0; i < 20; i++) await writer.write(randomBytes(300_000))
    await writer.abort()
    // sshd counts a channel that was closed a moment ago.
    await expect
      .poll(() =>
        openChannel().then(
          (one) => one.close().then(() => true),
          () => false,
        ),
      )
      .toBe(true)
    await session.close()
  })

  test('a stream that appends keeps to one channel: the server puts what comes where the file ends', async () => {
    const { folder, session, client, openChannel, channels } = await uploader({}, 40)
    const writer = client.createWriteStream(`${folder}/file`, { flags: 'a', openChannel }).getWriter()
    const bytes = randomBytes(4 * mebibyte)
    for (let at = 0; at < bytes.length; at += mebibyte) await writer.write(bytes.subarray(at, at + mebibyte))
    await writer.close()
    expect(channels()).toEqual({ asked: 0, given: 0 })
    expect(hash(await readFile(join(folder, 'file')))).toBe(hash(bytes))
    await session.close()
  })

  test('channels that were asked for with the login are the ones it uses', async () => {
    const peer = await startOpensshServer({})
    const proxy = await startProxy({ target: { host: peer.host, port: peer.port }, delayMs: 30 })
    const session = await connect({
      host: proxy.host,
      port: proxy.port,
      username: peer.user,
      hostKeyPolicy: insecureAcceptAnyHostKey(),
      auth: [keyFileAuth((await clientKey('ed25519')).privateFile)],
      earlyChannels: channelsForUpload,
    })
    const openChannel = sftpChannels(session)
    const client = await openChannel({ mayBeUnopened: true })
    const bytes = randomBytes(12 * mebibyte)
    await client.put(bytes, `${peer.paths.data}/file`, { openChannel })
    expect(hash(await readFile(join(peer.paths.data, 'file')))).toBe(hash(bytes))
    await session.close()
  })

  test('a copy that lost its connection goes on over several of the next one, too', async () => {
    const { folder, proxy, login, session, client } = await uploader({}, 40)
    const bytes = randomBytes(24 * mebibyte)
    const local = join(tempDir('lanes'), 'local')
    await writeFile(local, bytes)
    const sessionOf = new Map([[client, session]])
    const added = new Map<SftpClient, number>()
    let isCut = false
    const result = await putFileResuming(client, local, `${folder}/file`, {
      reconnect: async () => {
        const again = await login()
        const next = await SftpClient.open(await again.openSubsystem('sftp'))
        sessionOf.set(next, again)
        return next
      },
      firstRetryMs: 10,
      openChannel: async (beside) => {
        const one = await sftpChannels(sessionOf.get(beside)!)()
        added.set(beside, (added.get(beside) ?? 0) + 1)
        return one
      },
      onProgress: ({ transferredBytes }) => {
        if (isCut || transferredBytes < 6 * mebibyte) return
        isCut = true
        for (const connection of proxy.connections) connection.cut('rst')
      },
    })
    expect(result).toMatchObject({ bytes: bytes.length, retries: 1, restarts: 0 })
    expect(added.get([...sessionOf.keys()][1]!)).toBeGreaterThan(0)
    expect(hash(await readFile(join(folder, 'file')))).toBe(hash(bytes))
    expect(await readdir(folder)).toEqual(['file'])
    for (const one of sessionOf.values()) await one.close()
  })
})
