// Runs the built command once for each list of arguments, in this one process, and prints the outcomes as JSON.

import { run } from '../../packages/cli/dist/index.js'

/** @type {{ code: number, stdout: string, stderr: string }[]} */
const outcomes = []
const print = process.stdout.write.bind(process.stdout)
for (const args of JSON.parse(process.argv[2] ?? '[]')) {
  const said = { stdout: '', stderr: '' }
  for (const name of /** @type {const} */ (['stdout', 'stderr'])) {
    process[name].write = /** @type {typeof process.stdout.write} */ (
      (/** @type {string | Uint8Array} */ chunk, /** @type {unknown[]} */ ...rest) => {
        said[name] += Buffer.from(/** @type {string} */ (chunk)).toString()
        const done = rest.at(-1)
        if (typeof done === 'function') queueMicrotask(() => done())
        return true
      }
    )
  }
  outcomes.push({ code: await run(args), ...said })
}
print(JSON.stringify(outcomes), () => process.exit(0))
