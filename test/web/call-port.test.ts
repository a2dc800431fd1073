/** Calls between the page and its worker, over a port of this process. */
import { expect, it } from 'vitest'
import { type Call, CallPort, type MessageEnd } from '../../packages/web/src/session-worker/call-port.ts'
import { registerCleanup } from '../support/cleanup.ts'

const failures = {
  coded: Object.assign(new TypeError('no such file'), { code: 'ENOENT' }),
  words: 'words',
  // Its code is a number, which is none of ours.
  cancelled: new DOMException('given up', 'AbortError'),
}

interface Ours {
  readonly double: Call<number, number>
  readonly fail: Call<keyof typeof failures, void>
  readonly count: Call<number, string, number>
  readonly wait: Call<undefined, void>
  readonly give: Call<undefined, unknown>
}

type Nothing = Record<never, Call<unknown, unknown>>

function pair(): {
  caller: CallPort<Ours, Nothing>
  answerer: CallPort<Nothing, Ours>
  port: MessagePort
  release: () => void
  aborted: unknown[]
} {
  const { port1, port2 } = new MessageChannel()
  registerCleanup(() => port1.close())
  const aborted: unknown[] = []
  let release = (): void => {}
  const answerer = new CallPort<Nothing, Ours>(port2 as MessageEnd, {
    double: (value) => value * 2,
    fail: (which) => Promise.reject(failures[which]),
    async count(times, { onProgress }) {
      for (let i = 1; i <= times; i++) onProgress(i)
      return 'done'
    },
    wait: (_, { signal }) =>
      new Promise((resolve) => {
        signal.addEventListener('abort', () => aborted.push(signal.reason))
        release = resolve
      }),
    give: () => () => 'a function is not to be cloned',
  })
  return {
    caller: new CallPort<Ours, Nothing>(port1 as MessageEnd, {}),
    answerer,
    port: port1,
    release: () => release(),
    aborted,
  }
}

it('calls are answered each by its own result, whatever else is on the port', async () => {
  const { caller, port } = pair()
  port.postMessage({ protocol: 'another', id: 0, type: 'call', name: 'double', argument: 1 })
  port.postMessage(null)
  expect(await Promise.all([1, 2, 3].map((value) => caller.call('double', value)))).toEqual([2, 4, 6])
})

it('an error arrives with its name, code and message', async () => {
  const { caller } = pair()
  const expected = { name: 'TypeError', code: 'ENOENT', message: 'no such file' }
  await expect(caller.call('fail', 'coded')).rejects.toMatchObject(expected)
  await expect(caller.call('fail', 'words')).rejects.toMatchObject({ message: 'words', code: '' })
  const cancelled = { name: 'AbortError', code: '', message: 'given up' }
  await expect(caller.call('fail', 'cancelled')).rejects.toMatchObject(cancelled)
})

it('a result that cannot be cloned is an error of the call, not of the port', async () => {
  const { caller } = pair()
  await expect(caller.call('give', undefined)).rejects.toThrow(/clone/)
  expect(await caller.call('double', 4)).toBe(8)
})

it('a call that nobody answers is refused', async () => {
  const { port1, port2 } = new MessageChannel()
  registerCleanup(() => port1.close())
  const caller = new CallPort<Ours, Nothing>(port1 as MessageEnd, {})
  new CallPort<Nothing, Nothing>(port2 as MessageEnd, {})
  await expect(caller.call('double', 1)).rejects.toMatchObject({ code: 'ERR_USAGE' })
})

it('of many reports of progress few are sent, and the last one always, before the answer', async () => {
  const { caller } = pair()
  const told: number[] = []
  const answer = caller.call('count', 10_000, { onProgress: (progress) => void told.push(progress) })
  expect(await answer).toBe('done')
  expect(told.length).toBeLessThan(100)
  expect(told.at(-1)).toBe(10_000)
})

it('a cancelled call ends when the other side has ended it', async () => {
  const { caller, release, aborted } = pair()
  const abort = new AbortController()
  let isOver = false
  const call = caller.call('wait', undefined, { signal: abort.signal }).finally(() => {
    isOver = true
  })
  // Answers come in order: the call has begun over there.
  await caller.call('double', 1)
  abort.abort()
  await caller.call('double', 1)
  expect(aborted).toHaveLength(1)
  expect(isOver).toBe(false)
  release()
  await call
  await expect(caller.call('wait', undefined, { signal: abort.signal })).rejects.toMatchObject({
    code: 'ABORT_ERR',
  })
})

it('the end of a port fails what was asked and will be, and cancels what is being answered', async () => {
  const { caller, answerer, aborted } = pair()
  const waiting = caller.call('wait', undefined)
  await caller.call('double', 1)
  caller.end(new Error('the worker broke'))
  caller.end(new Error('a later reason'))
  await expect(waiting).rejects.toThrow('the worker broke')
  await expect(caller.call('double', 1)).rejects.toThrow('the worker broke')
  answerer.end(new Error('over'))
  expect(aborted).toMatchObject([{ message: 'over' }])
})

it('says when all that was asked is answered', async () => {
  const { caller, answerer, release } = pair()
  const call = caller.call('wait', undefined)
  await caller.call('double', 1)
  let isAnswered = false
  const answered = answerer.answered().then(() => {
    isAnswered = true
  })
  await caller.call('double', 1)
  expect(isAnswered).toBe(false)
  release()
  await Promise.all([call, answered])
})
