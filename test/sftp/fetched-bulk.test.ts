// Bulk operations are code that a page fetches when the first of them is called.

import { afterEach, expect, test, vi } from 'vitest'
import type { SftpClient } from '../../packages/sftp/src/client.ts'
import { MemoryBackend } from '../../packages/sftp/src/memory-backend.ts'

const code = '../../packages/sftp/src/bulk.ts'

afterEach(() => {
  vi.doUnmock(code)
  vi.resetModules()
})

/** A client whose bulk operations are code that `arrive` brings. */
async function clientWithCode(arrive: () => Promise<unknown>): Promise<SftpClient> {
  vi.resetModules()
  vi.doMock(code, async (original) => {
    await arrive()
    return original()
  })
  const { channelPair, SftpClient, serveSftp } = await import('../../packages/sftp/src/index.ts')
  const [near, far] = channelPair()
  serveSftp(far, new MemoryBackend())
  return SftpClient.open(near)
}

test('files are written and read by range without it; what needs it says that it could not be fetched', async () => {
  const client = await clientWithCode(() => Promise.reject(new Error('404')))
  await client.writeFile('/a', 'some bytes')
  const file = await client.open('/a')
  const bytes = new Uint8Array(4)
  expect(await file.read(0, bytes)).toBe(4)
  await file.close()
  const expected = { name: 'SshError', code: 'ERR_SFTP_CODE_NOT_FETCHED' }
  await expect(client.readFile('/a')).rejects.toMatchObject(expected)
  await expect(client.get('/a', () => {})).rejects.toMatchObject(expected)
  await expect(client.put(bytes, '/b')).rejects.toMatchObject(expected)
  await expect(client.rm('/a')).rejects.toMatchObject(expected)
  await expect(client.walk('/').next()).rejects.toMatchObject(expected)
  await expect(client.glob('/*').next()).rejects.toMatchObject(expected)
  await expect(client.createReadStream('/a').getReader().read()).rejects.toMatchObject(expected)
  await expect(client.createWriteStream('/b').getWriter().write(bytes)).rejects.toMatchObject(expected)
  // Nothing was begun that would have had to be ended.
  expect((await client.stat('/a')).size).toBe(10)
  await expect(client.stat('/b')).rejects.toMatchObject({ code: 'ENOENT' })
  await client.close()
})

test('a stream that is cancelled while it is being fetched leaves no file open', async () => {
  let arrive: (nothing: undefined) => void = () => {}
  const arrival = new Promise<undefined>((resolve) => {
    arrive = resolve
  })
  const client = await clientWithCode(() => arrival)
  await client.writeFile('/a', 'some bytes')
  const opened = vi.spyOn(client, 'open')
  const reader = client.createReadStream('/a').getReader()
  const read = reader.read()
  const cancelled = reader.cancel()
  arrive(undefined)
  await Promise.all([read, cancelled])
  await client.readFile('/a')
  const files = await Promise.all(opened.mock.results.map(({ value }) => value))
  expect(files.length).toBeGreaterThan(0)
  for (const file of files) await expect(file.stat()).rejects.toMatchObject({ code: expect.any(String) })
  await client.close()
})
