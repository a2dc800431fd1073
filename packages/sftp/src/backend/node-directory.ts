// A listing of one of the host's directories, in pieces, each entry with its own attributes (lstat).

import type { Dir } from 'node:fs'
import { lstat, opendir } from 'node:fs/promises'
import type { BackendDirectory, BackendEntry } from '../backend.ts'
import { pathText } from '../path-text.ts'
import { fileStatOf, isCode } from './node-host-path.ts'
import type { PinnedDirectory } from './node-paths.ts'

const bufferedEntries = 100

export class NodeDirectory implements BackendDirectory {
  readonly #pinned: PinnedDirectory
  readonly #dir: Dir
  /** '.' and '..' come first, as from readdir(3); Node leaves them out. */
  #dots: BackendEntry[]

  private constructor(pinned: PinnedDirectory, dir: Dir) {
    this.#pinned = pinned
    this.#dir = dir
    this.#dots = [
      { name: '.', stat: pinned.self },
      { name: '..', stat: pinned.parent },
    ]
  }

  /** Takes over `pinned`. */
  static async open(pinned: PinnedDirectory): Promise<NodeDirectory> {
    try {
      // Names as bytes: what is not UTF-8 must survive. The declaration knows text encodings only.
      const options = { encoding: 'buffer' as BufferEncoding, bufferSize: bufferedEntries }
      return new NodeDirectory(pinned, await opendir(pinned.host as string, options))
    } catch (error) {
      await pinned.close()
      throw error
    }
  }

  async read(max: number): Promise<BackendEntry[]> {
    const entries = this.#dots
    this.#dots = []
    for (;;) {
      const names: string[] = []
      while (entries.length + names.length < max) {
        const entry = await this.#dir.read()
        if (entry === null) break
        names.push(pathText(entry.name as unknown as Buffer))
      }
      const found = await Promise.all(names.map((name) => this.#entry(name)))
      for (const entry of found) if (entry !== undefined) entries.push(entry)
      // All gone meanwhile: an empty answer would mean the end.
      if (entries.length > 0 || names.length === 0) return entries
    }
  }

  async #entry(name: string): Promise<BackendEntry | undefined> {
    try {
      return { name, stat: fileStatOf(await lstat(this.#pinned.entry(name))) }
    } catch (error) {
      return isCode(error, 'ENOENT') ? undefined : { name, stat: undefined }
    }
  }

  async close(): Promise<void> {
    try {
      await this.#dir.close()
    } finally {
      await this.#pinned.close()
    }
  }
}
