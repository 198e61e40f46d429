/** What a serial console's newest bytes say, at most this many. */
export const consoleBytes = 64 * 1024

// What a terminal would obey begins with a control character, so the pattern has to name it.
// oxlint-disable-next-line no-control-regex
const escapeSequences = /\u001b(?:\[[0-?]*[ -/]*[@-~]?|[\]PX^_][\s\S]*?(?:\u0007|\u001b\\|$)|[ -/]*[0-~]?)/g
/** Control characters but for tab and line feed, and those that turn the direction of text: what a guest could play tricks on a reader with. */
const unprintable = /[^\P{Cc}\t\n]|[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/gu

/** For `virtualMachines.console`: plain text of what a guest wrote, which may be anything. Where `bytes` is the end of more, it begins with a whole line. */
export function consoleText(bytes: Uint8Array): string {
  const newest = bytes.subarray(-consoleBytes)
  const text = new TextDecoder().decode(newest)
  const whole = newest.length < bytes.length ? text.slice(text.indexOf('\n') + 1) : text
  return whole.replace(escapeSequences, '').replace(unprintable, '')
}
