/** Block devices for browsers and other runtimes without node: the host-independent part. */
export * from './index.ts'
