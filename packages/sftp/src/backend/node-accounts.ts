// Names of users and groups from /etc/passwd and /etc/group. Other sources (LDAP, NIS, ...) are not asked: their users show
// by number. Read when first needed, and again when a minute old.

import fs from 'node:fs'

const freshMs = 60_000

class Database {
  readonly #path: string
  #readAt = Number.NEGATIVE_INFINITY
  #byId = new Map<number, string>()
  #homes = new Map<string, string>()

  constructor(path: string) {
    this.#path = path
  }

  #refresh(): void {
    const now = performance.now()
    if (now - this.#readAt < freshMs) return
    this.#readAt = now
    let text = ''
    try {
      text = fs.readFileSync(this.#path, 'utf8')
    } catch {
      // No such database here: nobody has a name.
    }
    this.#byId = new Map()
    this.#homes = new Map()
    for (const line of text.split('\n')) {
      const [name, , id, , , home] = line.split(':')
      if (name === undefined || id === undefined || !/^\d+$/.test(id)) continue
      if (!this.#byId.has(Number(id))) this.#byId.set(Number(id), name)
      if (home !== undefined && !this.#homes.has(name)) this.#homes.set(name, home)
    }
  }

  name(id: number): string | undefined {
    this.#refresh()
    return this.#byId.get(id)
  }

  home(name: string): string | undefined {
    this.#refresh()
    return this.#homes.get(name)
  }
}

export class HostAccounts {
  readonly #users: Database
  readonly #groups: Database

  constructor(folder = '/etc') {
    this.#users = new Database(`${folder}/passwd`)
    this.#groups = new Database(`${folder}/group`)
  }

  userName(uid: number): string | undefined {
    return this.#users.name(uid)
  }

  groupName(gid: number): string | undefined {
    return this.#groups.name(gid)
  }

  homeDirectory(user: string): string | undefined {
    return this.#users.home(user)
  }
}
