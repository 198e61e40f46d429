import { describe, expect, test } from 'vitest'
import {
  bandwidthLimitAt,
  faultInBandwidthSchedule,
  isLooserWithinAWeek,
  type BandwidthWindow,
} from '../../src/domain/bandwidth-schedule.ts'

const [slow, slower] = [1_000_000, 100_000]
const office: BandwidthWindow = { from: '08:00', to: '18:00', timeZone: 'Europe/Berlin', limitBytesPerSecond: slow }
const at = (schedule: Parameters<typeof bandwidthLimitAt>[0], instant: string) => bandwidthLimitAt(schedule, new Date(instant))

describe('a limit by the time of day', () => {
  test('holds in its window, by the clock of its time zone, summer and winter', () => {
    const schedule = { windows: [office] }
    expect(at(schedule, '2026-01-15T06:59:59Z')).toBeNull()
    expect(at(schedule, '2026-01-15T07:00:00Z')).toBe(slow)
    expect(at(schedule, '2026-01-15T16:59:59Z')).toBe(slow)
    expect(at(schedule, '2026-01-15T17:00:00Z')).toBeNull()
    expect(at(schedule, '2026-07-15T05:59:59Z')).toBeNull()
    expect(at(schedule, '2026-07-15T06:00:00Z')).toBe(slow)
    expect(at(schedule, '2026-07-15T16:00:00Z')).toBeNull()
  })

  test('outside of all windows the general one holds; of several windows the first', () => {
    const schedule = {
      limitBytesPerSecond: 5_000_000,
      windows: [{ ...office, from: '12:00', to: '13:00', limitBytesPerSecond: slower }, office],
    }
    expect(at(schedule, '2026-01-15T03:00:00Z')).toBe(5_000_000)
    expect(at(schedule, '2026-01-15T09:00:00Z')).toBe(slow)
    expect(at(schedule, '2026-01-15T11:30:00Z')).toBe(slower)
  })

  test('over midnight it belongs to the day on which it begins', () => {
    // 2026-01-16 is a Friday.
    const schedule = { windows: [{ ...office, days: ['FRIDAY' as const], from: '22:00', to: '06:00', timeZone: 'UTC' }] }
    expect(at(schedule, '2026-01-16T05:00:00Z')).toBeNull()
    expect(at(schedule, '2026-01-16T23:00:00Z')).toBe(slow)
    expect(at(schedule, '2026-01-17T05:59:00Z')).toBe(slow)
    expect(at(schedule, '2026-01-17T06:00:00Z')).toBeNull()
    expect(at(schedule, '2026-01-17T23:00:00Z')).toBeNull()
  })

  test('one that ends as it begins is a whole day', () => {
    const schedule = { windows: [{ ...office, days: ['SUNDAY' as const], from: '00:00', to: '00:00', timeZone: 'America/St_Johns' }] }
    expect(at(schedule, '2026-01-18T03:29:00Z')).toBeNull()
    expect(at(schedule, '2026-01-18T03:30:00Z')).toBe(slow)
    expect(at(schedule, '2026-01-19T03:29:59Z')).toBe(slow)
    expect(at(schedule, '2026-01-19T03:30:00Z')).toBeNull()
  })

  test('the hour that the clocks show twice counts twice, and the one that they skip never comes', () => {
    const night = { windows: [{ ...office, from: '02:00', to: '03:00' }] }
    // 2026-10-25: from 03:00 summer time back to 02:00.
    expect(['00:30', '01:30', '02:30'].map((time) => at(night, `2026-10-25T${time}:00Z`))).toEqual([slow, slow, null])
    // 2026-03-29: from 02:00 on to 03:00.
    expect(['00:30', '00:59', '01:00', '01:30'].map((time) => at(night, `2026-03-29T${time}:00Z`))).toEqual([null, null, null, null])
  })
})

test('a limit is looser within a week where a window ends, or a wider one begins, and not where it is all there is', () => {
  const looser = (schedule: Parameters<typeof isLooserWithinAWeek>[0]) => isLooserWithinAWeek(schedule, new Date('2026-01-15T10:00:00Z'))
  expect(looser({ windows: [office] })).toBe(true)
  expect(looser({ limitBytesPerSecond: slower, windows: [{ ...office, from: '22:00', to: '06:00' }] })).toBe(true)
  expect(looser({ limitBytesPerSecond: slow, windows: [] })).toBe(false)
  expect(looser({ limitBytesPerSecond: slow, windows: [{ ...office, from: '22:00', to: '06:00', limitBytesPerSecond: slower }] })).toBe(
    false,
  )
  expect(looser({ windows: [] })).toBe(false)
})

test.each([
  ['10:15', '10:45', 'UTC'],
  ['09:01', '09:02', 'UTC'],
  ['15:56', '15:59', 'Asia/Kathmandu'],
])('a looser window is seen however short it is: from %s to %s in %s', (from, to, timeZone) => {
  const days = ['THURSDAY' as const]
  const schedule = { limitBytesPerSecond: slower, windows: [{ ...office, days, from, to, timeZone }] }
  expect(isLooserWithinAWeek(schedule, new Date('2026-01-15T09:10:30Z'))).toBe(true)
})

describe('a schedule', () => {
  test('that makes sense is taken', () => {
    expect(faultInBandwidthSchedule({ windows: [] })).toBeNull()
    expect(faultInBandwidthSchedule({ limitBytesPerSecond: 65_536, windows: [office, { ...office, days: ['MONDAY'] }] })).toBeNull()
  })

  test.each([
    [{ limitBytesPerSecond: 65_535, windows: [] }, '65536 to'],
    [{ windows: [{ ...office, limitBytesPerSecond: 1.5 }] }, 'limit of 1.5'],
    [{ windows: [{ ...office, from: '24:00' }] }, '"24:00"'],
    [{ windows: [{ ...office, to: '8:00' }] }, 'not HH:MM'],
    [{ windows: [{ ...office, days: [] }] }, 'on no day'],
    [{ windows: [{ ...office, timeZone: 'Europe/Atlantis' }] }, 'Atlantis'],
    [{ windows: [{ ...office, timeZone: '+01:00' }] }, 'time zone'],
    [{ windows: Array.from({ length: 51 }, () => office) }, '51 windows'],
  ])('%j is refused', (schedule, reason) => {
    expect(faultInBandwidthSchedule(schedule)).toContain(reason)
  })
})
