// Code that is fetched when it is first needed: a chunk of its own in a page, a module that is not read at start-up in Node.

import type { MaybePromise } from './provider.ts'

/**
 * Gives a module to whoever asks: at once where it is there, else when `load` has it. A load that fails is tried again by
 * the next who asks.
 */
export function fetched<Module>(
  load: () => Promise<Module>,
): <R>(use: (module: Module) => R) => MaybePromise<Awaited<R>> {
  let module: Module | undefined
  return <R>(use: (module: Module) => R) => {
    if (module !== undefined) return use(module) as MaybePromise<Awaited<R>>
    return load().then((loaded) => {
      module = loaded
      return use(loaded)
    }) as Promise<Awaited<R>>
  }
}
