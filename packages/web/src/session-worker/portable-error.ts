// An error as data, from one thread to another: what a program tells it by and what people read. Class and stack stay.

import { SshError } from '@sshblock/transport/errors'

export interface PortableError {
  readonly name: string
  /** '' where it has none. */
  readonly code: string
  readonly message: string
}

export function portableError(error: unknown): PortableError {
  if (!(error instanceof Error)) return { name: 'Error', code: '', message: String(error) }
  const { name, message } = error
  const { code } = error as { code?: unknown }
  return { name, code: typeof code === 'string' ? code : '', message }
}

/** The error again, as an SshError with its name and code. */
export function errorFrom({ name, code, message }: PortableError): SshError {
  const error = new SshError(code, message)
  error.name = name
  return error
}
