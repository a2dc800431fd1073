/** WebSocket clients of others against the bridge: Python's websockets and websocket-client, and curl's idea of an upgrade. */
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'
import { findProgram, findPython, run, runOrThrow } from '../support/program.ts'
import { describeWith, needsPrograms, needsPythonModule } from '../support/requirements.ts'
import { echo, origin, startBridge, startTarget } from './support/bridges.ts'

describeWith([needsPythonModule('websockets'), needsPythonModule('websocket')], "Python's clients", () => {
  it('are served as the protocol has it, and refused as it has it', async () => {
    const target = await startTarget(echo)
    const { url, bridge } = await startBridge({ targets: { fixed: target.name } })
    const script = fileURLToPath(new URL('./support/clients.py', import.meta.url))
    const printed = await runOrThrow(findPython('websockets')!, [script, url, origin])
    const through = { extensions: [], same: true, largest: expect.any(Number), close: 1000 }
    const result = JSON.parse(printed.stdout)
    expect(result).toEqual({
      asynchronous: [
        { ...through, subprotocol: null },
        { ...through, subprotocol: 'binary' },
        { ...through, subprotocol: 'binary' },
      ],
      text: { echo: 'SSH-2.0-', subprotocol: 'binary', close: 1003 },
      unmasked: { echo: 'SSH-2.0-', subprotocol: null, close: 1002 },
      interleaved: { echo: 'SSH-2.0-', subprotocol: 'binary', close: 1002 },
      'fragmented ping': { echo: 'SSH-2.0-', subprotocol: null, close: 1002 },
      'wrong close code': { echo: 'SSH-2.0-', subprotocol: null, close: 1002 },
      'too long': { echo: 'SSH-2.0-', subprotocol: null, close: 1009 },
      'in order': { echo: 'SSH-2.0-', subprotocol: null, close: 1000 },
      // Without one given, websocket-client makes an Origin of the URL: http and the bridge's own address.
      refused: { 'another origin': 403, 'its own origin': 403, 'another host': 403 },
    })
    for (const { largest } of result.asynchronous) expect(largest).toBeLessThanOrEqual(256 * 1024)
    expect(bridge.statistics().heldBytes).toBe(0)
  })
})

describeWith([needsPrograms('curl', ['curl'], 'curl')], 'curl', () => {
  it.each([
    ['without an upgrade', [], 404],
    ['with the upgrade of another protocol', ['-H', 'Connection: Upgrade', '-H', 'Upgrade: h2c'], 400],
    ['with an upgrade by POST', ['-X', 'POST', '-H', 'Connection: Upgrade', '-H', 'Upgrade: websocket'], 405],
    ['with a body', ['--data-binary', 'x'.repeat(100_000)], 404],
    ['for the health path', ['PATH/health'], 200],
    ['for the health path by POST', ['-X', 'POST', 'PATH/health'], 404],
    ['for the health path in another spelling', ['--path-as-is', 'PATH/%68ealth'], 404],
    ['for the health path behind dots', ['--path-as-is', 'PATH/x/../health'], 404],
    ['for the health path of another host', ['-H', 'Host: evil.example', 'PATH/health'], 403],
  ])('%s gets an answer of HTTP', async (_, args, status) => {
    const { port } = await startBridge({ targets: { fixed: '127.0.0.1:9' } })
    const base = `http://127.0.0.1:${port}`
    const urls = args.some((arg) => arg.startsWith('PATH')) ? [] : [`${base}/`]
    const { stdout } = await run(findProgram('curl')!, [
      ...['--noproxy', '*', '-s', '--max-time', '8', '-o', '/dev/null', '-w', '%{http_code}'],
      ...['-H', `Origin: ${origin}`, ...args.map((arg) => arg.replace('PATH', base)), ...urls],
    ])
    expect(String(stdout)).toBe(String(status))
  })
})
