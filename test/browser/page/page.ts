// The test's end in the page: runs a scenario here, or in a worker, by its name.

import { outcomeOf } from './outcome.ts'
import * as scenarios from './scenarios.ts'

type Scenario = (...args: unknown[]) => Promise<unknown>

declare global {
  interface Window {
    run(name: string, args: unknown[]): Promise<unknown>
    runInWorker(name: string, args: unknown[]): Promise<unknown>
  }
}

window.run = (name, args) =>
  outcomeOf(() =>
    (scenarios as Record<string, unknown>)[name] === undefined
      ? Promise.reject(new Error(`no scenario ${name}`))
      : (scenarios as unknown as Record<string, Scenario>)[name]!(...args),
  )

window.runInWorker = (name, args) =>
  new Promise((resolve, reject) => {
    const worker = new Worker('/worker.js', { type: 'module' })
    worker.onmessage = ({ data }) => {
      worker.terminate()
      resolve(data)
    }
    worker.onerror = ({ message }) => reject(new Error(message))
    worker.postMessage({ name, args })
  })
