// The proxy in a process of its own, so that its work does not slow down what is measured. Two uses:
//
//   node proxy-process.mjs '{"target":{"host":"127.0.0.1","port":22},"delayMs":25}'
//     prints {"port":N} and then obeys lines of JSON on stdin: {"do":"cut","how":"rst"}, {"do":"stall"},
//     {"do":"resume"}, {"do":"refuse"}, {"do":"accept"}, {"do":"setPath","path":{...}}, {"do":"counters"};
//     each is answered by one line of JSON. The end of stdin ends it.
//
//   import { startProxyProcess } from './proxy-process.mjs'
//     starts that and gives its commands as methods.

import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { startProxy } from './proxy.mjs'

/** @import { Accident, Counters, CutOptions, PathOptions, ProxyOptions } from './proxy.mjs' */

/**
 * @typedef {{ do: 'cut', how: Accident } | { do: 'setPath', path: PathOptions } | { do: 'setCut', cut?: CutOptions }
 *   | { do: 'stall' | 'resume' | 'refuse' | 'accept' | 'counters' }} Order
 */

/** @param {import('./proxy.mjs').TcpProxy} proxy @param {Order} order */
async function obey(proxy, order) {
  switch (order.do) {
    case 'cut':
      return proxy.cut(order.how)
    case 'setPath':
      return proxy.setPath(order.path)
    case 'setCut':
      return proxy.setCut(order.cut)
    case 'stall':
      return proxy.stall()
    case 'resume':
      return proxy.resume()
    case 'refuse':
      return proxy.refuse()
    case 'accept':
      return proxy.accept()
    case 'counters':
      return proxy.counters()
    default:
      throw new Error(`unknown order ${JSON.stringify(order)}`)
  }
}

async function main() {
  const proxy = await startProxy(JSON.parse(process.argv[2] ?? '{}'))
  /** @param {unknown} value */
  const say = (value) => process.stdout.write(`${JSON.stringify(value)}\n`)
  say({ port: proxy.port })
  for await (const line of createInterface({ input: process.stdin })) {
    try {
      say({ result: (await obey(proxy, JSON.parse(line))) ?? null })
    } catch (error) {
      say({ error: String(error) })
    }
  }
  await proxy.stop()
}

/**
 * Starts a proxy in a process of its own.
 *
 * @param {Omit<ProxyOptions, 'rewrite'> & PathOptions} options
 */
export async function startProxyProcess(options) {
  const child = spawn(process.execPath, [fileURLToPath(import.meta.url), JSON.stringify(options)], {
    stdio: ['pipe', 'pipe', 'inherit'],
  })
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
  const ended = new Promise((resolve) => child.once('exit', resolve))
  /** @returns {Promise<any>} */
  const hear = async () => {
    const { value, done } = await lines.next()
    if (done === true) throw new Error('the proxy process has ended')
    const said = JSON.parse(value)
    if (said.error !== undefined) throw new Error(said.error)
    return said
  }
  let last = /** @type {Promise<unknown>} */ (Promise.resolve())
  /** @param {Order} order @returns {Promise<any>} */
  const tell = (order) => {
    // One order at a time: the answers come in the order of the questions.
    const answer = last.then(() => {
      child.stdin.write(`${JSON.stringify(order)}\n`)
      return hear().then((said) => said.result)
    })
    last = answer.catch(() => {})
    return answer
  }
  const { port } = await hear()
  return {
    host: '127.0.0.1',
    port: /** @type {number} */ (port),
    pid: child.pid,
    /** @param {Accident} how @returns {Promise<void>} */
    cut: (how) => tell({ do: 'cut', how }),
    /** @param {CutOptions} [cut] @returns {Promise<void>} */
    setCut: (cut) => tell({ do: 'setCut', ...(cut && { cut }) }),
    /** @param {PathOptions} path @returns {Promise<void>} */
    setPath: (path) => tell({ do: 'setPath', path }),
    /** @returns {Promise<void>} */
    stall: () => tell({ do: 'stall' }),
    /** @returns {Promise<void>} */
    resume: () => tell({ do: 'resume' }),
    /** @returns {Promise<void>} */
    refuse: () => tell({ do: 'refuse' }),
    /** @returns {Promise<void>} */
    accept: () => tell({ do: 'accept' }),
    /** @returns {Promise<Counters & { connections: number }>} */
    counters: () => tell({ do: 'counters' }),
    /** Ends the process and with it all connections. */
    async stop() {
      child.stdin.end()
      await ended
    },
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main()
