// The bulk operations of the client, which a page fetches when the first of them is called.

import { SshError } from '@sshblock/transport/errors'

let fetched: typeof import('./bulk.ts') | undefined

/** bulk.ts. @throws SshError 'ERR_SFTP_CODE_NOT_FETCHED'; the next call asks for it again */
export async function bulk(): Promise<typeof import('./bulk.ts')> {
  try {
    fetched ??= await import('./bulk.ts')
    return fetched
  } catch (cause) {
    throw new SshError('ERR_SFTP_CODE_NOT_FETCHED', 'a part of the SFTP client could not be fetched', {
      cause,
    })
  }
}
