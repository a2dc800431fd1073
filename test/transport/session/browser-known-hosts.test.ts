/** The store of known hosts where a browser keeps nothing: one error that says so. What it keeps is tested in Chromium. */
import { BrowserKnownHosts } from '@sshblock/transport/browser'
import { describe, expect, it } from 'vitest'

describe('a store of known hosts', () => {
  it.each([
    ['the runtime has no IndexedDB', undefined, /no IndexedDB/],
    [
      'the page has no origin of its own',
      {
        open: () => {
          throw new DOMException('access to the Indexed Database API is denied\u202e', 'SecurityError')
        },
      },
      /is denied\\u\{202e\}/,
    ],
    [
      'it cannot be opened',
      {
        open: () => {
          const request = {
            error: new DOMException('the disk is full', 'QuotaExceededError'),
            onerror: () => {},
          }
          queueMicrotask(() => request.onerror())
          return request
        },
      },
      /the disk is full/,
    ],
  ])('says so where %s', async (_, factory, message) => {
    const options = factory === undefined ? {} : { indexedDB: factory as unknown as IDBFactory }
    await expect(BrowserKnownHosts.open(options)).rejects.toMatchObject({
      name: 'SshError',
      code: 'ERR_KNOWN_HOSTS_STORE',
      message: expect.stringMatching(message),
    })
  })
})
