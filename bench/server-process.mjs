// Our own server in a process of its own, for benches: tells its parent where it is and how to get in, stops when told.

import { startEmbeddedServer } from '../demo/dist/embedded-server.js'

// Data in tmpfs where there is one, so that the disk is not what is measured.
process.env['TMPDIR'] = process.platform === 'linux' ? '/dev/shm' : process.env['TMPDIR']
const server = await startEmbeddedServer()
process.send?.({ location: server.location, connection: server.connection, imageFile: server.imageFile })
process.on('message', () => void server.stop().then(() => process.exit(0)))
process.on('disconnect', () => void server.stop().then(() => process.exit(0)))
