import type { NicAddressing } from '../../../../transfer/control-protocol.ts'
import type { GuestFiles } from '../guest-files.ts'

export interface AddressedNic {
  mac: string
  name: string
  addressing: NicAddressing
}

/** One of the ways in which guests are told their addresses. */
export interface AddressWriter {
  name: string
  /** Whether this guest configures that interface so. */
  manages(files: GuestFiles, nic: AddressedNic): Promise<boolean>
  /** Gives the paths that were changed. What the guest said of the interface before no longer counts; a second time changes nothing. */
  write(files: GuestFiles, nic: AddressedNic): Promise<string[]>
}

export const remark = '# Written when this machine was moved.'

export function isIpv6(address: string): boolean {
  return address.includes(':')
}
