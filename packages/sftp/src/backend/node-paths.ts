// How the node back end gets from a client's path to the host's files: the seam between what is done and how it is kept
// inside the root. Every method resolves, runs `use` while what it found is pinned, and lets go.

import type { FileStat } from '../backend.ts'
import type { HostPath } from './node-host-path.ts'
import type { Place } from './path-walk.ts'

/** 'entry': the name itself. 'nofollow': the same, but 'link/' is what the link leads to. 'follow': what it leads to. */
export type LinkMode = 'entry' | 'nofollow'

/** An open directory, ready to be listed. */
export interface PinnedDirectory {
  /** Its entries are `host`/name. */
  readonly host: HostPath
  entry(name: string): HostPath
  /** The directory's own attributes, and its parent's; the root is its own parent. */
  readonly self: FileStat
  readonly parent: FileStat
  close(): Promise<void>
}

export interface HostPaths {
  /** Opens what the path leads to. `flags` as open(2). */
  open(path: string, flags: number, mode: number): Promise<number>
  /**
   * Runs `use` with a host path whose last component is not to be followed: for unlink, rename, mkdir, lstat, ...
   * `directoryItself` is the error for a path that ends at no name ('/', 'a/..'); without it, such a path is allowed.
   * `place` tells where below the root; undefined where there is no confinement.
   */
  withEntry<T>(
    path: string,
    mode: LinkMode,
    directoryItself: string | undefined,
    use: (host: HostPath, place: Place | undefined) => Promise<T>,
  ): Promise<T>
  /** Runs `use` with a host path that leads, followed, to exactly one inode: for chmod, truncate, utimes, statfs. */
  withTarget<T>(path: string, mode: 'follow' | 'nofollow', use: (host: HostPath) => Promise<T>): Promise<T>
  stat(path: string): Promise<FileStat>
  realpath(path: string): Promise<string>
  openDirectory(path: string): Promise<PinnedDirectory>
  close(): void
}
