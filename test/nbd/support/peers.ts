/** NBD's real clients, and where Debian has them. */
import { type Finished, findProgram, run, runOrThrow } from '../../support/program.ts'
import { needsPrograms, type Requirement } from '../../support/requirements.ts'

export const needsLibnbd = needsPrograms('libnbd', ['nbdinfo', 'nbdcopy'], 'libnbd-bin')
export const needsNbdsh = needsPrograms('nbdsh', ['nbdsh'], 'python3-libnbd')
export const needsQemu = needsPrograms('qemu', ['qemu-img', 'qemu-io', 'qemu-nbd'], 'qemu-utils')
export const needsNbdClient: Requirement = needsPrograms('nbd-client', ['nbd-client'], 'nbd-client')
export const needsFio = needsPrograms('fio', ['fio'], 'fio')

/** Runs one of them; it must succeed. */
export function client(name: string, ...args: string[]): Promise<Finished> {
  return runOrThrow(findProgram(name) ?? name, args, { timeoutMs: 25_000 })
}

/**
 * Runs a script in libnbd's shell, where `h` is a handle and `error(f)` the errno name with which a call fails. What the
 * script passes to `show` is returned as JSON values.
 */
export async function nbdsh(script: string, ...args: string[]): Promise<unknown[]> {
  const prelude = `
import errno, json
def show(value): print('SHOW ' + json.dumps(value))
def error(call):
    try:
        call()
    except nbd.Error as failure:
        return failure.errno if failure.errno is not None else failure.string
    return None
`
  // The shell runs whichever python3 comes first in PATH; the module is Debian's.
  const env = { PATH: '/usr/bin:/bin' }
  const finished = await run('nbdsh', [...args, '-c', prelude, '-c', script], { env, timeoutMs: 25_000 })
  if (finished.code !== 0) throw new Error(`nbdsh failed: ${finished.stderr}`)
  const shown = finished.stdout.split('\n').filter((line) => line.startsWith('SHOW '))
  return shown.map((line) => JSON.parse(line.slice(5)))
}
