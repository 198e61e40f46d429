/** What a group's members may be: refused before anything is stored. */
import { PortolanError } from './errors.ts'

export const mostMembers = 1_000
const longestName = 100

export interface PlannedMember {
  name: string
  dependsOn: readonly string[]
  /** One machine is known by one id, wherever it was connected. */
  machine: string
}

/** The name in its normal form. Throws PortolanError INVALID_INPUT for an empty or overlong one, and for characters that can't be seen. */
export function checkedName(name: string, path: readonly string[]): string {
  const normal = name.normalize('NFC')
  // Nothing that is invisible, turns the direction of text around, or breaks a line.
  if (normal.length <= longestName && /^[\p{L}\p{M}\p{N}\p{P}\p{S} ]+$/u.test(normal) && normal.trim() === normal) return normal
  throw invalid(`must have 1 to ${longestName} visible characters, and no space at either end`, path)
}

/** Throws PortolanError INVALID_INPUT for too few or too many. Cheap: ask before looking at each. */
export function requireMemberCount(count: number): void {
  if (count < 1 || count > mostMembers) throw invalid(`must be 1 to ${mostMembers} members, and were ${count}`, ['input', 'members'])
}

/**
 * The members in an order in which each comes after all that it depends on, else as given.
 * @throws PortolanError INVALID_INPUT for a name or machine that comes twice, an unknown dependency, and a cycle, which it spells out.
 */
export function inOrder<Member extends PlannedMember>(members: readonly Member[]): Member[] {
  requireMemberCount(members.length)
  const byName = new Map<string, number>()
  const byMachine = new Map<string, number>()
  for (const [index, { name, machine }] of members.entries()) {
    const path = (field: string) => ['input', 'members', `${index}`, field]
    const [sameName, sameMachine] = [byName.get(name), byMachine.get(machine)]
    if (sameName !== undefined) throw invalid(`is ${JSON.stringify(name)}, as that of member ${sameName} is`, path('name'))
    if (sameMachine !== undefined) throw invalid(`is the machine that member ${sameMachine} moves already`, path('sourceVirtualMachineId'))
    byName.set(name, index)
    byMachine.set(machine, index)
  }
  for (const [index, { dependsOn }] of members.entries())
    for (const [place, name] of dependsOn.entries())
      if (!byName.has(name))
        throw invalid(`names ${JSON.stringify(name.slice(0, longestName))}, and no member has that name`, [
          'input',
          'members',
          `${index}`,
          'dependsOn',
          `${place}`,
        ])

  const ordered: Member[] = []
  const placed = new Set<string>()
  // Depth first with a stack of its own: a chain of a thousand must not be a thousand calls deep.
  for (const first of members) {
    const trail: { member: Member; next: number }[] = placed.has(first.name) ? [] : [{ member: first, next: 0 }]
    const onTrail = new Set([first.name])
    for (let top = trail.at(-1); top; top = trail.at(-1)) {
      const dependency = top.member.dependsOn[top.next++]
      if (dependency === undefined) {
        ordered.push(top.member)
        placed.add(top.member.name)
        onTrail.delete(top.member.name)
        trail.pop()
      } else if (onTrail.has(dependency)) {
        const names = trail.map(({ member }) => member.name)
        throw cycle([...names.slice(names.indexOf(dependency)), dependency], byName.get(dependency)!)
      } else if (!placed.has(dependency)) {
        trail.push({ member: members[byName.get(dependency)!]!, next: 0 })
        onTrail.add(dependency)
      }
    }
  }
  return ordered
}

function cycle(names: string[], index: number): PortolanError {
  const shown = names.length > 8 ? [...names.slice(0, 7), '…', names.at(-1)!] : names
  return invalid(`goes round in a circle: ${shown.join(' → ')}`, ['input', 'members', `${index}`, 'dependsOn'])
}

function invalid(rule: string, path: readonly string[]): PortolanError {
  return new PortolanError('INVALID_INPUT', `${path.join('.')} ${rule}. Nothing was changed.`, {
    retryable: false,
    remedy: 'Correct it and send the call again.',
    path,
  })
}
