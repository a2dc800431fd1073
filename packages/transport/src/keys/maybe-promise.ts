import type { MaybePromise } from '../crypto/provider.ts'

/** Goes on with a value now, or when it is there: keeps synchronous cryptography synchronous. */
export function whenReady<T, R>(
  value: MaybePromise<T>,
  next: (value: T) => MaybePromise<R>,
): MaybePromise<R> {
  return value instanceof Promise ? value.then(next) : next(value)
}
