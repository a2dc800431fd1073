// Which commands there are. Each is a file of its own that is loaded when it is called: the libraries below it take longer
// to load than most calls take to be told apart.

import type { Command } from 'commander'
import type { Invocation } from './invocation.ts'

export interface CommandEntry {
  readonly name: string
  /** For the list of all commands. */
  readonly summary: string
  /** Loads the file that makes the command. */
  readonly load: () => Promise<(invocation: Invocation) => Command>
}

export interface CommandGroup {
  readonly heading: string
  readonly commands: readonly CommandEntry[]
}

export const commandGroups: readonly CommandGroup[] = [
  {
    heading: 'Disk images:',
    commands: [
      {
        name: 'info',
        summary: 'what is known about an image and its server',
        load: async () => (await import('./commands/info.ts')).infoCommand,
      },
      {
        name: 'create',
        summary: 'make a new image that reads as zeros',
        load: async () => (await import('./commands/create.ts')).createCommand,
      },
      {
        name: 'resize',
        summary: 'change the size of an image',
        load: async () => (await import('./commands/resize.ts')).resizeCommand,
      },
      {
        name: 'read',
        summary: 'copy a range of an image to a file or to stdout',
        load: async () => (await import('./commands/read.ts')).readCommand,
      },
      {
        name: 'write',
        summary: 'copy a file or stdin to a place in an image',
        load: async () => (await import('./commands/write.ts')).writeCommand,
      },
      {
        name: 'cp',
        summary: 'copy a whole image to, from or between servers',
        load: async () => (await import('./commands/cp.ts')).cpCommand,
      },
      {
        name: 'serve',
        summary: 'export images to qemu, nbdcopy, nbd-client, ... (NBD)',
        load: async () => (await import('./commands/serve.ts')).serveCommand,
      },
    ],
  },
  {
    heading: 'Files:',
    commands: [
      {
        name: 'ls',
        summary: 'list a folder of a server',
        load: async () => (await import('./commands/ls.ts')).lsCommand,
      },
      {
        name: 'get',
        summary: 'copy files from a server',
        load: async () => (await import('./commands/get.ts')).getCommand,
      },
      {
        name: 'put',
        summary: 'copy files to a server',
        load: async () => (await import('./commands/put.ts')).putCommand,
      },
      {
        name: 'rm',
        summary: 'remove files of a server',
        load: async () => (await import('./commands/rm.ts')).rmCommand,
      },
      {
        name: 'mkdir',
        summary: 'make folders on a server',
        load: async () => (await import('./commands/mkdir.ts')).mkdirCommand,
      },
      {
        name: 'mv',
        summary: 'rename on a server',
        load: async () => (await import('./commands/mv.ts')).mvCommand,
      },
    ],
  },
  {
    heading: 'Servers:',
    commands: [
      {
        name: 'server',
        summary: 'serve a folder by SSH and SFTP',
        load: async () => (await import('./commands/server.ts')).serverCommand,
      },
      {
        name: 'bridge',
        summary: 'let browsers reach SSH servers (WebSocket to TCP)',
        load: async () => (await import('./commands/bridge.ts')).bridgeCommand,
      },
      {
        name: 'bench',
        summary: 'measure throughput, latency and round trip of a location',
        load: async () => (await import('./commands/bench.ts')).benchCommand,
      },
      {
        name: 'keyscan',
        summary: 'print the host keys of servers',
        load: async () => (await import('./commands/keyscan.ts')).keyscanCommand,
      },
    ],
  },
]
