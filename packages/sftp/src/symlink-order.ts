// Which argument of SYMLINK comes first (draft-ietf-secsh-filexfer-02 s6.10; OpenSSH PROTOCOL, "Reversal of arguments to
// SSH_FXP_SYMLINK"). The draft says the link; OpenSSH and most servers say the target. Pure.

import { utf8Text } from '@sshblock/transport/wire'
import type { ExtensionPair } from './messages/extension-pairs.ts'

const extensionName = 'symlink-order@rjk.greenend.org.uk'

/**
 * Servers that read the draft's order. AsyncSSH and ssh2 do so for clients that do not call themselves OpenSSH, as we
 * never do.
 */
const linkFirstServers = /^SSH-2\.0-(lshd|Twisted|Erlang|AsyncSSH|ssh2js)/i

/** 'target' or 'link', by the server's announcement, else by its identification, else as OpenSSH. */
export function symlinkOrder(
  extensions: readonly ExtensionPair[],
  serverIdentification: string | undefined,
): 'target' | 'link' {
  const announced = extensions.find(({ name }) => name === extensionName)
  if (announced !== undefined) return utf8Text(announced.data).startsWith('link') ? 'link' : 'target'
  return serverIdentification !== undefined && linkFirstServers.test(serverIdentification) ? 'link' : 'target'
}

/** Clients that go by the server's name, which is not OpenSSH here. */
const linkFirstClients = /^SSH-2\.0-(AsyncSSH|ssh2js)/i

/** For the server's side: what a client with this identification sends first. */
export function symlinkOrderOfClient(clientIdentification: string | undefined): 'target' | 'link' {
  return clientIdentification !== undefined && linkFirstClients.test(clientIdentification) ? 'link' : 'target'
}
