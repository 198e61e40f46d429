import { expect, test } from 'vitest'
import { volumeNames } from '../../../plugins/libvirt/volume-names.ts'

const uniqueId = '0d1e2f30-1111-4222-8333-444455556666'

test.each(['web 1', '; rm -rf ~', '-rf', '..', '🚚', 'x'.repeat(200), "quo'te"])('a VM named %j has volumes with plain names', (name) => {
  const names = volumeNames({ name, uniqueId })
  for (const volume of [names.disk(0), names.overlay(3), names.landingKernel, names.landingInitrd]) {
    expect(volume).toMatch(/^[A-Za-z0-9_][A-Za-z0-9._-]*$/)
    expect(volume.length).toBeLessThan(110)
    expect(volume).toContain(`-${uniqueId}-`)
  }
})
