/** `sshblock bridge`: a page's WebSocket reaches OpenSSH through it, others do not. */
import { once } from 'node:events'
import { expect, test } from 'vitest'
import { WebSocket } from 'ws'
import { bundlesPackages } from '../support/bundles.ts'
import { needsOpenssh, startOpensshServer } from '../support/openssh-server.ts'
import { describeWith } from '../support/requirements.ts'
import { start } from './command.ts'

bundlesPackages()

describeWith([needsOpenssh()], 'bridge', () => {
  test('lets the pages named reach the servers named, and ends at Ctrl-C', async () => {
    const peer = await startOpensshServer({ hostKeyTypes: ['ed25519'] })
    const server = `${peer.host}:${peer.port}`
    const origin = 'https://app.example.org'
    const running = start(['bridge', '--json', '-v', '--port', '0', '--allow', server, '--origin', origin])
    const [text] = await running.printed(/^\{[\s\S]*^\}\n/m)
    const { url, port } = JSON.parse(text) as { url: string; port: number }
    expect(url).toBe(`ws://127.0.0.1:${port}/`)

    const page = new WebSocket(`${url}${server}`, 'binary', { origin })
    const [said] = (await once(page, 'message')) as [Buffer]
    expect(said.toString('latin1')).toMatch(/^SSH-2\.0-OpenSSH/)
    const stranger = new WebSocket(`${url}${server}`, 'binary', { origin: 'https://evil.example' })
    const [refusal] = (await once(stranger, 'error')) as [Error]
    expect(refusal.message).toContain('403')
    const elsewhere = new WebSocket(`${url}${peer.host}:1`, 'binary', { origin })
    expect(await once(elsewhere, 'close')).toMatchObject([4403, expect.anything()])
    expect(await (await fetch(`http://127.0.0.1:${port}/health`)).json()).toMatchObject({ connections: 1 })

    running.kill('SIGINT')
    const { code, stderr } = await running.finished
    expect(code).toBe(0)
    expect(stderr).toContain(`sshblock: 1: 127.0.0.1 to ${server}\n`)
    expect(stderr).toContain('sshblock: refused 127.0.0.1: origin (403)\n')
  })
})
