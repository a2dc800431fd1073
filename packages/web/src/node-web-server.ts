// One process with everything that the page needs: its files, the bridge, and an SSH server with a folder. On loopback.

import { createHash, randomBytes, timingSafeEqual } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { createServer, type IncomingMessage } from 'node:http'
import { createRequire } from 'node:module'
import type { AddressInfo } from 'node:net'
import { createBridge } from '@sshblock/bridge'
import { biosPath, type PageSettings, settingsPath, vgaBiosPath } from './demo-settings.ts'
import { makeDemoFolder } from './node-demo-folder.ts'
import { startSshServer } from './node-embedded-server.ts'
import { filesBelow, type ServedFile, servedFile, serveFile } from './node-static-files.ts'

export interface WebServerOptions {
  /** Folder with the built page. */
  readonly pageFolder: string
  /** Default 0: any free one. */
  readonly port?: number
  /** Folder to show instead of the demonstration's. */
  readonly folder?: string
  /** Further SSH servers that the page may reach: 'host:22', '*.example.org:22', '*:22'. */
  readonly allow?: readonly string[]
  /** Networks of such servers that are private: '192.168.1.0/24'. */
  readonly networks?: readonly string[]
  /** Files of a BIOS for the emulator; SeaBIOS where Debian's package has put it, if there. */
  readonly bios?: { readonly bios: string; readonly vgaBios: string }
}

export interface WebServer {
  /** 'http://127.0.0.1:PORT/#TOKEN': with the token the page is told the key of the server that came with it. */
  readonly url: string
  /** The folder that the SSH server shows. */
  readonly folder: string
  /** Idempotent. */
  close(): Promise<void>
}

const bridgePath = '/ssh'
const host = '127.0.0.1'
const debianBios = {
  bios: '/usr/share/seabios/bios.bin',
  vgaBios: '/usr/share/seabios/vgabios-stdvga.bin',
}

/** Starts page, bridge and SSH server. @throws UsageError; the system's error where the port is taken */
export async function startWebServer(options: WebServerOptions): Promise<WebServer> {
  const files = filesBelow(options.pageFolder)
  const hasBios = addMachine(files, options.bios ?? debianBios)
  const demoFolder = options.folder === undefined ? await makeDemoFolder() : undefined
  const folder = options.folder ?? demoFolder!.root
  try {
    const ssh = await startSshServer(folder)
    try {
      const settings: PageSettings = {
        bridgePath,
        demo: { ...ssh.access, image: demoFolder === undefined ? undefined : `/${demoFolder.image}` },
        allowed: options.allow ?? [],
        hasBios,
      }
      const http = await serve(files, options, ssh.access.port, settings)
      let closing: Promise<void> | undefined
      const close = async (): Promise<void> => {
        await http.close()
        await ssh.close()
        await demoFolder?.remove()
      }
      return {
        url: http.url,
        folder,
        close() {
          closing ??= close()
          return closing
        },
      }
    } catch (error) {
      await ssh.close()
      throw error
    }
  } catch (error) {
    await demoFolder?.remove()
    throw error
  }
}

async function serve(
  files: ReadonlyMap<string, ServedFile>,
  { port: wantedPort = 0, allow = [], networks = [] }: WebServerOptions,
  sshPort: number,
  settings: PageSettings,
): Promise<{ url: string; close(): Promise<void> }> {
  const ours = new Set<string>()
  const token = randomBytes(18).toString('base64url')
  const server = createServer((request, response) => {
    // A page elsewhere whose name leads here (DNS rebinding) must not read the demonstration's key.
    if (!ours.has(hostOf(request))) {
      response.writeHead(403).end()
      return
    }
    if (request.url === settingsPath) {
      // The key is for whoever started the server, not for everybody with an account on this machine.
      const known = isSame(request.headers.authorization ?? '', `Bearer ${token}`)
      const told = known ? settings : { ...settings, demo: undefined }
      const file = servedFile(settingsPath, new TextEncoder().encode(JSON.stringify(told)))
      serveFile(new Map([[settingsPath, file]]), request, response)
      return
    }
    serveFile(files, request, response)
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen({ port: wantedPort, host }, resolve)
  })
  const { port } = server.address() as AddressInfo
  const names = [`${host}:${port}`, `localhost:${port}`]
  for (const name of names) ours.add(name)
  const bridge = createBridge({
    targets: { allow: [`${host}:${sshPort}`, ...allow] },
    origins: names.map((name) => `http://${name}`),
    networks,
    pathPrefix: bridgePath,
    healthPath: false,
  })
  bridge.attach(server)
  return {
    // Behind '#', so that the browser keeps it to itself.
    url: `http://${host}:${port}/#${token}`,
    async close() {
      await bridge.close()
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}

function isSame(given: string, expected: string): boolean {
  const digest = (text: string): Buffer => createHash('sha256').update(text).digest()
  return timingSafeEqual(digest(given), digest(expected))
}

function hostOf(request: IncomingMessage): string {
  return (request.headers.host ?? '').toLowerCase()
}

/** What the emulator needs beside its disk. Returns whether there is a BIOS. */
function addMachine(files: Map<string, ServedFile>, { bios, vgaBios }: typeof debianBios): boolean {
  const wasm = createRequire(import.meta.url).resolve('v86/build/v86.wasm')
  files.set('/v86.wasm', servedFile('/v86.wasm', readFileSync(wasm)))
  if (!existsSync(bios) || !existsSync(vgaBios)) return false
  files.set(biosPath, servedFile(biosPath, readFileSync(bios)))
  files.set(vgaBiosPath, servedFile(vgaBiosPath, readFileSync(vgaBios)))
  return true
}
