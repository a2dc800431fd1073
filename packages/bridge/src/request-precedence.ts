// Being asked before a server's other 'request' listeners: Node tells every listener of every request, and two answers to
// one request throw in the second one's code, which ends the process. So the listeners that are there step behind ours and
// are told of what we leave to them.

import type { IncomingMessage, RequestListener, Server, ServerResponse } from 'node:http'

/**
 * Asks `handle` first. What it does not answer goes to the listeners that the server had, or gets 404 where there is none.
 * @param handle returns whether it answered
 * @returns puts the listeners back
 */
export function takeRequestsFirst(
  server: Server,
  handle: (request: IncomingMessage, response: ServerResponse) => boolean,
): () => void {
  const others = server.rawListeners('request') as RequestListener[]
  let asked = true
  const onRequest: RequestListener = (request, response) => {
    if (asked && handle(request, response)) return
    for (const other of others) other.call(server, request, response)
    const isAlone = others.length === 0 && server.listenerCount('request') === 1
    if (isAlone) response.writeHead(404, { connection: 'close' }).end()
  }
  server.removeAllListeners('request')
  server.on('request', onRequest)
  return () => {
    asked = false
    // Somebody may have done the same after us: then ours is called by theirs, and goes on passing everything on.
    if (!server.listeners('request').includes(onRequest)) return
    server.off('request', onRequest)
    for (const other of others) server.on('request', other)
  }
}
