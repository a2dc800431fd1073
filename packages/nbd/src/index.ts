/**
 * NBD export of any BlockDevice.
 *
 *     const server = await serveNbd([{ name: 'disk', device }], { listen: { socketPath: '/run/user/1000/disk.sock' } })
 *     console.log(server.uri('disk')) // for qemu-img, nbdcopy, fio, nbd-client, ...
 *     await server.close() // answers what is in flight, then flushes
 */
export type { NbdExport, NbdExportResolver } from './export.ts'
export { defaultPort, type NbdAddress, type NbdListen, nbdUri } from './node-listen.ts'
export { type NbdServer, type NbdServerEvent, type NbdServerOptions, serveNbd } from './node-server.ts'
export type { NbdStatistics, RequestName } from './statistics.ts'
export type { FarewellReason } from './wire.ts'
