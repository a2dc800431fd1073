// `npm run web`: the page with everything behind it, and one line that says where it is.

import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { SshError, safeText } from '@sshblock/transport/errors'
import { startWebServer } from './node-web-server.ts'

const usage = `usage: npm run web -- [options]

  --port N             port of the page on 127.0.0.1 (8484; 0 for any)
  --folder PATH        folder to show, instead of a fresh one with a demo disk
  --allow HOST:PORT    an SSH server that the page may reach too; may be given again
  --network CIDR       a private network in which such servers may be; may be given again
  --bios FILE          BIOS for the emulator (/usr/share/seabios/bios.bin)
  --vga-bios FILE      VGA BIOS for the emulator (/usr/share/seabios/vgabios-stdvga.bin)
  --help               this text
`

async function main(): Promise<number> {
  let values: ReturnType<typeof parse>
  try {
    values = parse()
  } catch (error) {
    console.error(`web: ${error instanceof Error ? error.message : String(error)}\n\n${usage}`)
    return 2
  }
  if (values.help === true) {
    console.log(usage)
    return 0
  }
  const port = Number(values.port)
  if (!Number.isInteger(port) || port < 0 || port > 65_535) {
    console.error(`web: --port: expected a number from 0 to 65535, got ${values.port}`)
    return 2
  }
  if ((values.bios === undefined) !== (values['vga-bios'] === undefined)) {
    console.error('web: --bios and --vga-bios are given together')
    return 2
  }
  try {
    const server = await startWebServer({
      pageFolder: fileURLToPath(new URL('./page', import.meta.url)),
      port,
      ...(values.folder === undefined ? {} : { folder: values.folder }),
      allow: values.allow ?? [],
      networks: values.network ?? [],
      ...(values.bios === undefined ? {} : { bios: { bios: values.bios, vgaBios: values['vga-bios']! } }),
    })
    console.log(`open ${server.url} in a browser; Ctrl+C ends it (files: ${server.folder})`)
    await new Promise<void>((resolve) => {
      for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => resolve())
    })
    await server.close()
    return 0
  } catch (error) {
    const code = (error as { code?: unknown }).code
    if (!(error instanceof SshError) && typeof code !== 'string') throw error
    console.error(`web: ${safeText((error as Error).message)}`)
    return 1
  }
}

function parse() {
  return parseArgs({
    options: {
      port: { type: 'string', default: '8484' },
      folder: { type: 'string' },
      allow: { type: 'string', multiple: true },
      network: { type: 'string', multiple: true },
      bios: { type: 'string' },
      'vga-bios': { type: 'string' },
      help: { type: 'boolean', short: 'h' },
    },
  }).values
}

process.exitCode = await main()
