// The extension-name, extension-data pairs that end INIT and VERSION (draft-ietf-secsh-filexfer-02 s4).
// Data is copied: extensions are remembered for the life of the channel.

import type { Codec } from '@sshblock/transport/wire'

export interface ExtensionPair {
  readonly name: string
  readonly data: Uint8Array
}

/** Pairs up to the end of the message, in order, duplicates kept. */
export const extensionPairs: Codec<readonly ExtensionPair[]> = {
  read: (reader) => {
    const pairs: ExtensionPair[] = []
    while (reader.remaining > 0) pairs.push({ name: reader.text(), data: reader.string().slice() })
    return pairs
  },
  write: (writer, pairs) => {
    for (const { name, data } of pairs) writer.text(name).string(data)
  },
}
