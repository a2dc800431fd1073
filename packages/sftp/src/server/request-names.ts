import { extendedOperations } from './extended-operations.ts'
import { operations } from './operations.ts'

/** OpenSSH's names of all requests, in the order of `sftp-server -Q requests`. */
export const requestNames: readonly string[] = [
  'open',
  'close',
  'read',
  'write',
  ...[...operations.values()].map(({ name }) => name).filter((name) => name !== 'open' && name !== 'close'),
  ...extendedOperations.map(({ name }) => name),
]
