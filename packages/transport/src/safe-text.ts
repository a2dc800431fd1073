/**
 * Makes text from a peer safe to show: control characters, DEL, C1, bidirectional controls and lone surrogates become
 * visible escapes, and the length is capped (1 KiB unless told). APIs hand out raw text; every error message, log line
 * and terminal goes through here.
 */
export function safeText(raw: string, maxLength = 1024): string {
  const capped = raw.length > maxLength ? `${raw.slice(0, maxLength)}...` : raw
  return capped.replace(
    /[\p{Cc}\p{Cs}\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/gu,
    (char) => `\\u{${char.codePointAt(0)!.toString(16)}}`,
  )
}

/** `safeText` in double quotes, for error messages. */
export function quote(raw: string, maxLength = 256): string {
  return `"${safeText(raw, maxLength)}"`
}
