/** A back end around another one that delays, fails or falsifies calls as a test says: the filter has the interface it wraps. */
import type {
  Awaitable,
  BackendDirectory,
  BackendFile,
  SftpBackend,
} from '../../../packages/sftp/src/backend.ts'

export interface FaultCall {
  /** The method of SftpBackend; 'fstat', 'fsetstat', 'read', 'write', 'sync', 'close', 'readdir' of what is open. */
  readonly operation: string
  /** Of the call, or of the open file. */
  readonly path: string
  /** READ and WRITE. */
  readonly offset?: number
  readonly length?: number
}

export interface FaultHooks {
  /** Called before the call goes through. A promise delays it, an error thrown or rejected is its result. */
  before?(call: FaultCall): Awaitable<void> | undefined
  /** Changes how many bytes a read claims to have read; shorten it, or lie. */
  readResult?(count: number, call: FaultCall): number
  /** Called instead of a write; returns how many bytes reach the back end before the call goes on or fails. */
  cutWrite?(call: FaultCall): number | undefined
}

function isPromise<T>(value: Awaitable<T>): value is Promise<T> {
  return value instanceof Promise
}

export function faultBackend(backend: SftpBackend, hooks: FaultHooks): SftpBackend {
  function through<T>(call: FaultCall, run: () => Awaitable<T>): Awaitable<T> {
    const waiting = hooks.before?.(call)
    return waiting !== undefined && isPromise(waiting) ? waiting.then(run) : run()
  }

  function wrapFile(path: string, file: BackendFile): BackendFile {
    const wrapped: BackendFile & { inner: BackendFile } = {
      inner: file,
      read(offset, into) {
        const call = { operation: 'read', path, offset, length: into.length }
        const result = through(call, () => file.read(offset, into))
        const lie = (count: number) => hooks.readResult?.(count, call) ?? count
        return isPromise(result) ? result.then(lie) : lie(result)
      },
      write(offset, from) {
        const call = { operation: 'write', path, offset, length: from.length }
        const cut = hooks.cutWrite?.(call)
        return through(call, () => file.write(offset, cut === undefined ? from : from.subarray(0, cut)))
      },
      stat: () => through({ operation: 'fstat', path }, () => file.stat()),
      setstat: (changes) => through({ operation: 'fsetstat', path }, () => file.setstat(changes)),
      sameFile: (other) => file.sameFile((other as { inner?: BackendFile }).inner ?? other),
      close: () => through({ operation: 'close', path }, () => file.close()),
    }
    if (file.sync !== undefined) wrapped.sync = () => through({ operation: 'sync', path }, () => file.sync!())
    if (file.statvfs !== undefined) wrapped.statvfs = () => file.statvfs!()
    return wrapped
  }

  function wrapDirectory(path: string, directory: BackendDirectory): BackendDirectory {
    return {
      read: (max) => through({ operation: 'readdir', path }, () => directory.read(max)),
      close: () => through({ operation: 'close', path }, () => directory.close()),
    }
  }

  const transparent = new Set<PropertyKey>(['userName', 'groupName', 'homeDirectory'])
  return new Proxy(backend, {
    get(target, key) {
      const value: unknown = Reflect.get(target, key, target)
      if (typeof value !== 'function') return value
      if (transparent.has(key)) return value.bind(target)
      const operation = String(key)
      return (...args: unknown[]) => {
        const path = String(args[0])
        const result = through({ operation, path }, () => value.apply(target, args) as Awaitable<unknown>)
        if (operation === 'open') {
          const wrap = (file: unknown) => wrapFile(path, file as BackendFile)
          return isPromise(result) ? result.then(wrap) : wrap(result)
        }
        if (operation === 'opendir') {
          const wrap = (directory: unknown) => wrapDirectory(path, directory as BackendDirectory)
          return isPromise(result) ? result.then(wrap) : wrap(result)
        }
        return result
      }
    },
  })
}
