import type { ByteReceiver } from '@sshblock/transport/byte-channel'
import { expect, test } from 'vitest'
import { channelPair } from '../../../packages/sftp/src/channel-pair.ts'

async function settle(): Promise<void> {
  for (let i = 0; i < 5; i++) await new Promise((resolve) => setTimeout(resolve, 0))
}

function receiver(log: string[], onData: (view: Uint8Array) => void = () => {}): ByteReceiver {
  return {
    data: (view) => {
      log.push(`data ${view.length}`)
      onData(view)
    },
    writable: () => void log.push('writable'),
    end: () => void log.push('end'),
    closed: () => void log.push('closed'),
  }
}

test('bytes come in packets and in order, and are the written ones even if the writer uses its buffer again', async () => {
  const [a, b] = channelPair({ maxPacketBytes: 4 })
  const got: number[] = []
  b.start(receiver([], (view) => void got.push(...view)))
  a.start(receiver([]))
  const buffer = Uint8Array.of(1, 2, 3, 4, 5, 6)
  a.write(buffer)
  buffer.fill(9)
  a.write(buffer.subarray(0, 1))
  expect(got).toEqual([])
  await settle()
  expect(got).toEqual([1, 2, 3, 4, 5, 6, 9])
})

test('what came before start is delivered, and end and close come behind the bytes', async () => {
  const [a, b] = channelPair()
  const [ours, theirs]: [string[], string[]] = [[], []]
  a.start(receiver(ours))
  a.write(new Uint8Array(10))
  a.end()
  await settle()
  b.start(receiver(theirs))
  await settle()
  expect(theirs).toEqual(['data 10', 'end'])
  b.write(new Uint8Array(3))
  b.end()
  b.close()
  await settle()
  expect(ours).toEqual(['data 3', 'end', 'closed'])
  expect(theirs).toEqual(['data 10', 'end', 'closed'])
  a.write(new Uint8Array(3))
  await settle()
  expect(theirs).toHaveLength(3)
})

test('a paused receiver still gets one window, then the writer waits for its credit', async () => {
  const [a, b] = channelPair({ windowBytes: 100 })
  const [ours, theirs]: [string[], string[]] = [[], []]
  a.start(receiver(ours))
  b.start(receiver(theirs))
  b.pause()
  expect(a.writableBytes).toBe(100)
  a.write(new Uint8Array(60))
  expect(a.writableBytes).toBe(40)
  a.write(new Uint8Array(60))
  expect(a.writableBytes).toBe(0)
  await settle()
  expect(theirs).toEqual(['data 60', 'data 40'])
  expect(a.writableBytes).toBe(0)
  expect(ours).toEqual([])
  b.resume()
  await settle()
  expect(theirs).toEqual(['data 60', 'data 40', 'data 20'])
  expect(ours).toEqual(['writable'])
  expect(a.writableBytes).toBe(100)
})

test('two ends that answer each other for ever let others in', async () => {
  const [a, b] = channelPair()
  const ball = new Uint8Array(1)
  let rallies = 0
  a.start(receiver([], () => b.writableBytes >= 0 && a.write(ball)))
  b.start(
    receiver([], () => {
      rallies++
      b.write(ball)
    }),
  )
  a.write(ball)
  await settle()
  a.close()
  expect(rallies).toBeGreaterThan(10)
})
