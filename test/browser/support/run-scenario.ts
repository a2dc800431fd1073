/** Calls a scenario in a page, typed. */
import type { Page } from 'playwright-core'
import type { Outcome } from '../page/outcome.ts'
import type * as Scenarios from '../page/scenarios.ts'

type Names = keyof typeof Scenarios
type Result<N extends Names> = Awaited<ReturnType<(typeof Scenarios)[N]>>

/** What the scenario came to, an error included. */
export async function outcome<N extends Names>(
  page: Page,
  name: N,
  ...args: Parameters<(typeof Scenarios)[N]>
): Promise<Outcome<Result<N>>> {
  await page.waitForFunction('typeof run === "function"')
  return page.evaluate(([name, args]) => window.run(name, args), [name, args] as [
    string,
    unknown[],
  ]) as Promise<Outcome<Result<N>>>
}

/** Its result; an error of the scenario fails the test. */
export async function run<N extends Names>(
  page: Page,
  name: N,
  ...args: Parameters<(typeof Scenarios)[N]>
): Promise<Result<N>> {
  return resultOf(await outcome(page, name, ...args))
}

/** The same in a worker of the page. */
export async function runInWorker<N extends Names>(
  page: Page,
  name: N,
  ...args: Parameters<(typeof Scenarios)[N]>
): Promise<Result<N>> {
  await page.waitForFunction('typeof run === "function"')
  const all = [name, args] as [string, unknown[]]
  return resultOf(
    (await page.evaluate(([name, args]) => window.runInWorker(name, args), all)) as Outcome<Result<N>>,
  )
}

function resultOf<T>(result: Outcome<T>): T {
  if ('value' in result) return result.value
  const { name, code, message } = result.error
  throw new Error(`in the page: ${name} ${code}: ${message}`)
}
