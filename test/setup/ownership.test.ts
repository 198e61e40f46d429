import { mkdtempSync, mkdirSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { giveTo, makeDirectoryFor } from '../../setup/ownership.ts'

let home: string
beforeEach(() => void (home = mkdtempSync(join(tmpdir(), 'portolan-owner-'))))
afterEach(() => rmSync(home, { recursive: true, force: true }))

const ownerOf = (path: string) => statSync(path).uid

describe('a set-up that runs as root for somebody', () => {
  test('gives the directories that it makes to them, and leaves those that were there', () => {
    makeDirectoryFor('1234:1234', join(home, 'cache/portolan'))
    expect([home, join(home, 'cache'), join(home, 'cache/portolan')].map(ownerOf)).toEqual([0, 1234, 1234])
  })

  test('gives files away with the directory they are in, but nothing that a link in it points to', () => {
    mkdirSync(join(home, 'keys'))
    writeFileSync(join(home, 'keys/client-key'), '')
    writeFileSync(join(home, 'elsewhere'), '')
    symlinkSync('../elsewhere', join(home, 'keys/link'))
    giveTo('1234:1234', join(home, 'keys'))
    expect([join(home, 'keys'), join(home, 'keys/client-key'), join(home, 'elsewhere')].map(ownerOf)).toEqual([1234, 1234, 0])
  })
})

test('without somebody, and for what is not there, nothing is given away', () => {
  makeDirectoryFor(undefined, join(home, 'cache'))
  giveTo(undefined, home)
  giveTo('1234:1234', join(home, 'nothing'))
  expect([home, join(home, 'cache')].map(ownerOf)).toEqual([process.getuid!(), process.getuid!()])
})
