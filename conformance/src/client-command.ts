// A client program as a peer under test: started once for each connection, against a port of its own.

import { type ChildProcess, spawn } from 'node:child_process'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { type ByteDuplex, ConnectionLost } from '@sshblock/transport'
import { type CheckResult, clientChecks, runTrials } from '@sshblock/transport/conformance'
import {
  acceptedSocket,
  generateKeyPair,
  nodeCrypto,
  type Signer,
  signerFromPrivateKey,
  systemRandom,
} from '@sshblock/transport/node'
import type { Options } from './options.ts'

const host = '127.0.0.1'
/** How long a program may take to connect. */
const connectTimeoutMs = 10_000
/** How long it may go on when its connection is closed. */
const lingerMs = 500
const inputBytes = 100_000

/** A client program. */
export class ClientProgram {
  readonly #command: string
  readonly #children = new Set<ChildProcess>()

  /** @param command a shell's command line with {host} and {port}. */
  constructor(command: string) {
    this.#command = command
  }

  /** Starts the program once; our end of its connection. @throws ConnectionLost where it does not connect */
  connect(): Promise<ByteDuplex> {
    return new Promise((resolve, reject) => {
      const listener = createServer({ allowHalfOpen: true, noDelay: true, pauseOnConnect: true })
      let child: ChildProcess | undefined
      const settle = (socket: Socket | undefined, why: string): void => {
        clearTimeout(timer)
        listener.close()
        child?.removeAllListeners('exit')
        if (socket !== undefined) return resolve(this.#served(socket, child))
        if (child !== undefined) this.#end(child)
        reject(new ConnectionLost('connecting', `the client ${why}: ${this.#command}`))
      }
      const timer = setTimeout(() => settle(undefined, 'did not connect in time'), connectTimeoutMs)
      listener.once('connection', (socket: Socket) => settle(socket, ''))
      listener.once('error', (error) => settle(undefined, `has no port to connect to: ${error.message}`))
      listener.listen(0, host, () => {
        child = this.#start((listener.address() as AddressInfo).port)
        child.once('exit', () => settle(undefined, 'ended before it connected'))
      })
    })
  }

  #start(port: number): ChildProcess {
    const line = this.#command.replaceAll('{host}', host).replaceAll('{port}', String(port))
    // In a process group of its own, so that everything the shell starts can be ended.
    const child = spawn('/bin/sh', ['-c', line], { stdio: ['pipe', 'ignore', 'ignore'], detached: true })
    child.stdin.on('error', () => {})
    child.stdin.write(new Uint8Array(inputBytes))
    this.#children.add(child)
    return child
  }

  #served(socket: Socket, child: ChildProcess | undefined): ByteDuplex {
    socket.once('close', () => setTimeout(() => child !== undefined && this.#end(child), lingerMs).unref())
    return acceptedSocket(socket)
  }

  #end(child: ChildProcess): void {
    this.#children.delete(child)
    if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return
    try {
      process.kill(-child.pid, 'SIGKILL')
    } catch {
      // It ended by itself meanwhile.
    }
  }

  /** Ends every program that still runs. */
  close(): void {
    for (const child of this.#children) this.#end(child)
  }
}

/** @throws where the program does not connect, or does not speak SSH. */
export async function runAgainstClient(
  options: Pick<Options, 'command' | 'patienceMs' | 'atOnce' | 'only' | 'full'>,
): Promise<CheckResult[]> {
  const program = new ClientProgram(options.command)
  try {
    const key = (type: 'ed25519' | 'ecdsa-sha2-nistp256'): Signer =>
      signerFromPrivateKey(nodeCrypto, generateKeyPair(nodeCrypto, type, systemRandom))
    const { patienceMs, atOnce, only } = options
    return await runTrials(
      {
        role: 'client',
        connect: () => program.connect(),
        crypto: nodeCrypto,
        hostKeys: [key('ed25519'), key('ecdsa-sha2-nistp256')],
        patienceMs,
      },
      clientChecks,
      { concurrency: atOnce, everyNumber: options.full, ...(only === undefined ? {} : { only }) },
    )
  } finally {
    program.close()
  }
}
