/**
 * libvirt's XML as a tree: enough of XML 1.0 to read what libvirt prints and to write what it reads back.
 * Names keep their prefix. Document types, processing instructions and comments are skipped; entities other than XML's own five are refused.
 */
export interface XmlElement {
  name: string
  attributes: Record<string, string>
  children: (XmlElement | string)[]
}

/** A new element. Attributes that are undefined, and children that are null, are left out. */
export function element(
  name: string,
  attributes: Record<string, string | number | undefined> = {},
  ...children: (XmlElement | string | null)[]
): XmlElement {
  const given = Object.entries(attributes).flatMap(([key, value]) => (value === undefined ? [] : [[key, String(value)] as const]))
  return { name, attributes: Object.fromEntries(given), children: children.filter((child) => child !== null) }
}

/** The child elements with that name, prefix or not. */
export function childrenNamed(parent: XmlElement | undefined, name: string): XmlElement[] {
  return elementsOf(parent).filter((child) => child.name === name || child.name.endsWith(`:${name}`))
}

/** The first element at the end of a path of child names. */
export function childAt(parent: XmlElement | undefined, ...path: string[]): XmlElement | undefined {
  return path.reduce<XmlElement | undefined>((at, name) => childrenNamed(at, name)[0], parent)
}

/** The text directly inside an element, '' where there is none. */
export function textOf(of: XmlElement | undefined): string {
  return (of?.children ?? []).filter((child) => typeof child === 'string').join('')
}

/** What a text or attribute counts, 0 where it is no whole number. */
export function countIn(text: string | undefined): number {
  const count = /^\s*\d+\s*$/.test(text ?? '') ? Number(text) : 0
  return Number.isSafeInteger(count) ? count : 0
}

export function elementsOf(parent: XmlElement | undefined): XmlElement[] {
  return (parent?.children ?? []).filter((child) => typeof child !== 'string')
}

/** Throws a RangeError for characters that XML 1.0 cannot hold at all, such as a zero byte. */
export function writeXml(root: XmlElement): string {
  const attributes = Object.entries(root.attributes).map(([key, value]) => ` ${key}="${escapeXml(value)}"`)
  const content = root.children.map((child) => (typeof child === 'string' ? escapeXml(child) : writeXml(child))).join('')
  return content === '' ? `<${root.name}${attributes.join('')}/>` : `<${root.name}${attributes.join('')}>${content}</${root.name}>`
}

const escapes: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&apos;' }

function escapeXml(text: string): string {
  // XML 1.0 cannot hold these characters, not even escaped, so the pattern has to name them.
  // oxlint-disable-next-line no-control-regex
  if (/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/.test(text) || !text.isWellFormed())
    throw new RangeError(`${JSON.stringify(text.slice(0, 80))} holds a character that XML does not allow.`)
  // Line breaks in attributes would be read back as spaces.
  return text.replace(/[&<>"']/g, (character) => escapes[character]!).replace(/[\r\n\t]/g, (character) => `&#${character.charCodeAt(0)};`)
}

const entities = new Map(Object.entries({ amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" }))

/** Undefined for what is no character at all. */
function characterOf(codePoint: number): string | undefined {
  return codePoint >= 0 && codePoint <= 0x10ffff ? String.fromCodePoint(codePoint) : undefined
}

function unescapeXml(text: string): string {
  return text.replace(/&(#x?)?([^;&\s]{0,32});?/g, (whole, numeric: string | undefined, name: string) => {
    const character = numeric ? characterOf(Number.parseInt(name, numeric === '#x' ? 16 : 10)) : entities.get(name)
    if (character === undefined || !whole.endsWith(';')) throw new SyntaxError(`Unknown XML entity ${whole}.`)
    return character
  })
}

/** Comment, CDATA, instruction or document type, closing tag, opening tag: whatever begins at a `<`. */
const markup =
  /<!--[\s\S]*?-->|<!\[CDATA\[([\s\S]*?)\]\]>|<\?[\s\S]*?\?>|<!DOCTYPE[^>[]*>|<\/([^\s>]+)\s*>|<([^\s/>!?]+)((?:\s+[^\s=>/]+\s*=\s*(?:"[^"<]*"|'[^'<]*'))*)\s*(\/?)>/y
const attribute = /([^\s=]+)\s*=\s*(?:"([^"]*)"|'([^']*)')/g

/** libvirt nests a dozen; whoever walks a tree by recursion must not run out of stack. */
const deepest = 200

/** Throws a SyntaxError where the text isn't one well-formed element, or nests too deep. Text that is only white space between elements is dropped. */
export function readXml(text: string): XmlElement {
  const top = element('')
  const open = [top]
  let at = 0
  while (at < text.length) {
    const parent = open.at(-1)!
    const next = text.indexOf('<', at)
    const characters = text.slice(at, next === -1 ? undefined : next)
    if (characters.trim() !== '') parent.children.push(unescapeXml(characters))
    if (next === -1) break
    markup.lastIndex = next
    const match = markup.exec(text)
    if (!match) throw new SyntaxError(`Broken XML at ${JSON.stringify(text.slice(next, next + 40))}.`)
    const [, literal, closing, opening, attributes = '', empty] = match
    if (literal !== undefined) parent.children.push(literal)
    if (opening !== undefined) {
      const child = element(opening, readAttributes(attributes))
      parent.children.push(child)
      if (empty === '' && open.push(child) > deepest) throw new SyntaxError(`XML nests more than ${deepest} elements.`)
    }
    if (closing !== undefined && open.pop()?.name !== closing)
      throw new SyntaxError(`XML element ${closing} is closed where it isn't open.`)
    at = markup.lastIndex
  }
  const [root, ...more] = elementsOf(top)
  if (open.length !== 1 || !root || more.length > 0 || textOf(top) !== '') throw new SyntaxError('The text is not one whole XML element.')
  return root
}

function readAttributes(text: string): Record<string, string> {
  return Object.fromEntries([...text.matchAll(attribute)].map(([, name, double, single]) => [name!, unescapeXml(double ?? single ?? '')]))
}
