import { expect, test } from 'vitest'
import { clientKey } from './keys.ts'
import { needsOpensshClient, ssh } from './openssh-client.ts'
import { needsOpenssh, startOpensshServer } from './openssh-server.ts'
import { describeWith } from './requirements.ts'
import { needsAgent, startAgent } from './ssh-agent.ts'

describeWith([needsAgent(), needsOpenssh(), needsOpensshClient()], 'a private ssh-agent', () => {
  test('lists its keys in the order in which they were added', async () => {
    const keys = [await clientKey('rsa-2048'), await clientKey('ed25519'), await clientKey('ecdsa-384')]
    const agent = await startAgent({ keys })
    expect(await agent.list()).toEqual(keys.map((key) => key.publicLine))
  })

  test('takes an encrypted key with its passphrase, and forgets it', async () => {
    const key = await clientKey('ed25519', { passphrase: 'open sesame' })
    const agent = await startAgent()
    await expect(agent.add(key, { passphrase: 'wrong' })).rejects.toThrow('ssh-add')
    await agent.add(key, { passphrase: 'open sesame' })
    expect(await agent.list()).toEqual([key.publicLine])
    await agent.remove(key)
    await expect(agent.list()).rejects.toThrow('The agent has no identities')
  })

  test('signs a login', async () => {
    const peer = await startOpensshServer()
    const agent = await startAgent({ keys: [await clientKey('rsa-2048')] })
    const o = [`IdentityAgent=${agent.socket}`, 'IdentitiesOnly=no']
    expect(await ssh(peer, 'true', { key: undefined, o })).toMatchObject({ code: 0 })
    await agent.lock('secret')
    expect(await ssh(peer, 'true', { key: undefined, o })).toMatchObject({ code: 255 })
  })
})
