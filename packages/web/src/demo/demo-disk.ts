// The disk image of the demonstration: a boot sector that counts how often it was booted, and a FAT16 partition with a few
// files. Made here, so that nothing has to be downloaded or installed.

import { type ImagePiece, makeFat16, type NewEntry } from './fat16-image.ts'

const sectorBytes = 512
const partitionSector = 2048
/** 32 MiB, nearly all of it zero. */
export const demoDiskBytes = 32 * 1024 * 1024

/**
 * The boot sector's program, 16-bit code at 0x7c00. It reads sector 1 to 0x7e00, adds one to the five digits that it begins
 * with, writes the sector back, prints the text at 0x7e10 and the digits, and halts.
 *
 *     start:  cli; xor ax,ax; mov ds,ax; mov es,ax; mov ss,ax; mov sp,0x7c00; sti; cld
 *             push dx; mov ax,3; int 0x10; pop dx            ; text screen of 80 x 25
 *             mov ax,0x0201; mov bx,0x7e00; mov cx,2; mov dh,0; int 0x13; jc fail
 *             mov di,0x7e04                                  ; the last digit
 *     carry:  mov al,[di]; inc al; cmp al,'9'+1; jb store
 *             mov byte [di],'0'; dec di; jmp carry
 *     store:  mov [di],al
 *             mov ax,0x0301; int 0x13; jc fail
 *             mov si,0x7e10; call print
 *             mov si,0x7e00; mov byte [0x7e05],0; call print
 *             jmp end
 *     fail:   mov si,failure; call print
 *     end:    hlt; jmp end
 *     print:  lodsb; or al,al; jz done; mov ah,0x0e; mov bx,7; int 0x10; jmp print
 *     done:   ret
 *     failure: db "The demo disk cannot be read or written.",0
 */
const bootProgram =
  'fa31c08ed88ec08ed0bc007cfbfc52b80300cd105ab80102bb007eb90200b600' +
  'cd13722dbf047e8a05fec03c3a7206c605304febf28805b80103cd137213be10' +
  '7ee81600be007ec606057e00e80b00eb06be697ce80300f4ebfdac08c07409b4' +
  '0ebb0700cd10ebf2c3' +
  [...'The demo disk cannot be read or written.\0']
    .map((character) => character.charCodeAt(0).toString(16).padStart(2, '0'))
    .join('')

const bootText = `
sshblock demo disk

This boot sector lies in a file on an SSH server. The page fetched it through
a relay that saw nothing but ciphertext, and the emulated machine ran it.

It counts how often it was booted. The new count is in the page's overlay,
and reaches the server when you press "Commit writes to the server".

Boots so far: `

/** What is not zero of the image, which has `demoDiskBytes`. */
export function makeDemoDisk(modified: Date): ImagePiece[] {
  const partitionBytes = demoDiskBytes - partitionSector * sectorBytes
  const volume = makeFat16(demoFiles(), {
    volumeBytes: partitionBytes,
    hiddenSectors: partitionSector,
    label: 'SSHBLOCK',
    modified,
  })
  return [
    { offset: 0, bytes: masterBootRecord(partitionBytes) },
    { offset: sectorBytes, bytes: counterSector() },
    ...volume.map(({ offset, bytes }) => ({ offset: offset + partitionSector * sectorBytes, bytes })),
  ]
}

function masterBootRecord(partitionBytes: number): Uint8Array {
  const sector = new Uint8Array(sectorBytes)
  const view = new DataView(sector.buffer)
  for (let i = 0; i < bootProgram.length; i += 2)
    sector[i / 2] = Number.parseInt(bootProgram.slice(i, i + 2), 16)
  view.setUint32(440, 0x5553_4831, true)
  sector[446] = 0x80
  // The addresses as cylinder, head and sector are unused here: the largest, as everybody writes for large disks.
  sector.set([0xfe, 0xff, 0xff], 447)
  sector[450] = 0x0e
  sector.set([0xfe, 0xff, 0xff], 451)
  view.setUint32(454, partitionSector, true)
  view.setUint32(458, partitionBytes / sectorBytes, true)
  view.setUint16(510, 0xaa55, true)
  return sector
}

function counterSector(): Uint8Array {
  const sector = new Uint8Array(sectorBytes)
  const encoder = new TextEncoder()
  sector.set(encoder.encode('00000'))
  sector.set(encoder.encode(bootText.replaceAll('\n', '\r\n')), 16)
  return sector
}

const readme = `This is a FAT16 partition inside a disk image on an SSH server.

The page reads it block by block over SFTP, and only what it needs: look at the map of
the disk while you open files. Nothing of it was sent in the clear. The relay between
your browser and the server carried SSH packets, whose keys are in your browser alone.

Try this:
- Download one of the files here. It comes straight from the image.
- Watch "Read from the server" grow by whole blocks, and read-ahead in its own colour.
- Boot the disk, if the server of this page has found a BIOS.
`

function demoFiles(): NewEntry[] {
  const encoder = new TextEncoder()
  return [
    { name: 'Read me first.txt', content: encoder.encode(readme) },
    {
      name: 'pictures',
      content: [
        { name: 'rings.svg', content: encoder.encode(ringsPicture()) },
        { name: 'a name that is longer than eight and three.svg', content: encoder.encode(ringsPicture(7)) },
      ],
    },
    { name: 'numbers', content: [{ name: 'squares.csv', content: encoder.encode(squares(60_000)) }] },
  ]
}

function ringsPicture(count = 12): string {
  const rings = Array.from(
    { length: count },
    (_, i) => `<circle cx="100" cy="100" r="${8 * (i + 1)}" stroke="hsl(${(360 * i) / count} 70% 50%)"/>`,
  )
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 200 200" fill="none" stroke-width="3">${rings.join('')}</svg>\n`
}

/** About a megabyte, so that reading ahead has something to do. */
function squares(count: number): string {
  const lines = ['n,square']
  for (let n = 1; n <= count; n++) lines.push(`${n},${n * n}`)
  return `${lines.join('\n')}\n`
}
