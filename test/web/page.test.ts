/** The page, driven as a person would: by labels and roles, with the mouse, the keyboard and dropped files. */
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { get } from 'node:http'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import type { Page } from 'playwright-core'
import { expect, it } from 'vitest'
import { needsChromium } from '../browser/support/chromium.ts'
import { needsBios } from '../browser/support/machine.ts'
import { registerCleanup } from '../support/cleanup.ts'
import { clientKey } from '../support/keys.ts'
import { needsOpenssh, startOpensshServer } from '../support/openssh-server.ts'
import { startOurServer } from '../support/our-server.ts'
import { describeWith } from '../support/requirements.ts'
import { saved, servedPage } from './served-page.ts'

/** SSHBLOCK_SCREENSHOTS=folder keeps pictures of every view, light and dark. */
const screenshots = process.env['SSHBLOCK_SCREENSHOTS']

/** Promise.withResolvers, which Node 20 lacks. */
function deferred<T>(): { promise: Promise<T>; resolve: (value: T) => void; reject: (error: Error) => void } {
  let settle!: { resolve: (value: T) => void; reject: (error: Error) => void }
  const promise = new Promise<T>((resolve, reject) => {
    settle = { resolve, reject }
  })
  return { promise, ...settle }
}

const digest = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex')

async function picture(page: Page, name: string): Promise<void> {
  if (screenshots === undefined) return
  mkdirSync(screenshots, { recursive: true })
  for (const colorScheme of ['light', 'dark'] as const) {
    await page.emulateMedia({ colorScheme })
    await page.waitForTimeout(150)
    await page.screenshot({ path: join(screenshots, `${name}-${colorScheme}.png`), fullPage: true })
  }
}

describeWith([needsChromium()], 'the page', () => {
  const { serve, visit, connected } = servedPage()

  it('shows, sends, saves, renames and deletes files of its own server', async () => {
    const server = await serve()
    const page = await visit(server)
    await page.getByRole('heading', { name: 'Connect to an SSH server' }).waitFor()
    await picture(page, 'connect')
    // By the keyboard alone.
    await page.getByRole('radio', { name: /came with this page/ }).focus()
    await page.keyboard.press('Enter')
    await page.getByRole('heading', { name: 'Connected as demo' }).waitFor()

    const table = page.getByRole('region', { name: /^Files in/ })
    await table.getByRole('button', { name: 'Download welcome.txt' }).waitFor()
    const { name, bytes } = await saved(page, () =>
      table.getByRole('button', { name: 'Download welcome.txt' }).click(),
    )
    expect(name).toBe('welcome.txt')
    expect(bytes.equals(readFileSync(join(server.folder, 'welcome.txt')))).toBe(true)

    const content = randomBytes(3_000_000)
    await page
      .getByLabel('Files to upload')
      .setInputFiles({ name: 'grüße & more.bin', mimeType: '', buffer: content })
    await page.getByText('grüße & more.bin was uploaded').waitFor()
    expect(digest(readFileSync(join(server.folder, 'grüße & more.bin')))).toBe(digest(content))
    const again = await saved(page, () =>
      table.getByRole('button', { name: 'Download grüße & more.bin' }).click(),
    )
    expect(again.name).toBe('grüße & more.bin')
    expect(digest(again.bytes)).toBe(digest(content))

    // Dropped onto the list.
    const dropped = await page.evaluateHandle(() => {
      const transfer = new DataTransfer()
      transfer.items.add(new File(['dropped words'], 'dropped.txt'))
      return transfer
    })
    await page
      .getByRole('region', { name: 'Files on the server' })
      .dispatchEvent('drop', { dataTransfer: dropped })
    await table.getByRole('button', { name: 'Download dropped.txt' }).waitFor()
    expect(readFileSync(join(server.folder, 'dropped.txt'), 'utf8')).toBe('dropped words')
    await picture(page, 'files')

    await page.getByRole('button', { name: 'New folder…' }).click()
    await page.getByRole('dialog').getByLabel('Name').fill('new folder')
    await page.keyboard.press('Enter')
    await table.getByRole('button', { name: 'Open folder new folder' }).waitFor()
    expect(statSync(join(server.folder, 'new folder')).isDirectory()).toBe(true)

    await table.getByRole('button', { name: 'Rename dropped.txt' }).click()
    await page.getByRole('dialog').getByLabel('New name').fill('renamed.txt')
    await page.getByRole('button', { name: 'OK' }).click()
    await table.getByRole('button', { name: 'Download renamed.txt' }).waitFor()

    await table.getByRole('button', { name: 'Delete renamed.txt' }).click()
    // Escape means no.
    await page.keyboard.press('Escape')
    await page.getByRole('dialog').waitFor({ state: 'detached' })
    expect(existsSync(join(server.folder, 'renamed.txt'))).toBe(true)
    await table.getByRole('button', { name: 'Delete renamed.txt' }).click()
    await page.getByRole('button', { name: 'Delete', exact: true }).click()
    await table.getByRole('button', { name: 'Download renamed.txt' }).waitFor({ state: 'detached' })
    expect(existsSync(join(server.folder, 'renamed.txt'))).toBe(false)

    await table.getByRole('button', { name: 'Open folder a folder' }).click()
    await page.getByRole('button', { name: 'Download notes.txt' }).waitFor()
    await page.getByRole('navigation', { name: 'Folder' }).getByRole('button', { name: 'Server' }).click()
    await table.getByRole('button', { name: 'Download welcome.txt' }).waitFor()

    await page.getByRole('button', { name: 'Disconnect' }).click()
    await page.getByRole('heading', { name: 'Connect to an SSH server' }).waitFor()
  })

  it('tells the key of its own server to nobody without the token, and nothing under another name', async () => {
    const server = await serve()
    const { origin, host, hash, port } = new URL(server.url)
    const settings = async (headers: Record<string, string>): Promise<string> => {
      const { promise, resolve, reject } = deferred<string>()
      get({ host: '127.0.0.1', port, path: '/settings.json', headers: { host, ...headers } }, (response) => {
        let text = `${response.statusCode} `
        response.setEncoding('utf8').on('data', (chunk: string) => {
          text += chunk
        })
        response.on('end', () => resolve(text))
      }).on('error', reject)
      return promise
    }
    expect(origin).toMatch(/^http:\/\/127\.0\.0\.1:/)
    const authorization = `Bearer ${hash.slice(1)}`
    expect(await settings({ authorization })).toContain('OPENSSH PRIVATE KEY')
    expect(await settings({})).toMatch(/^200 (?!.*PRIVATE KEY)/s)
    expect(await settings({ authorization: 'Bearer ' })).not.toContain('PRIVATE KEY')
    expect(await settings({ authorization, host: `rebound.example:${port}` })).toBe('403 ')
  })

  it('saves from memory where the browser has no service workers', async () => {
    const server = await serve()
    const content = randomBytes(3_000_000)
    writeFileSync(join(server.folder, 'medium.bin'), content)
    const page = await visit(server)
    await page.addInitScript(() => {
      Object.defineProperty(Navigator.prototype, 'serviceWorker', { value: undefined })
    })
    await page.reload()
    await page.getByRole('button', { name: 'Connect' }).click()
    const { name, bytes } = await saved(page, () =>
      page.getByRole('button', { name: 'Download medium.bin' }).click(),
    )
    expect(name).toBe('medium.bin')
    expect(digest(bytes)).toBe(digest(content))
  })

  it('ends a download that was cancelled in the browser', async () => {
    const server = await serve()
    writeFileSync(join(server.folder, 'large.bin'), randomBytes(64 * 1024 * 1024))
    const page = await connected(server)
    const download = page.waitForEvent('download')
    await page.getByRole('button', { name: 'Download large.bin' }).click()
    await (await download).cancel()
    await page.getByText(/cancelled after/).waitFor()
    await saved(page, () => page.getByRole('button', { name: 'Download welcome.txt' }).click())
  })

  it('cancels a download half-way', async () => {
    const server = await serve()
    writeFileSync(join(server.folder, 'large.bin'), randomBytes(64 * 1024 * 1024))
    const page = await connected(server)
    const download = page.waitForEvent('download')
    await page.getByRole('button', { name: 'Download large.bin' }).click()
    await page.getByRole('button', { name: 'Cancel Download large.bin' }).click()
    await page.getByText(/cancelled after/).waitFor()
    expect(await (await download).failure()).not.toBeNull()
    // The connection goes on.
    await page.getByRole('button', { name: 'Refresh' }).click()
    await saved(page, () => page.getByRole('button', { name: 'Download welcome.txt' }).click())
  })

  it('says what is wrong', async () => {
    const server = await serve()
    const page = await connected(server)
    await page.getByRole('tab', { name: 'Disk' }).click()
    await page.getByLabel('Disk image on the server').fill('/not there.img')
    await page.getByRole('button', { name: 'Open', exact: true }).click()
    await page
      .getByRole('alert')
      .getByText(/not there\.img.*No such file/)
      .waitFor()
    await picture(page, 'error')
    await server.close()
    await page.getByText(/The connection was lost/).waitFor()
    await page.getByRole('heading', { name: 'Connect to an SSH server' }).waitFor()
  })

  describeWith([needsBios()], 'with a disk image', () => {
    it('shows partitions, bytes and files, boots it, and commits what the machine wrote', {
      timeout: 120_000,
    }, async () => {
      const server = await serve()
      const page = await connected(server)
      await page.getByRole('tab', { name: 'Disk' }).click()
      await page.getByLabel('Disk image on the server').fill('/demo-disk.img')
      await page.getByLabel(/writable/).check()
      await page.getByRole('button', { name: 'Open', exact: true }).click()
      await page.getByRole('table', { name: 'MBR partition table' }).getByText('FAT16 (LBA)').waitFor()
      await page.getByRole('button', { name: 'Open folder numbers' }).click()
      const csv = await saved(page, () => page.getByRole('button', { name: 'Download squares.csv' }).click())
      expect(csv.bytes.toString().split('\n')[60_000]).toBe('60000,3600000000')
      await page.getByText(/of it ahead/).waitFor()
      expect(await page.getByLabel('Bytes of the disk').textContent()).toContain('55 aa')
      await page.getByLabel('Offset').fill('s2048')
      await page.keyboard.press('Enter')
      await page.getByLabel('Bytes of the disk').getByText('FAT16').waitFor()

      await page.getByRole('button', { name: 'Boot this disk' }).click()
      await page.getByText('Boots so far: 00001').waitFor({ timeout: 60_000 })
      await picture(page, 'disk')
      const image = join(server.folder, 'demo-disk.img')
      const counter = (): string => readFileSync(image).toString('latin1', 512, 517)
      expect(counter()).toBe('00000')
      await page.getByRole('button', { name: 'Commit writes to the server' }).click()
      await page.getByText(/are on the server now/).waitFor()
      expect(counter()).toBe('00001')
      await page.getByRole('button', { name: 'Power off' }).click()
    })
  })

  it('gives up connecting to a server that says nothing when it is told to', async () => {
    const silent = createServer(() => {}).listen(0, '127.0.0.1')
    registerCleanup(() => void silent.close())
    await once(silent, 'listening')
    const { port } = silent.address() as AddressInfo
    const reached = once(silent, 'connection') as Promise<[Socket]>
    const server = await serve({ allow: [`127.0.0.1:${port}`] })
    const page = await visit(server)
    await page.getByRole('radio', { name: /Another one/ }).check()
    await page.getByLabel('Host').fill('127.0.0.1')
    await page.getByLabel('Port').fill(String(port))
    await page.getByLabel('User').fill('anybody')
    await page.getByRole('button', { name: 'Connect' }).click()
    const [socket] = await reached
    const ended = once(socket.resume(), 'close')
    await picture(page, 'connecting')
    await page.getByRole('button', { name: 'Cancel' }).click()
    await page.getByRole('button', { name: 'Connect', exact: true }).waitFor()
    await ended
    await expect.poll(() => page.workers().length).toBe(0)
    expect(await page.getByRole('alert').count()).toBe(0)
  })

  it('asks what the server asks, and sends the answers', async () => {
    const asked = { title: 'Second factor', prompts: [{ prompt: 'Word of the day: ', echo: true }] }
    const theirs = await startOurServer({
      auth: {
        keyboardInteractive: async ({ ask }) => {
          const [word] = await ask({ name: asked.title, instruction: '', prompts: asked.prompts })
          return word === 'plum'
        },
      },
    })
    const server = await serve({ allow: [`127.0.0.1:${theirs.port}`] })
    const page = await visit(server)
    const dialog = page.getByRole('dialog', { name: asked.title })
    const connect = async (): Promise<void> => {
      await page.getByRole('radio', { name: /Another one/ }).check()
      await page.getByLabel('Host').fill('127.0.0.1')
      await page.getByLabel('Port').fill(String(theirs.port))
      await page.getByLabel('User').fill('anybody')
      await page.getByRole('button', { name: 'Connect' }).click()
      await page.getByRole('button', { name: 'Trust it this time' }).click()
      await dialog.getByLabel('Word of the day').waitFor()
    }
    await connect()
    await picture(page, 'prompts')
    await page.keyboard.press('Escape')
    await dialog.waitFor({ state: 'detached' })
    await expect.poll(() => page.workers().length).toBe(0)
    await connect()
    await dialog.getByLabel('Word of the day').fill('plum')
    await page.keyboard.press('Enter')
    await page.getByRole('heading', { name: 'Connected as anybody' }).waitFor()
  })

  describeWith([needsOpenssh()], 'with a server of somebody else', () => {
    it('asks about its host key, remembers it, and logs in with a key file', async () => {
      const openssh = await startOpensshServer({ hostKeyTypes: ['ed25519'] })
      writeFileSync(join(openssh.paths.data, 'theirs.txt'), 'on OpenSSH')
      const { privateFile } = await clientKey('ed25519')
      const server = await serve({ allow: [`127.0.0.1:${openssh.port}`] })
      const page = await visit(server)
      const connect = async (): Promise<void> => {
        await page.getByRole('radio', { name: /Another one/ }).check()
        await page.getByLabel('Host').fill('127.0.0.1')
        await page.getByLabel('Port').fill(String(openssh.port))
        await page.getByLabel('User').fill(openssh.user)
        await page.getByLabel('Private key file').setInputFiles(privateFile)
        await page.getByRole('button', { name: 'Connect' }).click()
      }
      await connect()
      const dialog = page.getByRole('dialog', { name: 'Do you know this server?' })
      await dialog.getByText(openssh.hostKeys[0]!.fingerprint).first().waitFor()
      await picture(page, 'host-key')
      await dialog.getByRole('button', { name: 'Do not connect' }).click()
      await page
        .getByRole('alert')
        .getByText(/Connecting to 127\.0\.0\.1 failed/)
        .waitFor()
      expect(openssh.log()).not.toMatch(/Accepted/)
      await page.getByRole('button', { name: 'Connect' }).click()
      await dialog.getByRole('button', { name: /remember it/ }).click()
      await page.getByRole('heading', { name: `Connected as ${openssh.user}` }).waitFor()
      await page.getByRole('button', { name: 'Disconnect' }).click()
      await page.reload()
      await connect()
      await page.getByRole('heading', { name: `Connected as ${openssh.user}` }).waitFor()
    })
  })
})
