// A tab in headless Chromium, driven by the DevTools protocol with as little of it as can be. Playwright is not for
// measuring: it subscribes to the network events of its pages, and then the browser hands it every WebSocket message,
// encoded in base64, which costs more than the transfer itself.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import WebSocket from 'ws'
import { findProgram } from './ground.mjs'

const startTimeoutMs = 30_000

export class ChromiumTab {
  #socket
  #next = 0
  /** @type {Map<number, { resolve: (result: any) => void, reject: (error: Error) => void }>} */
  #calls = new Map()
  /** @type {string | undefined} */
  #sessionId
  #stop
  version = ''

  /** @param {WebSocket} socket @param {() => Promise<void>} stop */
  constructor(socket, stop) {
    this.#socket = socket
    this.#stop = stop
    socket.on('message', (data) => {
      const { id, result, error } = JSON.parse(data.toString())
      const call = this.#calls.get(id)
      this.#calls.delete(id)
      if (error === undefined) call?.resolve(result)
      else call?.reject(new Error(error.message))
    })
  }

  /** Starts a browser of its own with one page. @param {string} url */
  static async open(url) {
    const profile = mkdtempSync(join(tmpdir(), 'sshblock-bench-chromium-'))
    const browser = spawn(
      findProgram('chromium') ?? 'chromium',
      [
        ...['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run'],
        ...['--disable-dev-shm-usage', '--disable-background-networking', '--disable-component-update'],
        ...['--disable-sync', '--remote-debugging-port=0', `--user-data-dir=${profile}`, 'about:blank'],
      ],
      { stdio: ['ignore', 'ignore', 'pipe'], env: { ...process.env, HOME: profile } },
    )
    const stop = async () => {
      if (browser.exitCode === null && browser.signalCode === null) {
        const exited = once(browser, 'exit')
        browser.kill()
        await exited
      }
      rmSync(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 })
    }
    try {
      const socket = new WebSocket(await endpointOf(browser), { perMessageDeflate: false })
      await once(socket, 'open')
      const tab = new ChromiumTab(socket, stop)
      await tab.#attach(url)
      return tab
    } catch (error) {
      await stop()
      throw error
    }
  }

  /** @param {string} url */
  async #attach(url) {
    this.version = (await this.send('Browser.getVersion')).product
    const { targetId } = await this.send('Target.createTarget', { url })
    this.#sessionId = (await this.send('Target.attachToTarget', { targetId, flatten: true })).sessionId
  }

  /** One command of the protocol. @param {string} method @param {object} [params] @returns {Promise<any>} */
  send(method, params = {}) {
    const id = ++this.#next
    const answered = new Promise((resolve, reject) => this.#calls.set(id, { resolve, reject }))
    const session = this.#sessionId === undefined ? {} : { sessionId: this.#sessionId }
    this.#socket.send(JSON.stringify({ id, method, params, ...session }))
    return answered
  }

  /** The value of an expression in the page, awaited. @param {string} expression @returns {Promise<any>} */
  async evaluate(expression) {
    const { result, exceptionDetails } = await this.send('Runtime.evaluate', {
      expression,
      awaitPromise: true,
      returnByValue: true,
    })
    if (exceptionDetails !== undefined)
      throw new Error(`in the page: ${exceptionDetails.exception?.description ?? exceptionDetails.text}`)
    return result.value
  }

  /** Waits until an expression is true in the page. @param {string} expression */
  async until(expression) {
    const from = performance.now()
    while (!(await this.evaluate(expression))) {
      if (performance.now() - from > startTimeoutMs) throw new Error(`the page never has: ${expression}`)
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
  }

  async close() {
    this.#socket.close()
    await this.#stop()
  }
}

/** @param {import('node:child_process').ChildProcess} browser @returns {Promise<string>} */
function endpointOf(browser) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error('Chromium does not come up')), startTimeoutMs)
    browser.once('error', reject)
    browser.once('exit', () => reject(new Error('Chromium ended: apt-get install chromium')))
    if (browser.stderr === null) return
    // Read to its end, or the browser blocks one day.
    createInterface({ input: browser.stderr }).on('line', (line) => {
      const found = /^DevTools listening on (ws:\S+)/.exec(line)?.[1]
      if (found === undefined) return
      clearTimeout(timer)
      resolve(found)
    })
  })
}
