// Work on an open file that ends with it closed.

import type { RemoteFile } from './file.ts'

/** Runs `work` and closes the file. An error of `work` is told rather than one of the closing that it led to. */
export async function withFile<T>(file: RemoteFile, work: (file: RemoteFile) => Promise<T>): Promise<T> {
  let result: T
  try {
    result = await work(file)
  } catch (error) {
    await file.close().catch(() => {})
    throw error
  }
  await file.close()
  return result
}
