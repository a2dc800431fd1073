/** Chunks read from a socket are given back to the system when they are used up, and not before. */
import { expect, test } from 'vitest'
import { CMD } from './support/messages.ts'
import { serve } from './support/serve.ts'
import { pattern, TestDisk } from './support/test-disk.ts'

test('payloads that arrive in many chunks are written whole', async () => {
  const disk = new TestDisk({ size: 8 << 20 })
  const server = await serve(disk)
  const client = await server.client()
  await client.go()
  const payload = pattern(4 << 20)
  for (let i = 0; i < 2; i++) client.post(CMD.WRITE, { offset: i * payload.length, payload })
  for (let i = 0; i < 2; i++) expect(await client.reply()).toMatchObject({ error: 0 })
  for (let i = 0; i < 2; i++)
    expect(Buffer.compare(disk.bytes.subarray(i * payload.length, (i + 1) * payload.length), payload)).toBe(0)
})
