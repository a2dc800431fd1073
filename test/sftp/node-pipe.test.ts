import { PassThrough, Writable } from 'node:stream'
import { describe, expect, test } from 'vitest'
import { pipeChannel } from '../../packages/sftp/src/node.ts'
import { pattern } from './scripted-server.ts'

/** A channel whose far ends are plain streams, and what its receiver was told. */
function setUp(writable: Writable = new PassThrough({ highWaterMark: 2 ** 24 }), highWaterBytes?: number) {
  const readable = new PassThrough()
  const events: string[] = []
  const received: Buffer[] = []
  const channel = pipeChannel(readable, writable, {
    onClose: () => events.push('onClose'),
    ...(highWaterBytes === undefined ? {} : { highWaterBytes }),
  })
  const start = () =>
    channel.start({
      data: (view) => received.push(Buffer.from(view)),
      writable: () => events.push('writable'),
      end: () => events.push('end'),
      closed: (cause) => events.push(cause === undefined ? 'closed' : `closed: ${cause.message}`),
    })
  return { channel, readable, writable, events, received, start }
}

const turn = () => new Promise((resolve) => setImmediate(resolve))

describe('pipeChannel', () => {
  test('delivers what came before start, in order, then the end', async () => {
    const { readable, received, events, start } = setUp()
    readable.write('one ')
    readable.write('two')
    readable.end()
    await turn()
    start()
    await turn()
    expect(Buffer.concat(received).toString()).toBe('one two')
    expect(events).toEqual(['end'])
  })

  test('writes of one turn leave in one write, copied at once', async () => {
    const chunks: Buffer[] = []
    const writable = new Writable({
      write: (chunk, _encoding, done) => {
        chunks.push(Buffer.from(chunk))
        done()
      },
    })
    const { channel, start } = setUp(writable)
    start()
    const bytes = new Uint8Array([1, 2])
    channel.write(bytes)
    bytes.fill(9)
    channel.write(bytes)
    await turn()
    expect(chunks.map((chunk) => [...chunk])).toEqual([[1, 2, 9, 9]])
  })

  test('what was written before the end leaves though the channel is closed at once', async () => {
    const chunks: Buffer[] = []
    const slow = new Writable({
      write: (chunk, _encoding, done) => {
        chunks.push(Buffer.from(chunk))
        setImmediate(done)
      },
    })
    const { channel, start, events } = setUp(slow)
    start()
    const bytes = pattern(300_000)
    channel.write(bytes)
    channel.end()
    channel.close()
    await turn()
    // The channel is over for its user; the stream is let go of when it has everything.
    expect(events).toEqual(['closed'])
    while (!slow.destroyed) await turn()
    expect(Buffer.concat(chunks).equals(bytes)).toBe(true)
    expect(events).toEqual(['closed', 'onClose'])
  })

  test('a stream that takes nothing is let go of though what was written before the end is lost', async () => {
    const stuck = new Writable({ write: () => {} })
    const { channel, start, events } = setUp(stuck)
    start()
    channel.write(pattern(1000))
    channel.end()
    channel.close()
    while (!stuck.destroyed) await new Promise((resolve) => setTimeout(resolve, 20))
    expect(events).toEqual(['closed', 'onClose'])
  })

  test('carries large writes whole through reused slabs', async () => {
    const chunks: Buffer[] = []
    const writable = new Writable({
      highWaterMark: 1000,
      write: (chunk, _encoding, done) => {
        chunks.push(Buffer.from(chunk))
        setImmediate(done)
      },
    })
    const { channel, start } = setUp(writable)
    start()
    const data = pattern(3_000_000)
    for (let at = 0; at < data.length; at += 100_000) {
      channel.write(data.subarray(at, at + 100_000))
      await turn()
    }
    channel.end()
    await new Promise((resolve) => writable.on('finish', resolve))
    expect(Buffer.compare(Buffer.concat(chunks), data)).toBe(0)
  })

  test('tells how much it takes, and when it takes more again', async () => {
    const pending: (() => void)[] = []
    const writable = new Writable({ write: (_chunk, _encoding, done) => void pending.push(done) })
    const { channel, events, start } = setUp(writable, 10_000)
    start()
    expect(channel.writableBytes).toBe(10_000)
    channel.write(new Uint8Array(8000))
    expect(channel.writableBytes).toBe(2000)
    channel.write(new Uint8Array(4000))
    expect(channel.writableBytes).toBe(0)
    await turn()
    expect(events).toEqual([])
    pending.shift()!()
    await turn()
    expect(events).toEqual(['writable'])
    expect(channel.writableBytes).toBe(10_000)
  })

  test('pause stops the flow, resume starts it again', async () => {
    const { channel, readable, received, start } = setUp()
    start()
    channel.pause()
    readable.write('late')
    await turn()
    expect(received).toHaveLength(0)
    channel.resume()
    await turn()
    expect(Buffer.concat(received).toString()).toBe('late')
  })

  test('close tells closed once, last, and is idempotent; writing afterwards does nothing', async () => {
    const { channel, readable, events, start } = setUp()
    start()
    channel.close()
    channel.close()
    channel.write(new Uint8Array(10))
    expect(channel.writableBytes).toBe(0)
    await turn()
    expect(events).toEqual(['onClose', 'closed'])
    expect(readable.destroyed).toBe(true)
  })

  test('an error of either stream closes with its cause; last words are still read', async () => {
    const reading = setUp()
    reading.start()
    reading.readable.destroy(new Error('reset'))
    await turn()
    await turn()
    expect(reading.events).toEqual(['onClose', 'closed: pipe: reset'])

    const writable = new Writable({ write: (_chunk, _encoding, done) => done(new Error('EPIPE')) })
    const writing = setUp(writable)
    writing.start()
    writing.channel.write(new Uint8Array(1))
    await turn()
    writing.readable.write('last words')
    writing.readable.end()
    await turn()
    await turn()
    expect(Buffer.concat(writing.received).toString()).toBe('last words')
    expect(writing.events).toEqual(['end'])
    writing.channel.close()
    await turn()
    expect(writing.events).toEqual(['end', 'onClose', 'closed: pipe: EPIPE'])
  })

  test('is started once', () => {
    const { start } = setUp()
    start()
    expect(start).toThrow(/started once/)
  })
})
