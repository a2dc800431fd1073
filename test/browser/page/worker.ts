// The test's end in a worker: one message runs one scenario and answers with its outcome.

import { outcomeOf } from './outcome.ts'
import * as scenarios from './scenarios.ts'

self.onmessage = async ({ data }: MessageEvent<{ name: string; args: unknown[]; port?: MessagePort }>) => {
  const { name, args, port } = data
  const scenario = (scenarios as unknown as Record<string, (...all: unknown[]) => Promise<unknown>>)[name]!
  postMessage(await outcomeOf(() => scenario(...args, ...(port === undefined ? [] : [port]))))
}
