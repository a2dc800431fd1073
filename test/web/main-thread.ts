/**
 * What the page's main thread did: its tasks from a trace of the browser, with the processor time that each took, which unlike
 * the time by the clock is not longer where other programs want the processor; and the bytes in its messages.
 */
import type { Page } from 'playwright-core'

export interface ThreadLoad {
  readonly tasks: number
  /** Processor time of the longest task, in milliseconds. */
  readonly longestMs: number
  /** Processor time of all tasks, in milliseconds. */
  readonly totalMs: number
}

export interface PageLoad {
  readonly page: ThreadLoad
  /** The one worker of the page. */
  readonly worker: ThreadLoad
  /** Milliseconds by the clock. */
  readonly elapsedMs: number
  /** Milliseconds by the clock of what the browser's `longtask` entries name: 50 ms and more. */
  readonly longTasksMs: readonly number[]
  /** Bytes in buffers that the page's thread has sent and received in messages. */
  readonly messageBytes: number
  readonly messages: number
}

interface Counted {
  messageBytes: number
  messages: number
  readonly longTasksMs: number[]
}

/** Counts from now on, in every document that the page opens. To be called before it is opened. */
export async function countMessages(page: Page): Promise<void> {
  await page.addInitScript(() => {
    const counted: Counted = { messageBytes: 0, messages: 0, longTasksMs: [] }
    ;(window as unknown as { counted: Counted }).counted = counted
    new PerformanceObserver((list) => {
      for (const { duration } of list.getEntries()) counted.longTasksMs.push(Math.round(duration))
    }).observe({ type: 'longtask', buffered: true })
    const bytesIn = (value: unknown): number => {
      if (value instanceof ArrayBuffer || ArrayBuffer.isView(value)) return value.byteLength
      if (typeof value !== 'object' || value === null) return 0
      return Object.values(value).reduce<number>((sum, part) => sum + bytesIn(part), 0)
    }
    const count = (message: unknown): void => {
      counted.messages++
      counted.messageBytes += bytesIn(message)
    }
    const seen = new WeakSet<Event>()
    for (const { prototype } of [Worker, MessagePort]) {
      const { addEventListener, postMessage } = prototype
      prototype.addEventListener = function (
        this: Worker & MessagePort,
        type: string,
        ...rest: [EventListenerOrEventListenerObject]
      ) {
        if (type === 'message')
          addEventListener.call(this, type, (event: Event) => {
            if (!seen.has(event)) count((event as MessageEvent).data)
            seen.add(event)
          })
        addEventListener.call(this, type, ...rest)
      }
      prototype.postMessage = function (this: Worker & MessagePort, message: unknown, options) {
        count(message)
        postMessage.call(this, message, options as StructuredSerializeOptions)
      } as typeof postMessage
    }
  })
}

interface TraceEvent {
  readonly name: string
  readonly ph: string
  readonly pid: number
  readonly tid: number
  /** Microseconds of processor time. */
  readonly tdur?: number
  readonly args: { readonly name?: string }
}

/** Does `work` and tells what it cost the page, and its worker. @throws where the browser does not tell processor times */
export async function loadDuring(page: Page, work: () => Promise<void>): Promise<PageLoad> {
  const browser = page.context().browser()!
  const counted = (): Promise<Counted> =>
    page.evaluate(() => (window as unknown as { counted: Counted }).counted)
  const before = await counted()
  await browser.startTracing(page, { categories: ['disabled-by-default-devtools.timeline', '__metadata'] })
  const startedAt = performance.now()
  let trace: Buffer
  try {
    await work()
  } finally {
    trace = await browser.stopTracing()
  }
  const elapsedMs = performance.now() - startedAt
  const after = await counted()
  const { traceEvents } = JSON.parse(trace.toString()) as { traceEvents: TraceEvent[] }
  const threads = new Map<string, { name: string; pid: number; tasks: TraceEvent[] }>()
  for (const { name, ph, pid, tid, args } of traceEvents)
    if (ph === 'M' && name === 'thread_name')
      threads.set(`${pid}/${tid}`, { name: args.name ?? '', pid, tasks: [] })
  // With the promises that go on behind a task.
  for (const event of traceEvents)
    if (event.name === 'RunTask') threads.get(`${event.pid}/${event.tid}`)?.tasks.push(event)
  const named = (name: string) => [...threads.values()].filter((thread) => thread.name === name)
  const [worker, ...others] = named('DedicatedWorker thread')
  if (worker === undefined || others.length > 0)
    throw new Error(`expected one worker in the trace, got ${others.length + (worker === undefined ? 0 : 1)}`)
  const main = named('CrRendererMain').find(({ pid }) => pid === worker.pid)
  if (main === undefined) throw new Error("the page's main thread is not in the trace")
  return {
    page: loadOf(main.tasks),
    worker: loadOf(worker.tasks),
    elapsedMs,
    longTasksMs: after.longTasksMs.slice(before.longTasksMs.length),
    messageBytes: after.messageBytes - before.messageBytes,
    messages: after.messages - before.messages,
  }
}

function loadOf(tasks: readonly TraceEvent[]): ThreadLoad {
  const times = tasks.flatMap(({ tdur }) => (tdur === undefined ? [] : [tdur / 1000]))
  // Tasks at the edges of a trace are cut.
  if (times.length < tasks.length - 2)
    throw new Error(`${tasks.length - times.length} of ${tasks.length} tasks have no processor time`)
  return {
    tasks: times.length,
    longestMs: Math.max(0, ...times),
    totalMs: times.reduce((sum, time) => sum + time, 0),
  }
}
