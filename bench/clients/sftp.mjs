// Whole files by our SFTP client: `get` into a local file, `put` from one, or a stream that is thrown away.

import { channelsForUpload, sftpChannels } from '@sshblock/sftp'
import * as sftpOnNode from '@sshblock/sftp/node'
import { job, login, report } from './connection.mjs'

const { what, remote, local } = job
const session = await login(what === 'put' ? channelsForUpload : 1)
const openChannel = sftpChannels(session)
const client = await openChannel({ mayBeUnopened: true })
const openedAt = performance.now()
let bytes = 0
switch (what) {
  case 'get':
    bytes = (await sftpOnNode.getFile(client, remote, local, { openChannel })).bytes
    break
  case 'put':
    bytes = (await sftpOnNode.putFile(client, local, remote, { openChannel })).bytes
    break
  case 'stream':
    for await (const chunk of client.createReadStream(remote)) bytes += chunk.length
    break
  default:
    throw new Error(`unknown work ${what}`)
}
report({ bytes, insideSeconds: (performance.now() - openedAt) / 1000 })
await session.close()
