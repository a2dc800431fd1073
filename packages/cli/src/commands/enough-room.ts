// SFTP version 3 has one FAILURE for everything: whether the file system was full has to be asked. A failed upload takes its
// '.part' away, so that what counts is whether the file would fit now.

import { type SftpClient, SftpStatusError } from '@sshblock/sftp'
import { quote, SshError } from '@sshblock/transport/node'
import { sizeText } from '../sizes.ts'

/**
 * Does `work`, which makes a file of `bytes` in the folder `folder` of the server.
 * @throws SshError 'ENOSPC' where the server fails without a reason and the folder has not that much room; else what `work` throws
 */
export async function withEnoughRoom<T>(
  sftp: SftpClient,
  folder: string,
  bytes: number,
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work()
  } catch (error) {
    if (!isUnexplained(error)) throw error
    const stats = await sftp.statvfs(folder).catch(() => undefined)
    const available = stats && stats.availableBlocks * stats.fragmentSize
    if (available === undefined || available >= bytes) throw error
    throw new SshError(
      'ENOSPC',
      `no space left: the file has ${sizeText(bytes)}, and ${quote(folder, 1024)} ${sizeText(Number(available))} available; make room on the server, or raise the quota`,
      { cause: error },
    )
  }
}

function isUnexplained(error: unknown): boolean {
  for (let each = error; each instanceof Error; each = each.cause)
    if (each instanceof SftpStatusError) return each.code === 'EIO'
  return false
}
