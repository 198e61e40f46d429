/** Answers of a libvirt that says almost what it should. */
import * as fc from 'fast-check'
import type { Site } from '../../../plugins/libvirt/site.ts'
import { openVolumes } from '../../../plugins/libvirt/volumes.ts'
import type { XmlElement } from '../../../plugins/libvirt/xml.ts'
import type { ProviderError } from '../../../src/plugin-sdk/index.ts'
import { bytesLike } from './fuzz.ts'

const oddText = fc.constantFrom('', '0', '-1', '1.5', '1e999', 'NaN', '99999999999999999999', '0x10', '33', '::1::', '1.2.3', 'constructor')

/** An element of that shape, in which some attributes and children are gone, odd or doubled. */
export function treeLike({ name, attributes, children }: XmlElement): fc.Arbitrary<XmlElement> {
  const given = Object.entries(attributes).map(([key, value]) =>
    fc
      .oneof({ weight: 8, arbitrary: fc.constant(value) }, { weight: 1, arbitrary: fc.oneof(oddText, fc.constant(null)) })
      .map((text) => (text === null ? [] : [[key, text] as const])),
  )
  const inside = children.map((child) =>
    fc
      .tuple(typeof child === 'string' ? fc.oneof(fc.constant(child), oddText) : treeLike(child), fc.integer({ min: 0, max: 15 }))
      .map(([like, dice]) => (dice === 0 ? [] : dice === 1 ? [like, structuredClone(like)] : [like])),
  )
  return fc
    .tuple(fc.tuple(...given), fc.tuple(...inside))
    .map(([kept, within]) => ({ name, attributes: Object.fromEntries(kept.flat()), children: within.flat() }))
}

/** A text, sometimes with a few bytes changed. */
export const like = (text: string) => bytesLike(fc.constant(Buffer.from(text))).map((bytes) => bytes.toString('utf8'))

type Answers = Record<string, string | XmlElement | ProviderError>
/** A libvirt that answers each virsh command so. */
export function siteThat(answers: Answers, tree?: XmlElement): Site {
  const answer = async ([command = '']: readonly string[]) => {
    if (answers[command] instanceof Error) throw answers[command]
    return answers[command]
  }
  const client = { call: answer, look: answer, read: answer } as unknown as Site['client']
  const volumes = openVolumes(client, 'pool')
  const site = {
    client,
    options: { uri: 'qemu:///system', storagePools: [], limits: {} },
    log: () => {},
    volumes,
    runningDomain: async () => tree,
  }
  return site as unknown as Site
}
