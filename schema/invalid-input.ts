import { PortolanError } from '../src/domain/errors.ts'

/** For `throw`: the part of the input at `path` breaks `rule`, such as "must be from 1 to 65,535". */
export function invalidInput(rule: string, path: readonly string[]): PortolanError {
  return new PortolanError('INVALID_INPUT', `${path.join('.')} ${rule}. Nothing was changed.`, {
    retryable: false,
    remedy: 'Correct it and send the call again.',
    path,
  })
}

/** @throws PortolanError INVALID_INPUT unless `least <= value <= most`. */
export function within(value: number, least: number, most: number, path: readonly string[]): number {
  if (value < least || value > most) throw invalidInput(`must be from ${least} to ${most}, and was ${value}`, path)
  return value
}
