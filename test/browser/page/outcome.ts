// What a scenario came to, as plain data: a test sees the error's class, code and facts, not only its text.

export type Outcome<T> =
  | { readonly value: T }
  | {
      readonly error: {
        readonly name: string
        readonly code: string | undefined
        readonly message: string
        readonly problem: string | undefined
        readonly causeCode: string | undefined
      }
    }

export async function outcomeOf<T>(work: () => Promise<T>): Promise<Outcome<T>> {
  try {
    return { value: await work() }
  } catch (thrown) {
    const error = thrown as Error & { code?: string; problem?: string }
    const { code, problem } = error
    const causeCode = (error.cause as { code?: string } | undefined)?.code
    return { error: { name: error.name, code, message: error.message, problem, causeCode } }
  }
}
