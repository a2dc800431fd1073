// The page and the relay of bench/browser.mjs, in a process of their own: gets the page's scripts, tells where it listens.

import { createServer } from 'node:http'
import { createBridge } from '@sshblock/bridge'

/** @type {ReadonlyMap<string, string>} */
let scripts = new Map()

const server = createServer((request, response) => {
  const script = scripts.get(request.url ?? '')
  if (script !== undefined) response.writeHead(200, { 'content-type': 'text/javascript' }).end(script)
  else if (request.url === '/')
    response
      .writeHead(200, { 'content-type': 'text/html' })
      .end('<!doctype html><title>bench</title><script type="module" src="/browser-page.js"></script>')
  else response.writeHead(404).end()
})

process.once('message', (/** @type {[string, string][]} */ given) => {
  scripts = new Map(given)
  server.listen(0, '127.0.0.1', () => {
    const { port } = /** @type {import('node:net').AddressInfo} */ (server.address())
    const url = `http://127.0.0.1:${port}`
    createBridge({
      targets: { allow: ['127.0.0.1:*'] },
      origins: [url],
      pathPrefix: '/ssh',
      healthPath: false,
    }).attach(server)
    process.send?.({ url })
  })
})
process.on('disconnect', () => process.exit())
