import { defineConfig } from 'vitest/config'

// Packages are imported by name and resolve to their TypeScript sources, so tests need no build.
const conditions = ['@sshblock/source', 'node', 'import', 'module', 'default']

export default defineConfig({
  resolve: { conditions },
  ssr: { resolve: { conditions } },
  test: {
    include: ['test/**/*.test.ts'],
    globalSetup: ['test/support/global-setup.ts'],
    setupFiles: ['test/support/setup.ts'],
    testTimeout: 60_000,
    // On a shared machine a real peer can be starved past its own time-outs; what fails three times in a row has failed.
    retry: process.env['CI'] === 'true' ? 2 : 0,
    hookTimeout: 60_000,
    pool: 'forks',
    // Tests with peers wait more than they compute.
    maxWorkers: '100%',
  },
})
