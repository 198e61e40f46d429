import type { NameRule } from '../../src/plugin-sdk/index.ts'

/** libvirt names files after a domain: no slash, and room for its suffixes within 255 bytes. And it keeps names in XML, which can't hold every character. */
export const nameRule: NameRule = {
  pattern: '(?!\\.{1,2}$)(?=.*\\S)[^/\\u0000-\\u001f\\u007f\\ufffe\\uffff\\ud800-\\udfff]+',
  maxBytes: 200,
  says: 'has 1 to 200 bytes that are not all white space, without slashes and control characters, and is neither . nor ..',
  unique: true,
}
