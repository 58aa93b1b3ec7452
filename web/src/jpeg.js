// Finds JPEG files that have lost data, as cifar10-infer does.
//
// JPEG has no checksum, and browsers show gray or wrong pixels in place of lost data. But compressed data that lost a
// part seldom have as many codes as the image needs. So the page reads all codes, without computing pixels.
// Names of markers and parameters are those of the standard, ITU-T T.81.

import { damaged, readCodes } from "./jpeg-scan.js";

const [DHT, RST0, RST7, EOI, SOS, DRI] = [0xc4, 0xd0, 0xd7, 0xd9, 0xda, 0xdd];
const FRAMES = [0xc0, 0xc1, 0xc2, 0xc9, 0xca]; // the kinds that browsers decode
const PROGRESSIVE = [0xc2, 0xca];
const ARITHMETIC = [0xc9, 0xca];
const LAST = 63; // the last coefficient of a block
const MOST_STRAY_BYTES = 16; // some cameras write a few bytes too many; many are blocks without a place
const ZEROS = 64; // a lost sector becomes 512 zeros or more; compressed data seldom have as many as these

export const isJpeg = (bytes) => bytes[0] === 0xff && bytes[1] === 0xd8 && bytes[2] === 0xff;

/**
 * Throws an Error with a message for the user if a JPEG file, which the browser can decode, has lost data.
 * Arithmetic codes, and files without Huffman tables (frames of Motion JPEG), are only searched for zeros.
 */
export function checkJpeg(bytes) {
  const tables = []; // of DHT, by class and number
  let frame;
  let restartInterval = 0;
  let scans = 0;
  let position = 2;
  let stray = 0; // bytes of compressed data that are left over
  for (;;) {
    const { marker, skipped, payload, end } = nextSegment(bytes, position);
    if (scans > 0 && stray + skipped > MOST_STRAY_BYTES) {
      damaged(`${stray + skipped} extraneous bytes before marker 0x${marker.toString(16)}`);
    }
    if (marker === EOI) {
      break;
    }
    position = end;
    stray = 0;
    if (marker === DHT) {
      readTables(payload, tables);
    } else if (marker === DRI) {
      restartInterval = number(payload, 0);
    } else if (FRAMES.includes(marker)) {
      frame = readFrame(payload, marker);
    } else if (marker === SOS) {
      const scan = readScan(payload, frame, tables);
      const next = nextSegment(bytes, end).start;
      if (hasZeros(bytes, end, next) && !canBeZeros(scan)) {
        damaged("zeros in place of compressed data");
      }
      position = next;
      if (scan.isReadable) {
        ({ position, stray } = readCodes(scan, bytes, end, restartInterval));
      }
      scans += 1;
    }
  }
  if (!frame?.components.every(({ lowestBits }) => lowestBits.every((bit) => bit === 0))) {
    damaged("scans are missing at the end");
  }
}

const number = (bytes, position) => (bytes[position] << 8) | bytes[position + 1];

/**
 * Returns the next segment or EOI: marker, payload, start, end, and the number of bytes skipped before it.
 * Compressed data are skipped, too: in them, 0xFF precedes only 0 and the markers of restarts.
 */
function nextSegment(bytes, begin) {
  let skipped = 0;
  for (let position = begin; position < bytes.length; position++) {
    const marker = bytes[position];
    if (marker !== 0xff) {
      if (position > begin && bytes[position - 1] === 0xff && marker > 1 && (marker < RST0 || marker > RST7)) {
        const end = position + 1 + number(bytes, position + 1);
        return { marker, skipped, payload: bytes.subarray(position + 3, end), start: position - 1, end };
      }
      skipped += 1;
    }
  }
  return damaged("Premature end of JPEG file");
}

/** Adds the tables of a DHT segment: for each value of the next 16 bits, length << 8 | symbol of the code; or 0. */
function readTables(payload, tables) {
  for (let at = 0; at + 17 <= payload.length; ) {
    const table = new Uint16Array(1 << 16);
    let code = 0;
    let symbol = at + 17;
    for (let length = 1; length <= 16; length++) {
      for (let count = payload[at + length]; count > 0; count--, symbol++) {
        const next = code + (1 << (16 - length));
        table.fill((length << 8) | payload[symbol], code, next);
        code = next;
      }
    }
    if (code > table.length || symbol > payload.length) {
      damaged("bogus Huffman table definition");
    }
    tables[payload[at]] = table;
    at = symbol;
  }
}

/** Returns the components of a frame, with their sizes in blocks (A.1.1, A.2.4). */
function readFrame(payload, marker) {
  const progressive = PROGRESSIVE.includes(marker);
  const [height, width] = [number(payload, 1), number(payload, 3)];
  const factors = Array.from({ length: payload[5] }, (_, index) => payload.subarray(6 + 3 * index, 9 + 3 * index));
  const widest = Math.max(...factors.map(([, factor]) => factor >> 4));
  const highest = Math.max(...factors.map(([, factor]) => factor & 15));
  const columns = Math.ceil(width / (8 * widest));
  const rows = Math.ceil(height / (8 * highest));
  const components = factors.map(([id, factor]) => {
    const [h, v] = [factor >> 4, factor & 15];
    return {
      id,
      h,
      v,
      columns: Math.ceil((width * h) / (8 * widest)),
      rows: Math.ceil((height * v) / (8 * highest)),
      stride: columns * h, // blocks per row, with those that complete an MCU
      lowestBits: new Int8Array(LAST + 1).fill(-1), // of each coefficient: the lowest bit that was read; -1 before any
      nonzero: new Uint32Array(progressive ? 2 * columns * h * rows * v : 0), // one bit per coefficient
    };
  });
  return { progressive, arithmetic: ARITHMETIC.includes(marker), columns, rows, components };
}

/** Returns the parameters of a scan. */
function readScan(payload, frame, tables) {
  const { progressive, arithmetic } = frame ?? damaged("no frame before the scan");
  const [first, last, bits] = progressive ? payload.subarray(-3) : [0, LAST, 0];
  const [high, low] = [bits >> 4, bits & 15];
  const others = [...frame.components];
  const parts = Array.from({ length: payload[0] }, (_, index) => {
    const [selector, numbers] = payload.subarray(1 + 2 * index);
    const place = others.findIndex(({ id }) => id === selector);
    const [component] = place < 0 ? damaged(`no component ${selector}`) : others.splice(place, 1); // ids may be equal
    return { ...component, dc: tables[numbers >> 4], ac: tables[0x10 | (numbers & 15)] };
  });
  const needsDc = first === 0 && high === 0;
  const needsAc = last > 0;
  const hasTables = parts.every(({ dc, ac }) => (dc || !needsDc) && (ac || !needsAc));
  for (const { lowestBits } of parts) {
    for (let k = first; k <= last; k++) {
      if (Math.max(lowestBits[k], 0) !== high) {
        damaged("inconsistent progression of scans");
      }
      lowestBits[k] = low;
    }
  }
  // A scan of one component has its blocks row by row, without those that complete an MCU.
  const single = parts.length === 1;
  const { columns, rows } = single ? parts[0] : frame;
  const units = single ? [{ ...parts[0], h: 1, v: 1 }] : parts;
  const isReadable = hasTables && !arithmetic;
  return { progressive, first, last, high, units, columns, count: columns * rows, needsDc, needsAc, isReadable };
}

/** Whether compressed data have a run of zeros that may be in place of other data. */
function hasZeros(bytes, start, end) {
  for (let position = start, run = 0; position < end; position++) {
    run = bytes[position] === 0 ? run + 1 : 0;
    if (run === ZEROS) {
      return true;
    }
  }
  return false;
}

/** Whether zeros in the data of a scan can stand for equal blocks: no difference of DC, and end of block. */
function canBeZeros({ units, needsDc, needsAc }) {
  const isZero = (table, mask) => table && (table[0] & mask) === 0; // the symbol of the code of zeros
  return units.every(({ dc, ac }) => (!needsDc || isZero(dc, 0xff)) && (!needsAc || isZero(ac, 0x0f)));
}
