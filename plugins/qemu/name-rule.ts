import type { NameRule } from '../../src/plugin-sdk/index.ts'

/** Names are data here: any text. */
export const nameRule: NameRule = {
  pattern: '[^\\ud800-\\udfff]+',
  maxBytes: 1024,
  says: 'is text of 1 to 1024 bytes',
}
