/** The picture that `npm run demo -- job` renders: the program that the children run, and the PNG that its tiles make. */
import { deflateSync, crc32 } from 'node:zlib'

export const picture = { width: 640, height: 480, tileRows: 8 } as const

/**
 * For the Node parent: a task's input is its first row, its output the tile's iterations, base64 of one byte a pixel. Seahorse valley, plain doubles: every machine
 * computes the same.
 */
export const tileProgram = `
module.exports = async ({ firstRow, rows, width, height }, context) => {
  const most = 255
  const pixels = Buffer.alloc(rows * width)
  for (let row = 0; row < rows; row++) {
    const ci = 0.1315 + ((firstRow + row) / height - 0.5) * 0.0135
    for (let column = 0; column < width; column++) {
      const cr = -0.7435 + (column / width - 0.5) * 0.018
      let zr = 0, zi = 0, n = 0
      for (; n < most && zr * zr + zi * zi <= 4; n++) {
        const next = zr * zr - zi * zi + cr
        zi = 2 * zr * zi + ci
        zr = next
      }
      pixels[row * width + column] = n
    }
  }
  context.log('rows ' + firstRow + ' to ' + (firstRow + rows - 1))
  return pixels.toString('base64')
}
`

export function tileInputs(): { firstRow: number; rows: number; width: number; height: number }[] {
  const { width, height, tileRows } = picture
  return Array.from({ length: Math.ceil(height / tileRows) }, (_, tile) => ({
    firstRow: tile * tileRows,
    rows: Math.min(tileRows, height - tile * tileRows),
    width,
    height,
  }))
}

/** @param tiles outputs in task order. A PNG (W3C, third edition) with a palette. */
export function png(tiles: readonly string[]): Buffer {
  const { width, height } = picture
  const pixels = Buffer.concat(tiles.map((tile) => Buffer.from(tile, 'base64')))
  const rows = Buffer.alloc(height * (width + 1))
  for (let row = 0; row < height; row++) pixels.copy(rows, row * (width + 1) + 1, row * width, (row + 1) * width)
  const header = Buffer.alloc(13)
  header.writeUInt32BE(width, 0)
  header.writeUInt32BE(height, 4)
  header.set([8, 3, 0, 0, 0], 8)
  return Buffer.concat([
    Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]),
    chunk('IHDR', header),
    chunk('PLTE', palette()),
    chunk('IDAT', deflateSync(rows, { level: 9 })),
    chunk('IEND', Buffer.alloc(0)),
  ])
}

/** From deep blue over gold to white; what never escapes is black. */
function palette(): Buffer {
  const colours = Buffer.alloc(256 * 3)
  for (let n = 0; n < 255; n++) {
    const t = Math.sqrt(n / 254)
    colours[n * 3] = Math.round(255 * Math.min(1, 1.7 * t * t))
    colours[n * 3 + 1] = Math.round(255 * Math.min(1, 0.05 + 1.1 * t ** 1.6))
    colours[n * 3 + 2] = Math.round(255 * (t < 0.5 ? 0.35 + 0.6 * t : Math.max(0.15, 1.3 - 1.3 * t) + Math.max(0, t - 0.8) * 4))
  }
  return Buffer.from(colours.map((value) => Math.min(255, value)))
}

function chunk(type: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(type, 'latin1'), data])
  const framed = Buffer.alloc(body.length + 8)
  framed.writeUInt32BE(data.length, 0)
  body.copy(framed, 4)
  framed.writeUInt32BE(crc32(body), body.length + 4)
  return framed
}
