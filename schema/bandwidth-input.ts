import { faultInBandwidthSchedule, weekdays, type BandwidthSchedule, type Weekday } from '../src/domain/bandwidth-schedule.ts'
import { builder } from './builder.ts'
import { invalidInput } from './invalid-input.ts'

export const WeekdayEnum = builder.enumType('Weekday', {
  description: 'A day of the week.',
  values: Object.fromEntries(weekdays.map((day) => [day, { description: `${day[0]}${day.slice(1).toLowerCase()}.` }])) as Record<
    Weekday,
    { description: string }
  >,
})

/** Said of inputs and outputs alike. */
export const bandwidthWords = {
  days: 'The days on which it begins; every day where none is named.',
  from: 'When it begins, `HH:MM` from 00:00 to 23:59 in its time zone.',
  to: 'When it ends, `HH:MM`. No later than `from`: on the next day.',
  timeZone: 'IANA name such as `Europe/Lisbon`. Where clocks are set forward or back, what they show counts.',
  windowLimit: 'Bytes a second while it holds, at least 65,536.',
  limit: 'Bytes a second where no window holds, at least 65,536; null for no limit.',
  windows: 'Other limits by the time of day, at most 50. The first that holds counts.',
}

const BandwidthWindowInput = builder.inputType('BandwidthWindowInput', {
  description: 'A limit that holds at some time of the day.',
  fields: (t) => ({
    days: t.field({ type: [WeekdayEnum], defaultValue: [], required: true, description: bandwidthWords.days }),
    from: t.string({ required: true, description: bandwidthWords.from }),
    to: t.string({ required: true, description: bandwidthWords.to }),
    timeZone: t.string({ required: true, description: bandwidthWords.timeZone }),
    limitBytesPerSecond: t.field({ type: 'ByteCount', required: true, description: bandwidthWords.windowLimit }),
  }),
})

export const BandwidthLimitInput = builder.inputType('BandwidthLimitInput', {
  description: 'How much a migration may send over the network. Without anything in it: as much as it can.',
  fields: (t) => ({
    limitBytesPerSecond: t.field({ type: 'ByteCount', description: bandwidthWords.limit }),
    windows: t.field({ type: [BandwidthWindowInput], defaultValue: [], required: true, description: bandwidthWords.windows }),
  }),
})

/** @throws PortolanError INVALID_INPUT */
export function toBandwidthSchedule(input: typeof BandwidthLimitInput.$inferInput, path: readonly string[]): BandwidthSchedule {
  const { limitBytesPerSecond, windows } = input
  const schedule: BandwidthSchedule = {
    ...(limitBytesPerSecond !== null && limitBytesPerSecond !== undefined && { limitBytesPerSecond }),
    windows: windows.map(({ days, from, to, timeZone, limitBytesPerSecond: limit }) => ({
      ...(days.length > 0 && { days }),
      from,
      to,
      timeZone,
      limitBytesPerSecond: limit,
    })),
  }
  const fault = faultInBandwidthSchedule(schedule)
  if (fault) throw invalidInput(fault, path)
  return schedule
}
