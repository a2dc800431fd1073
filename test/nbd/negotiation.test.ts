import { describe, expect, test } from 'vitest'
import type { ExportDescription } from '../../packages/nbd/src/export.ts'
import { Negotiation } from '../../packages/nbd/src/negotiation.ts'
import {
  bothClientFlags,
  concat,
  counted,
  infoData,
  metaData,
  OPT,
  type OptionReply,
  option,
  parseOptionReplies,
  REP,
  text,
  textOf,
  u16,
  u32,
  u64,
} from './support/messages.ts'

const disk: ExportDescription = {
  name: 'disk',
  description: 'a disk',
  sizeBytes: 5_000_000_000,
  transmissionFlags: 0x0dcd,
  minimumBlockBytes: 1,
  preferredBlockBytes: 65_536,
  maximumBlockBytes: 33_554_432,
}

/** Answers as a server with the one export `disk`, '' meaning it too. */
function answer(negotiation: Negotiation): void {
  const { question } = negotiation
  if (question === undefined) return
  if (question.kind === 'list') negotiation.answerList([disk, { name: 'other' }])
  else if (question.name !== 'disk' && question.name !== '')
    negotiation.refuse(REP.ERR_UNKNOWN, 'no such export')
  else if (question.kind === 'exists') negotiation.answerExists('disk')
  else negotiation.answerExport(disk)
}

/** Feeds bytes, answering whatever is asked. @returns what was not consumed */
function feed(negotiation: Negotiation, bytes: Uint8Array): number {
  let at = 0
  for (;;) {
    const next = negotiation.receive(bytes, at)
    const asked = negotiation.question !== undefined
    answer(negotiation)
    if (!asked && next === at) return bytes.length - at
    at = next
    if (negotiation.outcome !== undefined) return bytes.length - at
    if (!asked && at === bytes.length) return 0
  }
}

/** A negotiation past the client's flags. */
function greeted(flags = bothClientFlags): Negotiation {
  const negotiation = new Negotiation()
  negotiation.takeOutput()
  feed(negotiation, flags)
  return negotiation
}

function send(negotiation: Negotiation, type: number, data?: Uint8Array): OptionReply[] {
  feed(negotiation, option(type, data))
  return parseOptionReplies(negotiation.takeOutput() ?? new Uint8Array(0))
}

function types(replies: readonly OptionReply[]): number[] {
  return replies.map((reply) => reply.type)
}

describe('greeting', () => {
  test('is NBDMAGIC, IHAVEOPT, and the flags for fixed newstyle and no zeroes', () => {
    expect(new Negotiation().takeOutput()).toEqual(concat(text('NBDMAGIC'), text('IHAVEOPT'), u16(3)))
  })

  test.each([4, 8, 0x8000_0000, 7])('drops a client with unknown client flags 0x%s', (flags) => {
    expect(() => new Negotiation().receive(u32(flags), 0)).toThrow(/unknown client flags/)
  })

  test('drops a client whose option does not begin with IHAVEOPT', () => {
    const wrong = option(OPT.LIST)
    wrong[7] = 0
    expect(() => feed(greeted(), wrong)).toThrow(/IHAVEOPT/)
  })

  test('serves EXPORT_NAME to a client without the fixed newstyle flag, and drops it at any other option', () => {
    const old = greeted(u32(0))
    feed(old, option(OPT.EXPORT_NAME, text('disk')))
    expect(old.outcome?.kind).toBe('transmission')
    expect(() => feed(greeted(u32(0)), option(OPT.LIST))).toThrow(/FIXED_NEWSTYLE/)
  })
})

describe('NBD_OPT_EXPORT_NAME', () => {
  test('is answered with size, flags and 124 zeroes where the client did not decline them', () => {
    const negotiation = greeted(u32(1))
    feed(negotiation, option(OPT.EXPORT_NAME, text('disk')))
    expect(negotiation.takeOutput()).toEqual(concat(u64(5_000_000_000), u16(0x0dcd), new Uint8Array(124)))
    expect(negotiation.outcome).toEqual({
      kind: 'transmission',
      structuredReplies: false,
      blockStatus: false,
    })
  })

  test('is answered without zeroes where the client declined them', () => {
    const negotiation = greeted(u32(3))
    feed(negotiation, option(OPT.EXPORT_NAME, text('disk')))
    expect(negotiation.takeOutput()).toEqual(concat(u64(5_000_000_000), u16(0x0dcd)))
  })

  test.each([
    ['an unknown name', text('nothing')],
    ['a name of 4097 bytes', new Uint8Array(4097).fill(97)],
    ['a name with NUL', text('di\0sk')],
    ['a name that is not UTF-8', Uint8Array.of(0xc3, 0x28)],
  ])('ends the session without a reply for %s', (_what, name) => {
    const negotiation = greeted()
    feed(negotiation, option(OPT.EXPORT_NAME, name))
    expect(negotiation.outcome).toEqual({ kind: 'refused' })
    expect(negotiation.takeOutput()).toBeUndefined()
  })
})

describe('NBD_OPT_ABORT', () => {
  test('is acknowledged, data or not, and ends the session', () => {
    for (const data of [new Uint8Array(0), text('bye')]) {
      const negotiation = greeted()
      expect(types(send(negotiation, OPT.ABORT, data))).toEqual([REP.ACK])
      expect(negotiation.outcome).toEqual({ kind: 'aborted' })
    }
  })
})

describe('NBD_OPT_LIST', () => {
  test('names every export with its description, then acknowledges', () => {
    const [first, second, last] = send(greeted(), OPT.LIST)
    expect(first).toEqual({
      option: OPT.LIST,
      type: REP.SERVER,
      data: concat(counted('disk'), text('a disk')),
    })
    expect(second).toEqual({ option: OPT.LIST, type: REP.SERVER, data: counted('other') })
    expect(last).toEqual({ option: OPT.LIST, type: REP.ACK, data: new Uint8Array(0) })
  })

  test('with data is invalid', () => {
    expect(types(send(greeted(), OPT.LIST, text('x')))).toEqual([REP.ERR_INVALID])
  })
})

describe('NBD_OPT_STARTTLS', () => {
  test('is unsupported, with a reason for people', () => {
    const [reply] = send(greeted(), OPT.STARTTLS)
    expect(reply?.type).toBe(REP.ERR_UNSUP)
    expect(textOf(reply!.data)).toMatch(/TLS/)
  })

  test('with data is invalid', () => {
    expect(types(send(greeted(), OPT.STARTTLS, text('x')))).toEqual([REP.ERR_INVALID])
  })
})

describe.each([
  ['NBD_OPT_INFO', OPT.INFO],
  ['NBD_OPT_GO', OPT.GO],
])('%s', (_name, type) => {
  const exportInfo = concat(u16(0), u64(5_000_000_000), u16(0x0dcd))
  const blockSizeInfo = concat(u16(3), u32(1), u32(65_536), u32(33_554_432))

  test('tells size, flags and block sizes, then acknowledges', () => {
    const negotiation = greeted()
    const replies = send(negotiation, type, infoData('disk'))
    expect(replies.map(({ data }) => data)).toEqual([exportInfo, blockSizeInfo, new Uint8Array(0)])
    expect(types(replies)).toEqual([REP.INFO, REP.INFO, REP.ACK])
    expect(replies.every((reply) => reply.option === type)).toBe(true)
    expect(negotiation.outcome?.kind).toBe(type === OPT.GO ? 'transmission' : undefined)
  })

  test('tells the canonical name and the description where they are asked for, and ignores unknown information types', () => {
    const replies = send(greeted(), type, infoData('', 1, 2, 3, 4711))
    expect(replies.map(({ data }) => data)).toEqual([
      exportInfo,
      concat(u16(1), text('disk')),
      concat(u16(2), text('a disk')),
      blockSizeInfo,
      new Uint8Array(0),
    ])
  })

  test('for an unknown export is ERR_UNKNOWN and leaves the session in negotiation', () => {
    const negotiation = greeted()
    expect(types(send(negotiation, type, infoData('nothing')))).toEqual([REP.ERR_UNKNOWN])
    expect(negotiation.outcome).toBeUndefined()
    expect(types(send(negotiation, type, infoData('disk'))).at(-1)).toBe(REP.ACK)
  })

  test('accepts a name of 4096 bytes and refuses one of 4097', () => {
    expect(types(send(greeted(), type, infoData('x'.repeat(4096))))).toEqual([REP.ERR_UNKNOWN])
    expect(types(send(greeted(), type, infoData('x'.repeat(4097))))).toEqual([REP.ERR_INVALID])
  })

  test.each([
    ['no data at all', new Uint8Array(0)],
    ['a name longer than the option', concat(u32(5), text('disk'), u16(0))],
    ['a name length of 2^32 - 1', concat(u32(0xffff_ffff), text('disk'), u16(0))],
    ['no count of information requests', counted('disk')],
    ['more information requests than announced', concat(counted('disk'), u16(1), u16(0), u16(1))],
    ['fewer information requests than announced', concat(counted('disk'), u16(2), u16(0))],
    ['65535 information requests announced', concat(counted('disk'), u16(0xffff))],
    ['a name with NUL', infoData('di\0sk')],
    ['a name that is not UTF-8', infoData(Uint8Array.of(0xff))],
  ])('with %s is invalid, and the next option is understood', (_what, data) => {
    const negotiation = greeted()
    expect(types(send(negotiation, type, data))).toEqual([REP.ERR_INVALID])
    expect(types(send(negotiation, OPT.STRUCTURED_REPLY))).toEqual([REP.ACK])
  })
})

describe('NBD_OPT_STRUCTURED_REPLY', () => {
  test('is acknowledged and lasts to the transmission phase', () => {
    const negotiation = greeted()
    expect(types(send(negotiation, OPT.STRUCTURED_REPLY))).toEqual([REP.ACK])
    send(negotiation, OPT.GO, infoData('disk'))
    expect(negotiation.outcome).toEqual({ kind: 'transmission', structuredReplies: true, blockStatus: false })
  })

  test('with data is invalid and changes nothing', () => {
    const negotiation = greeted()
    expect(types(send(negotiation, OPT.STRUCTURED_REPLY, text('x')))).toEqual([REP.ERR_INVALID])
    expect(negotiation.structuredReplies).toBe(false)
  })

  test('is unaffected by a refused STARTTLS', () => {
    const negotiation = greeted()
    send(negotiation, OPT.STRUCTURED_REPLY)
    send(negotiation, OPT.STARTTLS)
    expect(negotiation.structuredReplies).toBe(true)
  })
})

describe('metadata contexts', () => {
  const contextReply = (type: number, id: number) => ({
    option: type,
    type: REP.META_CONTEXT,
    data: concat(u32(id), text('base:allocation')),
  })

  function structured(): Negotiation {
    const negotiation = greeted()
    send(negotiation, OPT.STRUCTURED_REPLY)
    return negotiation
  }

  function blockStatusAfter(...options: readonly (readonly [number, Uint8Array?])[]): boolean {
    const negotiation = structured()
    for (const [type, data] of options) send(negotiation, type, data)
    send(negotiation, OPT.GO, infoData('disk'))
    return negotiation.outcome?.kind === 'transmission' && negotiation.outcome.blockStatus
  }

  test.each([OPT.LIST_META_CONTEXT, OPT.SET_META_CONTEXT])(
    'option %i needs structured replies first',
    (type) => {
      expect(types(send(greeted(), type, metaData('disk', 'base:allocation')))).toEqual([REP.ERR_INVALID])
    },
  )

  test.each([
    ['without queries', [] as string[]],
    ['for the wildcard base:', ['base:']],
    ['for base:allocation', ['base:allocation']],
    [
      'among queries of other namespaces',
      ['x-mine:yes', 'base:unknown', 'base:allocation', 'qemu:dirty-bitmap:b'],
    ],
  ])('LIST %s names base:allocation once, with id 0', (_what, queries) => {
    const replies = send(structured(), OPT.LIST_META_CONTEXT, metaData('disk', ...queries))
    expect(replies).toEqual([
      contextReply(OPT.LIST_META_CONTEXT, 0),
      { option: OPT.LIST_META_CONTEXT, type: REP.ACK, data: new Uint8Array(0) },
    ])
  })

  test.each([
    ['unknown leaves', ['base:unknown']],
    ['unknown namespaces', ['x-mine:yes']],
  ])('%s match nothing', (_what, queries) => {
    for (const type of [OPT.LIST_META_CONTEXT, OPT.SET_META_CONTEXT]) {
      expect(types(send(structured(), type, metaData('disk', ...queries)))).toEqual([REP.ACK])
    }
  })

  test('SET of base:allocation selects it with an id for the chosen export', () => {
    const replies = send(
      structured(),
      OPT.SET_META_CONTEXT,
      metaData('disk', 'base:allocation', 'base:allocation'),
    )
    expect(replies[0]).toEqual(contextReply(OPT.SET_META_CONTEXT, 1))
    expect(types(replies)).toEqual([REP.META_CONTEXT, REP.ACK])
    expect(blockStatusAfter([OPT.SET_META_CONTEXT, metaData('disk', 'base:allocation')])).toBe(true)
  })

  test('SET under an alias counts for the canonical name', () => {
    expect(blockStatusAfter([OPT.SET_META_CONTEXT, metaData('', 'base:allocation')])).toBe(true)
  })

  test.each([
    ['the wildcard base:', ['base:']],
    ['no queries', [] as string[]],
  ])('SET of %s selects nothing', (_what, queries) => {
    expect(types(send(structured(), OPT.SET_META_CONTEXT, metaData('disk', ...queries)))).toEqual([REP.ACK])
    expect(blockStatusAfter([OPT.SET_META_CONTEXT, metaData('disk', ...queries)])).toBe(false)
  })

  test('SET replaces what was selected before, also when it fails', () => {
    const set = [OPT.SET_META_CONTEXT, metaData('disk', 'base:allocation')] as const
    expect(blockStatusAfter(set, [OPT.SET_META_CONTEXT, metaData('disk')])).toBe(false)
    expect(blockStatusAfter(set, [OPT.SET_META_CONTEXT, metaData('nothing', 'base:allocation')])).toBe(false)
    expect(blockStatusAfter(set, [OPT.SET_META_CONTEXT, text('rubbish')])).toBe(false)
    expect(blockStatusAfter(set, [OPT.LIST_META_CONTEXT, metaData('disk')])).toBe(true)
  })

  test.each([OPT.LIST_META_CONTEXT, OPT.SET_META_CONTEXT])(
    'option %i for an unknown export is ERR_UNKNOWN',
    (type) => {
      expect(types(send(structured(), type, metaData('nothing', 'base:allocation')))).toEqual([
        REP.ERR_UNKNOWN,
      ])
    },
  )

  test.each([
    ['a query without a colon', metaData('disk', 'base')],
    ['a query with an empty namespace', metaData('disk', ':allocation')],
    ['a query of 4097 bytes', metaData('disk', `x-mine:${'a'.repeat(4090)}`)],
    ['a query with NUL', metaData('disk', 'x-mine:\0')],
    ['a query longer than the option', concat(counted('disk'), u32(1), u32(100), text('base:'))],
    ['2^32 - 1 queries', concat(counted('disk'), u32(0xffff_ffff), counted('base:'))],
    ['more bytes than queries', concat(metaData('disk', 'base:'), u32(0))],
    ['no count', counted('disk')],
  ])('%s is invalid', (_what, data) => {
    for (const type of [OPT.LIST_META_CONTEXT, OPT.SET_META_CONTEXT]) {
      expect(types(send(structured(), type, data))).toEqual([REP.ERR_INVALID])
    }
  })

  test('a query of 4096 bytes is accepted', () => {
    const query = `x-mine:${'a'.repeat(4089)}`
    expect(types(send(structured(), OPT.LIST_META_CONTEXT, metaData('disk', query)))).toEqual([REP.ACK])
  })
})

describe('unknown options', () => {
  test.each([0, OPT.PEEK_EXPORT, OPT.EXTENDED_HEADERS, 12, 0x8000_0000, 0xffff_ffff])(
    'option %i is refused politely, its data skipped',
    (type) => {
      const negotiation = greeted()
      expect(send(negotiation, type, new Uint8Array(1000).fill(1))).toMatchObject([
        { option: type, type: REP.ERR_UNSUP },
      ])
      expect(types(send(negotiation, OPT.STRUCTURED_REPLY))).toEqual([REP.ACK])
    },
  )

  test('data of 65536 bytes is accepted, of 65537 bytes drops the client before any of it is read', () => {
    expect(types(send(greeted(), 99, new Uint8Array(65_536)))).toEqual([REP.ERR_UNSUP])
    expect(() => feed(greeted(), option(99, new Uint8Array(0), 65_537))).toThrow(/65537 bytes/)
    expect(() => feed(greeted(), option(99, new Uint8Array(0), 0xffff_ffff))).toThrow(/4294967295 bytes/)
  })

  test('1024 options are accepted, the next one drops the client', () => {
    const negotiation = greeted()
    for (let i = 0; i < 1024; i++) send(negotiation, 99)
    expect(() => send(negotiation, 99)).toThrow(/more than 1024 options/)
  })
})

describe('shutdown', () => {
  test('answers every option but ABORT with ERR_SHUTDOWN', () => {
    for (const type of Object.values(OPT)) {
      if (type === OPT.EXPORT_NAME || type === OPT.ABORT) continue
      const negotiation = greeted()
      negotiation.shutDown()
      expect(types(send(negotiation, type, infoData('disk')))).toEqual([REP.ERR_SHUTDOWN])
    }
    const aborting = greeted()
    aborting.shutDown()
    expect(types(send(aborting, OPT.ABORT))).toEqual([REP.ACK])
    const leaving = greeted()
    leaving.shutDown()
    send(leaving, OPT.EXPORT_NAME, text('disk'))
    expect(leaving.outcome).toEqual({ kind: 'refused' })
  })
})

describe('splits', () => {
  const session = concat(
    bothClientFlags,
    option(OPT.EXTENDED_HEADERS),
    option(OPT.STRUCTURED_REPLY),
    option(OPT.LIST),
    option(OPT.LIST_META_CONTEXT, metaData('disk')),
    option(OPT.SET_META_CONTEXT, metaData('disk', 'base:allocation')),
    option(OPT.INFO, infoData('disk', 1, 2)),
    option(OPT.GO, infoData('disk', 3)),
    text('what belongs to the transmission phase'),
  )

  function outputOf(cuts: readonly number[]): { output: Uint8Array; left: number; outcome: unknown } {
    const negotiation = new Negotiation()
    const outputs: Uint8Array[] = []
    let left = 0
    let start = 0
    for (const cut of [...cuts, session.length]) {
      left += feed(negotiation, session.subarray(start, cut))
      const output = negotiation.takeOutput()
      if (output !== undefined) outputs.push(output)
      start = cut
    }
    return { output: concat(...outputs), left, outcome: negotiation.outcome }
  }

  test('any split of the bytes gives the same replies and leaves the same bytes to the transmission phase', () => {
    const whole = outputOf([])
    expect(whole.left).toBe('what belongs to the transmission phase'.length)
    expect(whole.outcome).toEqual({ kind: 'transmission', structuredReplies: true, blockStatus: true })
    for (let cut = 1; cut < session.length; cut++) expect(outputOf([cut])).toEqual(whole)
    expect(outputOf(Array.from({ length: session.length - 1 }, (_, i) => i + 1))).toEqual(whole)
  })
})
