import { sftpChecks } from '@sshblock/sftp/conformance'
import {
  type Check,
  check,
  clientChecks,
  formatComparison,
  formatExpectation,
  formatTable,
  NotApplicable,
  parseExpectation,
  runChecks,
  runTrials,
  serverChecks,
  summaryLine,
  Unexpected,
} from '@sshblock/transport/conformance'
import { memoryDuplexPair, nodeCrypto } from '@sshblock/transport/node'
import { expect, test } from 'vitest'
import {
  allNumbers,
  numberRanges,
  sampleNumbers,
} from '../../packages/transport/src/conformance/message-table.ts'

const begin = () => ({ trial: undefined, end: () => {} })
const one = (id: string, run: () => Promise<string>): Check<undefined> =>
  check(id, `does ${id}`, 'RFC 1 s2', 'must', run)
const after = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

const some: Check<undefined>[] = [
  one('a.slow', () => after(30).then(() => 'something')),
  one('a.wrong', async () => {
    throw new Unexpected('this', 'that\u001b')
  }),
  one('b.none', async () => {
    throw new NotApplicable('it has none')
  }),
  one('b.broken', async () => {
    throw new TypeError('x is not a function')
  }),
]

test('results come in the order of the checks, with what came in visible characters', async () => {
  const results = await runChecks(some, begin, { concurrency: 4 })
  expect(results.map(({ id, outcome, came }) => [id, outcome, came])).toEqual([
    ['a.slow', 'pass', 'something'],
    ['a.wrong', 'fail', 'expected this, but there came that\\u{1b}'],
    ['b.none', 'not-applicable', 'it has none'],
    ['b.broken', 'fail', 'x is not a function'],
  ])
  expect(summaryLine(results)).toBe('4 checks: 1 passed, 2 failed, 1 not applicable')
})

test('a check that does not end fails, and what it opened is cleared away', async () => {
  let ended = 0
  const endless = one('c.endless', () => new Promise(() => {}))
  const results = await runChecks([endless], () => ({ trial: undefined, end: () => void ended++ }), {
    timeoutMs: 20,
  })
  expect(results).toMatchObject([
    { outcome: 'fail', came: 'expected an end of the check, but there came none in 20 ms' },
  ])
  expect(ended).toBe(1)
})

test('no more checks run at once than were asked for, and only those', async () => {
  let running = 0
  let most = 0
  const many = Array.from({ length: 9 }, (_, at) =>
    one(`d.${at}`, async () => {
      most = Math.max(most, ++running)
      await after(2)
      running--
      return ''
    }),
  )
  const seen: string[] = []
  const onResult = ({ id }: { id: string }) => void seen.push(id)
  const results = await runChecks(many, begin, { concurrency: 3, only: (id) => id !== 'd.4', onResult })
  expect([results.length, most, seen.length]).toEqual([8, 3, 8])
})

test('an expectation can be read as it was written', async () => {
  const results = await runChecks(some, begin)
  const text = formatExpectation(results)
  expect(text).toBe(
    'pass           a.slow\nfail           a.wrong\nnot-applicable b.none\nfail           b.broken\n',
  )
  expect([...parseExpectation(`# a comment\n${text}`)]).toEqual(
    results.map(({ id, outcome }) => [id, outcome]),
  )
})

test('tables have a row for each check', async () => {
  const results = await runChecks(some, begin)
  expect(formatTable(results).split('\n')[3]).toBe(
    'a.wrong: does a.wrong    RFC 1 s2 (must)  FAIL    expected this, but there came that\\u{1b}',
  )
  const outcomes = new Map(results.map(({ id, outcome }) => [id, outcome]))
  const comparison = formatComparison(some, [
    { name: 'one', outcomes },
    { name: 'other', outcomes: new Map() },
  ])
  expect(comparison.split('\n')).toEqual([
    '| check | claim | clause | one | other |',
    '| --- | --- | --- | --- | --- |',
    '| `a.slow` | does a.slow | RFC 1 s2 (must) | pass |  |',
    '| `a.wrong` | does a.wrong | RFC 1 s2 (must) | **fail** |  |',
    '| `b.none` | does b.none | RFC 1 s2 (must) | n/a |  |',
    '| `b.broken` | does b.broken | RFC 1 s2 (must) | **fail** |  |',
  ])
})

test('every check has an id of its own, a claim and a clause', () => {
  for (const suite of [[...serverChecks, ...sftpChecks], clientChecks]) {
    expect(new Set(suite.map(({ id }) => id)).size).toBe(suite.length)
    for (const { id, claim, clause } of suite) {
      expect(id).toMatch(/^[a-z]+(-[a-z]+)*\.[a-z0-9]+([.-][a-z0-9]+)*$/)
      expect(claim).toMatch(/^[a-z].*[^.]$/)
      expect(clause).toMatch(/^(RFC \d{4} s\d+|OpenSSH PROTOCOL|draft-|filexfer-)/)
    }
  }
})

test('numbers are told as ranges, and the sample holds the ends of each unassigned one', () => {
  expect(numberRanges([3, 1, 2, 9, 255, 254])).toBe('1-3, 9, 254-255')
  expect(numberRanges(allNumbers)).toBe('0-255')
  expect(numberRanges(sampleNumbers)).toBe(
    '0-9, 19-22, 29-35, 49-54, 59-67, 79-83, 89-101, 127-128, 191-194, 255',
  )
})

test('a peer that hangs up, is silent or speaks something else is told, not checked', async () => {
  const target = (greet: (duplex: ReturnType<typeof memoryDuplexPair>[0]) => void) => ({
    role: 'server' as const,
    crypto: nodeCrypto,
    patienceMs: 50,
    connect: async () => {
      const [ours, theirs] = memoryDuplexPair()
      greet(theirs)
      return ours
    },
  })
  await expect(
    runTrials(
      target(() => {}),
      serverChecks,
    ),
  ).rejects.toMatchObject({ code: 'ERR_CONFORMANCE_NO_PEER' })
  const http = new TextEncoder().encode('HTTP/1.1 400 Bad Request\r\n\r\n')
  await expect(
    runTrials(
      target((duplex) => duplex.write(http, () => {})),
      serverChecks,
    ),
  ).rejects.toMatchObject({
    code: 'ERR_CONFORMANCE_NO_PEER',
  })
})
