/** How fast a migration may copy, by the time of day. */
export const weekdays = ['MONDAY', 'TUESDAY', 'WEDNESDAY', 'THURSDAY', 'FRIDAY', 'SATURDAY', 'SUNDAY'] as const
export type Weekday = (typeof weekdays)[number]

export interface BandwidthWindow {
  /** The days on which it begins; every day when absent. */
  days?: Weekday[]
  /** `HH:MM` in the window's time zone, from 00:00 to 23:59. The window begins with `from` and ends before `to`; one that ends no later than it begins goes on into the next day. */
  from: string
  to: string
  /** IANA name, such as `Europe/Lisbon`. */
  timeZone: string
  limitBytesPerSecond: number
}

export interface BandwidthSchedule {
  /** Where no window holds; no limit when absent. */
  limitBytesPerSecond?: number
  /** The first that holds counts. */
  windows: BandwidthWindow[]
}

/** Below this a connection looks dead to whoever watches it. */
const minLimitBytesPerSecond = 65_536
const maxLimitBytesPerSecond = 125_000_000_000
const maxWindows = 50
const minutesADay = 24 * 60
const quarterMs = 15 * 60_000
const quartersAWeek = 7 * 24 * 4

/** Bytes a second at that moment; null: no limit. Where clocks are set forward or back, what counts is what a clock on the wall shows. Pure. */
export function bandwidthLimitAt(schedule: BandwidthSchedule, at: Date): number | null {
  return limitBy(schedule, (timeZone) => wallClock(at, timeZone))
}

/** Whether a looser limit than at that moment, or none, comes within a week. Pure. */
export function isLooserWithinAWeek(schedule: BandwidthSchedule, at: Date): boolean {
  const now = bandwidthLimitAt(schedule, at) ?? Infinity
  // Time zones are whole quarters of an hour apart, so a limit changes only where a quarter begins, or as many minutes after one as a window begins or ends.
  const minutes = new Set([0, ...schedule.windows.flatMap(({ from, to }) => [minutesOf(from) % 15, minutesOf(to) % 15])])
  const thisQuarter = Math.floor(at.getTime() / quarterMs)
  for (let quarter = thisQuarter; quarter <= thisQuarter + quartersAWeek; quarter++) {
    const begins = new Date(quarter * quarterMs)
    const clocks = new Map<string, WallClock>()
    const clockAfter = (minutesLater: number) => (timeZone: string) => {
      const clock = clocks.get(timeZone) ?? wallClock(begins, timeZone)
      clocks.set(timeZone, clock)
      return { ...clock, minute: clock.minute + minutesLater }
    }
    for (const minute of minutes)
      if (begins.getTime() + minute * 60_000 > at.getTime() && (limitBy(schedule, clockAfter(minute)) ?? Infinity) > now) return true
  }
  return false
}

/** What is wrong with a schedule, as the end of a sentence; null when nothing is. */
export function faultInBandwidthSchedule({ limitBytesPerSecond, windows }: BandwidthSchedule): string | null {
  if (windows.length > maxWindows) return `has ${windows.length} windows, more than ${maxWindows}`
  for (const limit of [limitBytesPerSecond ?? minLimitBytesPerSecond, ...windows.map((window) => window.limitBytesPerSecond)]) {
    if (!Number.isSafeInteger(limit) || limit < minLimitBytesPerSecond || limit > maxLimitBytesPerSecond)
      return `has a limit of ${limit} bytes a second; it is from ${minLimitBytesPerSecond} to ${maxLimitBytesPerSecond}`
  }
  for (const { days, from, to, timeZone } of windows) {
    for (const time of [from, to])
      if (!/^([01]\d|2[0-3]):[0-5]\d$/.test(time)) return `has a window at ${JSON.stringify(time.slice(0, 20))}, which is not HH:MM`
    if (days?.length === 0) return 'has a window on no day'
    if (!isTimeZone(timeZone)) return `has a window in ${JSON.stringify(timeZone.slice(0, 100))}, which is not the name of a time zone`
  }
  return null
}

interface WallClock {
  /** From Monday, 0. */
  day: number
  /** Of the day. */
  minute: number
}

function limitBy({ limitBytesPerSecond, windows }: BandwidthSchedule, clockIn: (timeZone: string) => WallClock): number | null {
  return windows.find((window) => holds(window, clockIn(window.timeZone)))?.limitBytesPerSecond ?? limitBytesPerSecond ?? null
}

function holds({ days, from, to }: BandwidthWindow, { day, minute }: WallClock): boolean {
  const [start, end] = [minutesOf(from), minutesOf(to)]
  const beginsOn = (index: number) => days === undefined || days.includes(weekdays[(index + 7) % 7]!)
  if (start < end) return minute >= start && minute < end && beginsOn(day)
  // Over midnight: its second part belongs to the day before.
  return (minute >= start && beginsOn(day)) || (minute < end && beginsOn(day - 1))
}

function wallClock(at: Date, timeZone: string): WallClock {
  const format = new Intl.DateTimeFormat('en-GB', { timeZone, weekday: 'long', hour: '2-digit', minute: '2-digit', hourCycle: 'h23' })
  const parts = new Map(format.formatToParts(at).map(({ type, value }) => [type, value]))
  const day = weekdays.findIndex((name) => name === parts.get('weekday')?.toUpperCase())
  return { day, minute: (Number(parts.get('hour')) * 60 + Number(parts.get('minute'))) % minutesADay }
}

function minutesOf(time: string): number {
  const [hours, minutes] = time.split(':').map(Number)
  return (hours ?? 0) * 60 + (minutes ?? 0)
}

function isTimeZone(name: string): boolean {
  try {
    Intl.DateTimeFormat('en', { timeZone: name })
    // Offsets such as +01:00 know nothing of summer time.
    return /^[A-Z]/i.test(name)
  } catch {
    return false
  }
}
