import { describe, expect, test } from 'vitest'
import { BufferPool } from '../../packages/nbd/src/buffer-pool.ts'
import { InFlightBudget } from '../../packages/nbd/src/in-flight-budget.ts'
import { checkRequest, type RequestRules } from '../../packages/nbd/src/request-check.ts'
import { type NbdRequest, Transmission } from '../../packages/nbd/src/transmission.ts'
import { CMD, concat, ERR, FLAG, request } from './support/messages.ts'
import { pattern } from './support/test-disk.ts'

const MiB = 1 << 20
const size = 100 * MiB

const rules: RequestRules = {
  sizeBytes: size,
  readOnly: false,
  canTrim: true,
  structuredReplies: true,
  blockStatus: true,
  shuttingDown: false,
}

function errorOf(
  type: number,
  fields: { flags?: number; offset?: number; length?: number } = {},
  changed = {},
): number {
  const { flags = 0, offset = 0, length = 512 } = fields
  return checkRequest(type, flags, offset, length, { ...rules, ...changed })?.error ?? 0
}

describe('legal requests', () => {
  test.each([
    ['a read to the last byte', CMD.READ, { offset: size - 512 }],
    ['a read of 32 MiB', CMD.READ, { length: 32 * MiB }],
    ['a write of 32 MiB', CMD.WRITE, { length: 32 * MiB }],
    ['an empty read at the end', CMD.READ, { offset: size, length: 0 }],
    ['an empty write at the end', CMD.WRITE, { offset: size, length: 0 }],
    ['an unaligned read', CMD.READ, { offset: 1, length: 3 }],
    ['a flush', CMD.FLUSH, { length: 0 }],
    ['a trim of more than 32 MiB', CMD.TRIM, { length: 64 * MiB }],
    ['zeroes over more than 32 MiB', CMD.WRITE_ZEROES, { length: 64 * MiB }],
    ['a cache request', CMD.CACHE, {}],
    ['a block status request', CMD.BLOCK_STATUS, { length: size }],
  ])('%s is legal', (_what, type, fields) => {
    expect(errorOf(type, fields)).toBe(0)
  })

  test('FUA is legal with every command, "even by ignoring the bit"', () => {
    for (const type of [CMD.READ, CMD.WRITE, CMD.TRIM, CMD.CACHE, CMD.WRITE_ZEROES, CMD.BLOCK_STATUS]) {
      expect(errorOf(type, { flags: FLAG.FUA })).toBe(0)
    }
    expect(errorOf(CMD.FLUSH, { flags: FLAG.FUA, length: 0 })).toBe(0)
  })
})

describe('errors', () => {
  test.each([
    ['a read past the end', CMD.READ, { offset: size - 511 }, ERR.EINVAL],
    ['a write past the end', CMD.WRITE, { offset: size - 511 }, ERR.ENOSPC],
    ['zeroes past the end', CMD.WRITE_ZEROES, { offset: size - 511 }, ERR.ENOSPC],
    ['a trim past the end', CMD.TRIM, { offset: size - 511 }, ERR.EINVAL],
    ['a cache request past the end', CMD.CACHE, { offset: size - 511 }, ERR.EINVAL],
    ['block status past the end', CMD.BLOCK_STATUS, { offset: size - 511 }, ERR.EINVAL],
    ['a length of 2^32 - 1', CMD.TRIM, { length: 0xffff_ffff }, ERR.EINVAL],
    ['an offset of 2^64 - 1', CMD.READ, { offset: Number(2n ** 64n - 1n), length: 1 }, ERR.EINVAL],
    ['an empty read beyond the end', CMD.READ, { offset: size + 1, length: 0 }, ERR.EINVAL],
    ['a read of 32 MiB and a byte', CMD.READ, { length: 32 * MiB + 1 }, ERR.EINVAL],
    ['a write of 32 MiB and a byte', CMD.WRITE, { length: 32 * MiB + 1 }, ERR.EINVAL],
    [
      'an unfragmented read of 32 MiB and a byte',
      CMD.READ,
      { flags: FLAG.DF, length: 32 * MiB + 1 },
      ERR.EOVERFLOW,
    ],
    ['a flush with an offset', CMD.FLUSH, { offset: 512, length: 0 }, ERR.EINVAL],
    ['a flush with a length', CMD.FLUSH, { length: 512 }, ERR.EINVAL],
    ['an empty block status', CMD.BLOCK_STATUS, { length: 0 }, ERR.EINVAL],
    ['command 8, the experimental resize', 8, {}, ERR.EINVAL],
    ['command 65535', 65_535, {}, ERR.EINVAL],
    ['an unknown flag', CMD.READ, { flags: 0x8000 }, ERR.EINVAL],
    ['NO_HOLE on a write', CMD.WRITE, { flags: FLAG.NO_HOLE }, ERR.EINVAL],
    ['FAST_ZERO on a trim', CMD.TRIM, { flags: FLAG.FAST_ZERO }, ERR.EINVAL],
    ['DF on a write', CMD.WRITE, { flags: FLAG.DF }, ERR.EINVAL],
    ['REQ_ONE on a read', CMD.READ, { flags: FLAG.REQ_ONE }, ERR.EINVAL],
    ['any flag but FUA on a cache request', CMD.CACHE, { flags: FLAG.DF }, ERR.EINVAL],
  ])('%s is refused', (_what, type, fields, error) => {
    expect(errorOf(type, fields)).toBe(error)
  })

  test.each([CMD.WRITE, CMD.TRIM, CMD.WRITE_ZEROES])('command %i on a read-only export is EPERM', (type) => {
    expect(errorOf(type, {}, { readOnly: true })).toBe(ERR.EPERM)
    expect(errorOf(type, { offset: size }, { readOnly: true })).toBe(ERR.EPERM)
  })

  test('DF is legal only with structured replies', () => {
    expect(errorOf(CMD.READ, { flags: FLAG.DF })).toBe(0)
    expect(errorOf(CMD.READ, { flags: FLAG.DF }, { structuredReplies: false })).toBe(ERR.EINVAL)
  })

  test('block status without a selected context, and trim where it was not offered, are EINVAL', () => {
    expect(errorOf(CMD.BLOCK_STATUS, {}, { blockStatus: false })).toBe(ERR.EINVAL)
    expect(errorOf(CMD.TRIM, {}, { canTrim: false })).toBe(ERR.EINVAL)
  })

  test('everything is ESHUTDOWN while the server shuts down', () => {
    for (const type of [...Object.values(CMD), 99]) {
      if (type !== CMD.DISC) expect(errorOf(type, {}, { shuttingDown: true })).toBe(ERR.ESHUTDOWN)
    }
  })
})

describe('receiving', () => {
  function transmission(
    options: {
      maxRequests?: number
      maxBytes?: number
      rules?: Partial<RequestRules>
      pool?: BufferPool
    } = {},
  ) {
    const budget = new InFlightBudget(options.maxRequests ?? 1000, () => options.maxBytes ?? 64 * MiB)
    const pool = options.pool ?? new BufferPool()
    return {
      budget,
      pool,
      machine: new Transmission({ budget, pool, rules: { ...rules, ...options.rules } }),
    }
  }

  interface Seen {
    type: number
    flags: number
    cookie: bigint
    offset: number
    length: number
    error: number
    payload: string | undefined
  }

  function seen(taken: NbdRequest): Seen {
    const { type, flags, offset, length, refusal, payload } = taken
    return {
      type,
      flags,
      cookie: (BigInt(taken.cookieHigh) << 32n) | BigInt(taken.cookieLow),
      offset,
      length,
      error: refusal?.error ?? 0,
      payload: payload && Buffer.from(payload.subarray(0, length)).toString('hex'),
    }
  }

  function receiveAll(machine: Transmission, chunks: readonly Uint8Array[]): Seen[] {
    const requests: Seen[] = []
    for (const chunk of chunks) {
      let at = 0
      while (at < chunk.length && !machine.disconnected) {
        at = machine.receive(chunk, at)
        const taken = machine.takeRequest()
        if (taken !== undefined) requests.push(seen(taken))
        if (machine.waiting) throw new Error('no room')
      }
    }
    return requests
  }

  const data = pattern(300)
  const session = concat(
    request(CMD.READ, { offset: 2 ** 26 + 512, length: 4096, cookie: 2n ** 64n - 1n }),
    request(CMD.WRITE, { offset: 0, payload: data, cookie: 2, flags: FLAG.FUA }),
    request(CMD.WRITE, { offset: 2n ** 64n - 1n, payload: data, cookie: 3 }),
    request(CMD.WRITE, { cookie: 4 }),
    request(99, { cookie: 5 }),
    request(CMD.FLUSH, { cookie: 6 }),
    request(CMD.DISC),
  )
  const expected: Seen[] = [
    {
      type: 0,
      flags: 0,
      cookie: 2n ** 64n - 1n,
      offset: 2 ** 26 + 512,
      length: 4096,
      error: 0,
      payload: undefined,
    },
    {
      type: 1,
      flags: 1,
      cookie: 2n,
      offset: 0,
      length: 300,
      error: 0,
      payload: Buffer.from(data).toString('hex'),
    },
    { type: 1, flags: 0, cookie: 3n, offset: 2 ** 64, length: 300, error: ERR.ENOSPC, payload: undefined },
    { type: 1, flags: 0, cookie: 4n, offset: 0, length: 0, error: 0, payload: undefined },
    { type: 99, flags: 0, cookie: 5n, offset: 0, length: 0, error: ERR.EINVAL, payload: undefined },
    { type: 3, flags: 0, cookie: 6n, offset: 0, length: 0, error: 0, payload: undefined },
  ]

  test('takes the same requests from any split of the bytes, the payload of a refused write skipped', () => {
    expect(receiveAll(transmission().machine, [session])).toEqual(expected)
    for (let cut = 1; cut < session.length; cut++) {
      expect(receiveAll(transmission().machine, [session.subarray(0, cut), session.subarray(cut)])).toEqual(
        expected,
      )
    }
    const bytes = Array.from(session, (byte) => Uint8Array.of(byte))
    expect(receiveAll(transmission().machine, bytes)).toEqual(expected)
  })

  test('reads nothing behind DISC', () => {
    const { machine } = transmission()
    const bytes = concat(request(CMD.DISC), request(CMD.FLUSH))
    expect(machine.receive(bytes, 0)).toBe(28)
    expect(machine.disconnected).toBe(true)
    expect(machine.receive(bytes, 28)).toBe(28)
  })

  test('drops a client whose request does not begin with the magic', () => {
    const wrong = request(CMD.READ)
    wrong[3] = 0
    expect(() => transmission().machine.receive(wrong, 0)).toThrow(/begins with 0x25609500/)
  })

  test('skips the payload of a write beyond 32 MiB and stays in step', () => {
    const { machine, budget } = transmission()
    const length = 40 * MiB
    const chunk = new Uint8Array(MiB)
    machine.receive(request(CMD.WRITE, { length }), 0)
    for (let i = 0; i < 40; i++) expect(machine.receive(chunk, 0)).toBe(MiB)
    expect(machine.takeRequest()?.refusal?.error).toBe(ERR.EINVAL)
    expect(budget.bytes).toBe(0)
    machine.receive(request(CMD.FLUSH), 0)
    expect(machine.takeRequest()?.type).toBe(CMD.FLUSH)
  })

  test('leaves a request unread while the budget has no room for its bytes, and goes on when it has', () => {
    const { machine, budget } = transmission({ maxBytes: 8192 })
    const bytes = concat(...[1, 2, 3].map((cookie) => request(CMD.READ, { length: 4096, cookie })))
    let at = machine.receive(bytes, 0)
    expect(machine.takeRequest()?.cookieLow).toBe(1)
    at = machine.receive(bytes, at)
    expect(machine.takeRequest()?.cookieLow).toBe(2)
    at = machine.receive(bytes, at)
    expect(machine.takeRequest()).toBeUndefined()
    expect(machine.waiting).toBe(true)
    budget.give(1, 4096)
    machine.receive(bytes, at)
    expect(machine.waiting).toBe(false)
    expect(machine.takeRequest()?.cookieLow).toBe(3)
  })

  test('leaves a request unread while too many are unanswered, also where they cost nothing', () => {
    const { machine } = transmission({ maxRequests: 2 })
    const bytes = concat(request(CMD.FLUSH), request(CMD.FLUSH), request(CMD.FLUSH))
    let at = machine.receive(bytes, 0)
    machine.takeRequest()
    at = machine.receive(bytes, at)
    machine.takeRequest()
    machine.receive(bytes, at)
    expect(machine.waiting).toBe(true)
  })

  test('lets one request in whatever the limit is', () => {
    const { machine } = transmission({ maxBytes: 1 })
    machine.receive(request(CMD.READ, { length: 32 * MiB }), 0)
    expect(machine.takeRequest()?.length).toBe(32 * MiB)
  })

  test('answers ENOMEM, and stays in step, where there is no memory for a payload', () => {
    class EmptyPool extends BufferPool {
      override take(): Uint8Array {
        throw new RangeError('Array buffer allocation failed')
      }
    }
    const { machine } = transmission({ pool: new EmptyPool() })
    const bytes = concat(request(CMD.WRITE, { payload: data }), request(CMD.FLUSH))
    const at = machine.receive(bytes, 0)
    expect(machine.takeRequest()?.refusal?.error).toBe(ERR.ENOMEM)
    machine.receive(bytes, at)
    expect(machine.takeRequest()?.type).toBe(CMD.FLUSH)
  })

  test('gives a half-received payload back to the pool at the end', () => {
    const { machine, pool } = transmission()
    machine.receive(request(CMD.WRITE, { length: 4096, payload: new Uint8Array(100) }), 0)
    expect(pool.freeBytes).toBe(0)
    machine.drop()
    expect(pool.freeBytes).toBeGreaterThan(4096)
    expect(machine.takeRequest()).toBeUndefined()
  })
})
