// What the server tells its page: the server that it brought along, and what else is there. Plain data, over HTTP.

export interface DemoServer {
  readonly host: string
  readonly port: number
  readonly user: string
  /** An OpenSSH private key file, made when the server started. */
  readonly privateKey: string
  /** 'SHA256:...' of the host key. */
  readonly fingerprint: string
  /** Path of a disk image on it, undefined where there is none. */
  readonly image: string | undefined
}

export interface PageSettings {
  /** Path of the bridge below the page's own origin; the target follows as '/HOST:PORT'. */
  readonly bridgePath: string
  readonly demo: DemoServer | undefined
  /** Other targets that the bridge leads to, as its operator wrote them: 'example.org:22'. */
  readonly allowed: readonly string[]
  /** Whether a BIOS for the emulator is served under /bios. */
  readonly hasBios: boolean
}

export const settingsPath = '/settings.json'
export const biosPath = '/bios/bios.bin'
export const vgaBiosPath = '/bios/vgabios.bin'
