// Host keys that a page trusts, kept in IndexedDB as the text of a known_hosts file: one record, so that it can be shown,
// copied to OpenSSH and brought from there. Changes are made inside one transaction (read, add, write), so that two tabs
// lose nothing. What is kept is as safe as the page's origin: whoever can run scripts there can change it.

import type { CryptoProvider, MaybePromise } from '../crypto/provider.ts'
import { SshError, safeText } from '../errors.ts'
import {
  type HostKeyPolicy,
  type KnownHostsPolicyOptions,
  knownHostsPolicy,
  type PresentedHostKey,
} from '../keys/host-key-policy.ts'
import { KnownHosts, type NewKnownHost } from '../keys/known-hosts.ts'
import { utf8Text } from '../wire/bytes.ts'

export interface BrowserKnownHostsOptions {
  /** Name of the database; default 'sshblock-known-hosts'. */
  database?: string
  /** In place of the runtime's own. */
  indexedDB?: IDBFactory
}

export interface AskingPolicyOptions extends Omit<KnownHostsPolicyOptions, 'onUnknown'> {
  /**
   * Asked where the host is unknown, never where its key has changed or is revoked. 'remember' trusts the key from now on,
   * 'once' for this connection.
   */
  ask: (presented: PresentedHostKey, message: string) => MaybePromise<'remember' | 'once' | 'no'>
}

const storeName = 'known-hosts'
const recordKey = 'text'

/** The known hosts of a page's origin. */
export class BrowserKnownHosts {
  readonly #database: IDBDatabase

  private constructor(database: IDBDatabase) {
    this.#database = database
  }

  /**
   * Opens the store, and makes it where it is not there.
   * @throws SshError 'ERR_KNOWN_HOSTS_STORE' where the runtime has no IndexedDB or refuses it (private windows may)
   */
  static async open(options: BrowserKnownHostsOptions = {}): Promise<BrowserKnownHosts> {
    const factory = options.indexedDB ?? (globalThis as { indexedDB?: IDBFactory }).indexedDB
    if (factory === undefined) throw storeError('this runtime has no IndexedDB')
    let request: IDBOpenDBRequest
    try {
      request = factory.open(options.database ?? 'sshblock-known-hosts', 1)
    } catch (error) {
      // SecurityError: the page has no origin of its own (a sandboxed frame, data:), or storage is turned off for it.
      throw storeError(error)
    }
    request.onupgradeneeded = () => void request.result.createObjectStore(storeName)
    const database = await resultOf(request)
    // Another tab wants to delete it or bring a newer form: it must not wait for this one.
    database.onversionchange = () => database.close()
    return new BrowserKnownHosts(database)
  }

  /** What is known now; changing the copy changes nothing here. */
  async read(): Promise<KnownHosts> {
    return KnownHosts.parse(await this.text())
  }

  /** The text of the known_hosts file, '' where nothing is known. */
  async text(): Promise<string> {
    const store = this.#transaction('readonly')
    return textOf(await resultOf(store.get(recordKey)))
  }

  /** Replaces everything with the text of a known_hosts file. Lines that cannot be used are kept, and skipped. */
  async replace(text: string): Promise<void> {
    await this.#change(() => text)
  }

  /** Adds a line at the end. @throws UsageError as formatKnownHostsLine */
  async add(crypto: CryptoProvider, host: NewKnownHost): Promise<void> {
    await this.#change((text) => {
      const known = KnownHosts.parse(text)
      known.add(crypto, host)
      return utf8Text(known.bytes())
    })
  }

  /** Removes every line about exactly this name ('host' or '[host]:port'); as `ssh-keygen -R`. Returns how many. */
  async remove(crypto: CryptoProvider, name: string): Promise<number> {
    let removed = 0
    await this.#change((text) => {
      const known = KnownHosts.parse(text)
      const lines = known.entriesFor(crypto, name).map(({ line }) => line)
      removed = lines.length
      known.remove(lines)
      return utf8Text(known.bytes())
    })
    return removed
  }

  /**
   * A policy for one connection that trusts what is known, asks about a host that is not, and remembers the answer: trust
   * on first use. A key that differs from the known one is refused without a question.
   */
  async policy(crypto: CryptoProvider, { ask, ...options }: AskingPolicyOptions): Promise<HostKeyPolicy> {
    return knownHostsPolicy(crypto, await this.read(), {
      ...options,
      onUnknown: async (presented, message) => {
        const answer = await ask(presented, message)
        if (answer === 'remember') {
          const { host, port, alias } = options
          const key = { type: presented.publicKey.type, blob: presented.publicKey.blob }
          await this.add(crypto, { host, port, key, ...(alias === undefined ? {} : { alias }) })
        }
        // Anything but these two words is a no, also where the caller is not typed.
        return answer === 'remember' || answer === 'once'
      },
    })
  }

  /** Lets go of the database. */
  close(): void {
    this.#database.close()
  }

  #transaction(mode: IDBTransactionMode): IDBObjectStore {
    try {
      return this.#database.transaction(storeName, mode).objectStore(storeName)
    } catch (error) {
      throw storeError(error)
    }
  }

  /** Reads, changes and writes in one transaction; resolves when it is on the disk. */
  #change(edit: (text: string) => string): Promise<void> {
    const store = this.#transaction('readwrite')
    const { transaction } = store
    return new Promise((resolve, reject) => {
      let failure: unknown
      transaction.oncomplete = () => resolve()
      transaction.onabort = () => reject(failure ?? storeError(transaction.error))
      const reading = store.get(recordKey)
      reading.onsuccess = () => {
        try {
          store.put(edit(textOf(reading.result)), recordKey)
        } catch (error) {
          failure = error
          transaction.abort()
        }
      }
    })
  }
}

function textOf(stored: unknown): string {
  return typeof stored === 'string' ? stored : ''
}

function resultOf<T>(request: IDBRequest<T>): Promise<T> {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result)
    request.onerror = () => reject(storeError(request.error))
  })
}

function storeError(cause: unknown): SshError {
  const text = cause instanceof Error || cause instanceof DOMException ? cause.message : String(cause)
  return new SshError('ERR_KNOWN_HOSTS_STORE', `the known hosts cannot be kept here: ${safeText(text)}`, {
    cause,
  })
}
