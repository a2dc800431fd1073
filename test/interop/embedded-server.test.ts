import { createBlockDevice, openBlockDevice } from '@sshblock/blockdev/node'
import { MemoryBackend, SftpClient, serveSftp } from '@sshblock/sftp'
import { embeddedServer, nodeCrypto } from '@sshblock/transport/node'
import { expect, it } from 'vitest'

it('a device and an SFTP client reach a server in the same process', async () => {
  const backend = new MemoryBackend()
  await using server = embeddedServer({
    crypto: nodeCrypto,
    subsystems: { sftp: (channel) => serveSftp(channel, backend).finished },
  })
  const size = 4 * 1024 ** 3
  {
    await using disk = await createBlockDevice('ssh://test/disk.img', {
      size,
      connect: () => server.connect(),
    })
    await disk.write(size - 5000, new Uint8Array(5000).fill(3))
    await disk.flush()
    expect(disk.info.server?.identification).toMatch(/^SSH-2\.0-sshblock/)
  }
  await using again = await openBlockDevice('ssh://test/disk.img', { connect: () => server.connect() })
  const block = new Uint8Array(10_000)
  await again.read(size - 10_000, block)
  expect(block.indexOf(3)).toBe(5000)
  await using session = await server.connect()
  await using sftp = await SftpClient.open(await session.openSubsystem('sftp'))
  expect((await sftp.stat('/disk.img')).size).toBe(size)
})
