/** The bytes of a download over a port, with both ends in this process. */
import { randomBytes } from 'node:crypto'
import { expect, it } from 'vitest'
import {
  type DownloadPort,
  sinkInto,
  streamFrom,
} from '../../packages/web/src/session-worker/download-port.ts'
import { registerCleanup } from '../support/cleanup.ts'

function pair(): {
  writer: WritableStreamDefaultWriter<Uint8Array>
  reader: ReadableStreamDefaultReader<Uint8Array>
  ports: MessageChannel
} {
  const ports = new MessageChannel()
  registerCleanup(() => ports.port1.close())
  const writer = sinkInto(ports.port1 as unknown as DownloadPort).getWriter()
  const reader = streamFrom(ports.port2 as unknown as DownloadPort).getReader()
  // The reason is of interest where somebody asks for it.
  for (const { closed } of [writer, reader]) closed.catch(() => {})
  return { writer, reader, ports }
}

async function turnsOfTheLoop(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise((resolve) => setImmediate(resolve))
}

/** A sink without back-pressure would take for ever. */
const tooMuch = 64 * 1024 * 1024

/** Writes until the sink takes no more; returns how much it took, and the write that waits. */
async function fill(
  writer: WritableStreamDefaultWriter<Uint8Array>,
): Promise<{ taken: number; waiting: Promise<void> }> {
  const chunk = new Uint8Array(256 * 1024)
  for (let taken = 0; taken <= tooMuch; taken += chunk.length) {
    const waiting = writer.write(chunk)
    // Grants of the other end come in messages, which this loop delivers in each turn; nobody reads, so there will be no more.
    const turns = turnsOfTheLoop(50).then(() => 'waits')
    const done = waiting.then(
      () => 'done',
      () => 'done',
    )
    if ((await Promise.race([done, turns])) === 'waits') return { taken, waiting }
  }
  throw new Error(`a sink that nobody reads took more than ${tooMuch} bytes`)
}

it('every byte arrives in order, whatever the sizes of chunks, and the source keeps its own', async () => {
  const { writer, reader } = pair()
  const content = randomBytes(5_000_000)
  const sizes = [1, 3_000_000, 0, 32_768, 700_000]
  const written = (async () => {
    let at = 0
    for (let i = 0; at < content.length; i++) {
      const chunk = content.subarray(at, at + sizes[i % sizes.length]!)
      await writer.write(chunk)
      at += chunk.length
    }
    await writer.close()
  })()
  const parts: Uint8Array[] = []
  for (let next = await reader.read(); !next.done; next = await reader.read()) parts.push(next.value)
  await written
  expect(Buffer.concat(parts).equals(content)).toBe(true)
  expect(content.length).toBe(5_000_000)
})

it('a sink that nobody reads takes a few MiB and waits', async () => {
  const { writer, reader } = pair()
  const { taken, waiting } = await fill(writer)
  expect(taken).toBeGreaterThan(0)
  expect(taken).toBeLessThan(4 * 1024 * 1024)
  for (let read = 0; read < taken; ) read += (await reader.read()).value!.length
  await waiting
})

it('an abort reaches the reader though nobody reads', async () => {
  const { writer, reader } = pair()
  await fill(writer)
  await writer.abort(new Error('the connection was lost'))
  await expect(reader.closed).rejects.toThrow(/the connection was lost/)
})

it('a reader that cancels ends a write that waits', async () => {
  const { writer, reader } = pair()
  const { waiting } = await fill(writer)
  const failed = expect(waiting.then(() => writer.write(new Uint8Array(1)))).rejects.toMatchObject({
    code: 'ABORT_ERR',
  })
  await reader.cancel('enough')
  await failed
})

it('an end that vanishes fails the other one', async () => {
  const first = pair()
  first.ports.port1.close()
  await expect(first.reader.read()).rejects.toThrow(/gone/)
  const second = pair()
  second.ports.port2.close()
  await expect(second.writer.closed).rejects.toMatchObject({ code: 'ABORT_ERR' })
})
