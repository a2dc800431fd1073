// How long a way is, told by its round trip.

/** From this round trip on opening takes so long that several are opened at once, in milliseconds. */
const farMs = 20

/** Whether the way is so long that one opening after another would take longer than many a transfer. */
export function isFar(roundTripMs: number): boolean {
  return roundTripMs >= farMs
}
