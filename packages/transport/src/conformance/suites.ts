// The checks of each role, in the order in which a connection meets their rules.

import type { Check } from './check.ts'
import { authenticationChecks, serviceChecks } from './checks/authentication.ts'
import { channelChecks, clientChannelChecks } from './checks/channels.ts'
import { clientAuthenticationChecks } from './checks/client-authentication.ts'
import { gateChecks, serverGateChecks } from './checks/gate.ts'
import {
  clientIdentificationChecks,
  identificationChecks,
  serverIdentificationChecks,
} from './checks/identification.ts'
import { guessChecks, kexInitChecks, serverGuessChecks } from './checks/kexinit.ts'
import { clientKeyExchangeChecks, keyExchangeChecks, serverKeyExchangeChecks } from './checks/key-exchange.ts'
import { serverLimitChecks } from './checks/limits.ts'
import { integrityChecks, packetChecks } from './checks/packets.ts'
import { rekeyChecks, serverRekeyChecks } from './checks/rekey.ts'
import { clientRequestChecks, requestChecks, serverRequestChecks } from './checks/requests.ts'
import { serverChannelChecks } from './checks/server-channels.ts'
import { strictChecks } from './checks/strict.ts'
import {
  clientExtensionChecks,
  serverExtensionChecks,
  transportMessageChecks,
} from './checks/transport-messages.ts'
import { clientWindowChecks, serverWindowChecks, windowChecks } from './checks/windows.ts'
import type { Trial } from './trial.ts'

/** Checks that run against a server. */
export const serverChecks: readonly Check<Trial>[] = [
  ...identificationChecks,
  ...serverIdentificationChecks,
  ...kexInitChecks,
  ...guessChecks,
  ...serverGuessChecks,
  ...keyExchangeChecks,
  ...serverKeyExchangeChecks,
  ...strictChecks,
  ...packetChecks,
  ...integrityChecks,
  ...transportMessageChecks,
  ...serverExtensionChecks,
  ...gateChecks,
  ...serverGateChecks,
  ...rekeyChecks,
  ...serverRekeyChecks,
  ...serviceChecks,
  ...authenticationChecks,
  ...channelChecks,
  ...serverChannelChecks,
  ...windowChecks,
  ...serverWindowChecks,
  ...requestChecks,
  ...serverRequestChecks,
  ...serverLimitChecks,
]

/** Checks that run against a client. */
export const clientChecks: readonly Check<Trial>[] = [
  ...identificationChecks,
  ...clientIdentificationChecks,
  ...kexInitChecks,
  ...guessChecks,
  ...keyExchangeChecks,
  ...clientKeyExchangeChecks,
  ...strictChecks,
  ...packetChecks,
  ...integrityChecks,
  ...transportMessageChecks,
  ...clientExtensionChecks,
  ...gateChecks,
  ...rekeyChecks,
  ...clientAuthenticationChecks,
  ...channelChecks,
  ...clientChannelChecks,
  ...windowChecks,
  ...clientWindowChecks,
  ...requestChecks,
  ...clientRequestChecks,
]
