// A server behind ProxyCommand (ssh_config(5)): the stdin and stdout of a shell's command as the byte stream.

import { spawn } from 'node:child_process'
import type { ByteDuplex, ByteSink } from '@sshblock/transport'

/** Starts the command; it ends with the stream. */
export function proxyCommandDuplex(command: string, shell: string): ByteDuplex {
  // Its own process group: Ctrl-C is ours to answer, and the goodbye still passes through the command.
  const child = spawn(shell, ['-c', `exec ${command}`], {
    stdio: ['pipe', 'pipe', 'inherit'],
    detached: true,
  })
  let ended = false
  let failure: Error | undefined
  child.on('error', (error) => {
    failure = error
  })
  child.stdin.on('error', () => {}) // EPIPE: the end of stdout tells it.
  return {
    description: `ProxyCommand ${command}`,
    start(sink: ByteSink) {
      child.stdout.on('data', (chunk: Uint8Array) => {
        for (let at = 0; at < chunk.length; ) {
          const into = sink.reserve(1)
          const count = Math.min(into.length, chunk.length - at)
          into.set(chunk.subarray(at, at + count))
          sink.commit(count)
          at += count
        }
      })
      child.on('close', () => {
        if (ended) return
        ended = true
        sink.end(failure)
      })
    },
    write(slab, done) {
      child.stdin.write(slab, () => done())
    },
    pause: () => child.stdout.pause(),
    resume: () => child.stdout.resume(),
    close(abort) {
      if (abort === true) child.kill('SIGTERM')
      else child.stdin.end(() => child.kill('SIGTERM'))
    },
  }
}
