// Whether handles, perhaps of different connections, are of one file, though each was opened by path. SFTP version 3 tells
// no inode number, and equal sizes and contents prove nothing. So a time that nobody else would set is set through one
// handle and looked for through the others. First the time of access, in the future: writes do not touch it, and reads
// leave a time alone that is later than theirs (Linux's relatime). Where that does not help, the time of change, which
// writes meanwhile can hide, though never fake. Both are the present ones afterwards.
// A device that only reads sets nothing: there, all attributes must be equal. Two files for which they are, and that
// nobody writes to, read alike.

import type { Lane } from './host.ts'

const day = 86_400
/** Tries with the time of access, then with the time of change. */
const triesEach = 3

/** For each of `others`, whether it is open on the same file as `one`. Rejects where a lane is lost meanwhile. */
export async function areSameFile(
  one: Lane,
  others: readonly Lane[],
  options: { readonly mayMark: boolean; readonly random: () => number },
): Promise<boolean[]> {
  if (!options.mayMark) return alike(one, others)
  const proved = others.map(() => false)
  const now = Math.floor(Date.now() / 1000)
  try {
    for (let attempt = 0; attempt < 2 * triesEach && proved.includes(false); attempt++) {
      const distance = day + Math.floor(options.random() * 2 ** 27)
      const byAccess = attempt < triesEach
      const mark = byAccess ? now + distance : now - distance
      await one.setTimes(mark, byAccess ? now : mark)
      const found = await Promise.all(others.map((other) => other.attributes()))
      for (const [i, { accessed, changed }] of found.entries())
        if ((byAccess ? accessed : changed) === mark) proved[i] = true
    }
  } finally {
    // Nobody has to wait for this; where it fails the lane is lost, and says so itself.
    one.setTimes(now, now).catch(() => {})
  }
  return proved
}

async function alike(one: Lane, others: readonly Lane[]): Promise<boolean[]> {
  const [ours, ...theirs] = await Promise.all([one, ...others].map((lane) => lane.attributes()))
  return theirs.map(
    ({ size, changed, ownership }) =>
      size === ours!.size && changed === ours!.changed && ownership === ours!.ownership,
  )
}
