// A small generator of pseudo-random numbers (splitmix32): the only source of chance in a history.

export class Random {
  #state: number

  constructor(seed: number) {
    this.#state = seed >>> 0
  }

  /** 0 to 2^32 - 1. */
  next(): number {
    this.#state = (this.#state + 0x9e3779b9) >>> 0
    let z = this.#state
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad)
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97)
    return (z ^ (z >>> 15)) >>> 0
  }

  /** 0 to `bound` - 1. */
  below(bound: number): number {
    return this.next() % bound
  }

  /** `low` to `high`, both included. */
  between(low: number, high: number): number {
    return low + this.below(high - low + 1)
  }

  chance(probability: number): boolean {
    return this.next() < probability * 2 ** 32
  }

  pick<T>(choices: readonly T[]): T {
    return choices[this.below(choices.length)] as T
  }

  /** By weight. */
  weighted<T>(choices: readonly (readonly [weight: number, value: T])[]): T {
    let at = this.below(choices.reduce((sum, [weight]) => sum + weight, 0))
    for (const [weight, value] of choices) {
      if (at < weight) return value
      at -= weight
    }
    return choices[0]![1]
  }

  fill = (into: Uint8Array): void => {
    for (let i = 0; i < into.length; i++) into[i] = this.next()
  }
}

/** The seed of history number `index` of a run. */
export function historySeed(seed: number, index: number): number {
  return new Random((seed ^ Math.imul(index + 1, 0x85ebca6b)) >>> 0).next()
}
