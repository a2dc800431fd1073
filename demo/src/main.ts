// `npm run demo`: the main job from end to end, on a private server of ours or on the user's.

import { readFile } from 'node:fs/promises'
import type { NodeConnectionOptions, SftpDevice } from '@sshblock/blockdev/node'
import { createBlockDevice, openBlockDevice } from '@sshblock/blockdev/node'
import { SshError, safeText } from '@sshblock/transport/errors'
import { ArgumentError, type DemoArguments, parseDemoArguments, usage } from './arguments.ts'
import { type EmbeddedServer, startEmbeddedServer } from './embedded-server.ts'
import { compare, MismatchError, readThrough, verifyPatterns, writePatterns } from './exercise.ts'
import { line, mebibytes } from './report.ts'

async function main(): Promise<number> {
  let demo: DemoArguments | 'help'
  try {
    demo = parseDemoArguments(process.argv.slice(2))
  } catch (error) {
    if (!(error instanceof ArgumentError)) throw error
    console.error(`demo: ${error.message}\n\n${usage}`)
    return 2
  }
  if (demo === 'help') {
    console.log(usage)
    return 0
  }
  try {
    await (demo.location === undefined ? onOwnServer(demo) : onYourServer(demo.location, demo))
    return 0
  } catch (error) {
    if (error instanceof MismatchError) console.error(`demo: verdict: DATA DIFFER: ${error.message}`)
    else if (error instanceof SshError) console.error(`demo: ${safeText(error.message)} [${error.code}]`)
    else throw error
    return 1
  }
}

function describeDevice(device: SftpDevice): void {
  const { info } = device
  const { server } = info
  if (server !== undefined) {
    const { algorithms } = server
    line(
      'server',
      `${safeText(server.identification)} at ${server.host}:${server.port}, user ${safeText(server.user)}`,
    )
    line('host key', `${server.hostKeyType} ${server.hostKeyFingerprint}`)
    line(
      'algorithms',
      `${algorithms.kex}, ${algorithms.cipherServerToClient}${algorithms.macServerToClient === undefined ? '' : `, ${algorithms.macServerToClient}`}${algorithms.strict ? ', strict key exchange' : ''}`,
    )
    line('logged in by', safeText(server.authentication))
  }
  line(
    'image',
    `${safeText(info.path)}, ${mebibytes(info.size)}, ${info.readOnly ? 'read-only' : 'writable'}, flush is ${info.durability}`,
  )
}

async function onOwnServer({ size, seed }: DemoArguments): Promise<void> {
  const server = await startEmbeddedServer()
  try {
    line('own server', `${server.description} (seed ${seed})`)
    await createWriteAndVerify(server, size, seed)
  } finally {
    await server.stop()
  }
}

async function createWriteAndVerify(server: EmbeddedServer, size: number, seed: number): Promise<void> {
  const { location, connection } = server
  {
    await using device = await createBlockDevice(location, { ...connection, size })
    describeDevice(device)
    await writePatterns(device, size, seed)
  }
  {
    await using device = await openBlockDevice(location, connection)
    await verifyPatterns(device, size, seed)
    // The other way round: the file itself, as the server's disk has it, against what the device says.
    const file = await readFile(server.imageFile)
    if (file.length !== device.size)
      throw new MismatchError(`the file has ${file.length} bytes, the device ${device.size}`)
    const chunk = new Uint8Array(1024 ** 2)
    for (let offset = 0; offset < file.length; offset += chunk.length) {
      const part = chunk.subarray(0, Math.min(chunk.length, file.length - offset))
      await device.read(offset, part)
      compare(part, file.subarray(offset, offset + part.length), offset)
    }
  }
  line(
    'verdict',
    `every byte is where it should be: device, fresh connection and the file on the server agree`,
  )
}

async function onYourServer(location: string, { write, size, seed }: DemoArguments): Promise<void> {
  const connection: NodeConnectionOptions & { onWarning: (message: string) => void } = {
    onWarning: (message) => console.error(`demo: warning: ${safeText(message)}`),
  }
  if (!write) {
    await using device = await openBlockDevice(location, connection)
    describeDevice(device)
    await readThrough(device, Math.min(size, device.size), seed)
    line('verdict', 'read without an error (--write also writes, verifies and puts back what was there)')
    return
  }
  const { original, used } = await keepOriginal(location, connection, size)
  line('kept', `the first ${mebibytes(used)}, to be put back at the end (seed ${seed})`)
  try {
    {
      await using device = await openBlockDevice(location, { ...connection, writable: true })
      await writePatterns(device, used, seed)
    }
    await using device = await openBlockDevice(location, connection)
    await verifyPatterns(device, used, seed)
  } finally {
    await putBack(location, connection, original)
  }
  line('verdict', 'every byte was where it should be, and the image is as before')
}

async function keepOriginal(
  location: string,
  connection: NodeConnectionOptions,
  size: number,
): Promise<{ original: Uint8Array; used: number }> {
  await using device = await openBlockDevice(location, connection)
  describeDevice(device)
  const used = Math.floor(Math.min(size, device.size) / 4096) * 4096
  const original = new Uint8Array(used)
  await device.read(0, original)
  return { original, used }
}

async function putBack(
  location: string,
  connection: NodeConnectionOptions,
  original: Uint8Array,
): Promise<void> {
  await using device = await openBlockDevice(location, { ...connection, writable: true })
  await device.write(0, original)
  await device.flush()
  const back = new Uint8Array(original.length)
  await device.read(0, back)
  compare(back, original, 0)
  line('put back', mebibytes(original.length))
}

process.exitCode = await main()
