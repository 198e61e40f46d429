import { runCommand } from '../../setup/run-command.ts'

/**
 * A bridge with a tap device for each guest, as on a real host: the guests' segmentation and checksum offloads work, so that the network costs
 * what it costs in a cloud rather than what emulation adds. Made in this process's own network namespace, and gone with it.
 */
export async function makeGuestLink(taps: readonly string[]): Promise<void> {
  await runCommand('ip', ['link', 'add', 'guest-link', 'type', 'bridge'])
  await runCommand('ip', ['link', 'set', 'guest-link', 'up'])
  for (const tap of taps) {
    await runCommand('ip', ['tuntap', 'add', tap, 'mode', 'tap'])
    await runCommand('ip', ['link', 'set', tap, 'master', 'guest-link', 'up'])
  }
}
