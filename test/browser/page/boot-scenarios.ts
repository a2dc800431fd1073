// The v86 emulator boots from a disk image on the SSH server, sector by sector as it touches them.

import { type BlockFetch, toV86Disk, type V86Disk } from '@sshblock/blockdev/adapters'
import type { BlockDevice } from '@sshblock/blockdev/browser'
import type { V86 } from 'v86'
import type { Connection } from './connection.ts'
import { openDevice } from './device-scenarios.ts'

interface Machine {
  readonly emulator: V86
  readonly disk: V86Disk
  readonly device: BlockDevice
  readonly fetches: BlockFetch[]
  readonly readErrors: string[]
}

let machine: Machine | undefined

/** Starts the machine; the BIOS files are served under /bios. */
export async function boot(
  connection: Connection,
  { path, memoryMiB }: { path: string; memoryMiB: number },
): Promise<{ size: number }> {
  const device = await openDevice(connection, path)
  const fetches: BlockFetch[] = []
  const readErrors: string[] = []
  const disk = toV86Disk(device, {
    onFetch: (fetch) => void fetches.push(fetch),
    onReadError: (error) => void readErrors.push(String(error)),
  })
  const container = document.createElement('div')
  container.innerHTML = '<div style="white-space: pre; font: 14px monospace"></div><canvas hidden></canvas>'
  document.body.append(container)
  const { V86 } = await import('v86')
  const emulator = new V86({
    wasm_path: '/v86.wasm',
    bios: { url: '/bios/bios.bin' },
    vga_bios: { url: '/bios/vgabios.bin' },
    memory_size: memoryMiB * 1024 * 1024,
    vga_memory_size: 2 * 1024 * 1024,
    // v86 takes any object with its disk's methods; its types know files and URLs only.
    hda: disk as unknown as { buffer: ArrayBuffer },
    screen_container: container,
    autostart: true,
    disable_speaker: true,
  })
  machine = { emulator, disk, device, fetches, readErrors }
  return { size: disk.byteLength }
}

/** What stands on the emulated text screen, line by line. */
export async function screenText(): Promise<string> {
  const screen = (machine!.emulator as unknown as { screen_adapter?: { get_text_screen(): string[] } })
    .screen_adapter
  return (
    screen
      ?.get_text_screen()
      .map((line) => line.trimEnd())
      .join('\n') ?? ''
  )
}

export async function typeKeys(text: string): Promise<void> {
  machine!.emulator.keyboard_send_text(text)
}

/** What was fetched until now, and how much was written into the overlay. */
export async function diskReport(): Promise<{
  fetches: number
  fetchedBytes: number
  ahead: number
  uncommittedBytes: number
  readErrors: string[]
}> {
  const { fetches, disk, readErrors } = machine!
  return {
    fetches: fetches.length,
    fetchedBytes: fetches.reduce((sum, { length }) => sum + length, 0),
    ahead: fetches.filter(({ ahead }) => ahead).length,
    uncommittedBytes: disk.uncommittedBytes,
    readErrors,
  }
}

/** Sends what the machine wrote to the server. */
export async function commit(): Promise<{ written: number; progress: number[]; left: number }> {
  const progress: number[] = []
  const written = await machine!.disk.commit({
    onProgress: ({ writtenBytes, totalBytes }) => void progress.push(writtenBytes / totalBytes),
  })
  return { written, progress, left: machine!.disk.uncommittedBytes }
}

export async function powerOff(): Promise<void> {
  const { emulator, disk, device } = machine!
  disk.close()
  await emulator.destroy()
  await device.close()
  machine = undefined
}
