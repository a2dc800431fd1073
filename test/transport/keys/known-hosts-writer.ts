// A program of its own for known-hosts-file.test.ts: adds hosts to a file, so that several processes do it at once.
// Arguments: file, public key text, first number, count. Adds 'shared' and then 'host-N' for each number.

import { nodeCrypto } from '../../../packages/transport/src/crypto/node.ts'
import { addKnownHost } from '../../../packages/transport/src/keys/node-known-hosts-file.ts'
import { publicKeyFromText } from '../../../packages/transport/src/keys/public-key.ts'

const [path, keyText, first, count] = process.argv.slice(2) as [string, string, string, string]
const { publicKey: key } = publicKeyFromText(keyText)
let added = 0
for (let i = Number(first); i < Number(first) + Number(count); i++) {
  for (const host of ['shared', `host-${i}`]) {
    if (await addKnownHost(nodeCrypto, path, { host, port: 22, key }, { lockTimeoutMs: 20_000 })) added++
  }
}
console.log(added)
