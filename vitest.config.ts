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
    testTimeout: 30_000,
    hookTimeout: 60_000,
    pool: 'forks',
    // Tests with peers wait more than they compute.
    maxWorkers: '100%',
  },
})
