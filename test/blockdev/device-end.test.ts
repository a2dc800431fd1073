/** The size of a block device where nobody tells it. */
import { describe, expect, test } from 'vitest'
import { findDeviceEnd } from '../../packages/blockdev/src/device-end.ts'

/** Reads one byte as a device does; behind its end nothing is there, or the place is refused as lseek(2) does. */
function device(sizeBytes: number, options: { refuses?: boolean; bad?: number } = {}) {
  const reads: number[] = []
  const bytesAt = async (offset: number): Promise<number> => {
    reads.push(offset)
    if (offset === options.bad) throw new Error('a bad sector')
    if (offset > sizeBytes && options.refuses === true) throw new Error('EINVAL')
    return offset < sizeBytes ? 1 : 0
  }
  return { reads, bytesAt }
}

describe('the end of a block device', () => {
  test.each([
    0,
    1,
    2,
    3,
    4,
    15,
    16,
    17,
    18,
    19,
    100,
    511,
    512,
    513,
    20011,
    2 ** 29,
    2 ** 31 + 7,
    2 ** 40 + 3,
  ])(
    'is found behind %i blocks, whether places behind it are empty or refused, in few reads',
    async (blocks) => {
      for (const refuses of [false, true]) {
        const { reads, bytesAt } = device(blocks * 512, { refuses })
        expect(await findDeviceEnd(bytesAt)).toBe(blocks * 512)
        expect(reads.length).toBeLessThan(250)
      }
    },
  )

  test('is not what a bad sector looks like', async () => {
    for (const bad of [0, 512, 1024, 64 * 512])
      await expect(findDeviceEnd(device(1000 * 512, { bad }).bytesAt)).rejects.toThrow('a bad sector')
  })

  test('is told by an error where there is none', async () => {
    await expect(findDeviceEnd(async () => 1)).rejects.toMatchObject({ code: 'EINVAL' })
  })
})
