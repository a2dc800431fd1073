import { defineConfig } from 'vite'

// The page is built from the sources of all packages; `npm run web` serves what comes out.
export default defineConfig({
  root: import.meta.dirname,
  // The session's worker fetches what few connections need when one does, as the page would.
  worker: { format: 'es' },
  resolve: { conditions: ['@sshblock/source', 'browser', 'module', 'import', 'default'] },
  build: {
    outDir: 'dist/page',
    emptyOutDir: true,
    target: 'es2022',
    // The emulator is one large chunk, fetched when a disk is booted.
    chunkSizeWarningLimit: 700,
    modulePreload: { polyfill: false },
    rolldownOptions: {
      input: {
        index: 'index.html',
        'download-worker': 'src/page/download-worker.ts',
      },
      // A service worker governs what lies below its own path: it has to be at the top, under a name that stays.
      output: {
        entryFileNames: (chunk) =>
          chunk.name === 'download-worker' ? 'download-worker.js' : 'assets/[name]-[hash].js',
      },
    },
  },
})
