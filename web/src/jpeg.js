// Finds JPEG files that have lost data, as cifar10-infer does.
//
// JPEG has no checksum, and browsers show gray or wrong pixels in place of lost data. But compressed data that lost a
// part seldom have as many codes as the image has blocks. So this module reads all codes, without computing pixels.
// Names of markers and parameters are those of the standard, ITU-T T.81; annex F describes the codes of sequential
// files, annex G those of progressive files.

import { damaged, readCodes } from "./jpeg-scan.js";

const [DHT, EOI, SOS, DRI, RST0] = [0xc4, 0xd9, 0xda, 0xdd, 0xd0];
const [SOF0, SOF1, SOF2, SOF15] = [0xc0, 0xc1, 0xc2, 0xcf]; // baseline, extended sequential, progressive, the last frame
const NO_FRAMES = [DHT, 0xc8, 0xcc]; // markers among those of frames
const LAST = 63; // the last coefficient of a block
const MOST_STRAY_BYTES = 16; // some cameras write a few bytes too many; many are blocks without a place
const ZEROS = 64; // a lost sector becomes 512 zeros or more; compressed data seldom have as many as these

export const isJpeg = (bytes) => bytes[0] === 0xff && bytes[1] === 0xd8 && bytes[2] === 0xff;

/**
 * Throws an Error with a message for the user if a JPEG file, which a browser can decode, has lost data.
 * Files with arithmetic coding and files without Huffman tables (frames of Motion JPEG) are not checked.
 */
export function checkJpeg(bytes) {
  const tables = []; // of DHT, by class and number
  let frame;
  let restartInterval = 0;
  let scans = 0;
  for (let position = 2, stray = 0; ; ) {
    const found = findMarker(bytes, position);
    const { marker } = found;
    stray += found.stray;
    if (scans > 0 && stray > MOST_STRAY_BYTES) {
      damaged(`${stray} extraneous bytes before marker ${hex(marker)}`);
    }
    if (marker === EOI) {
      break;
    }
    const start = found.position + 3;
    position = found.position + 1 + number(bytes, found.position + 1);
    stray = 0;
    const payload = bytes.subarray(start, position);
    if (marker === DHT) {
      readTables(payload, tables);
    } else if (marker === DRI) {
      restartInterval = number(payload, 0);
    } else if (marker >= SOF0 && marker <= SOF15 && !NO_FRAMES.includes(marker)) {
      if (marker > SOF2) {
        return;
      }
      frame = readFrame(payload, marker === SOF2);
    } else if (marker === SOS) {
      const scan = readScan(payload, frame, tables);
      if (!scan) {
        return;
      }
      if (hasZeros(bytes, position, findMarker(bytes, position).position) && !canBeZeros(scan)) {
        damaged("zeros in place of compressed data");
      }
      ({ position, stray } = readCodes(scan, bytes, position, restartInterval));
      scans += 1;
    }
  }
  if (!frame?.components.every(({ lowestBits }) => lowestBits.every((bit) => bit === 0))) {
    damaged("scans are missing at the end");
  }
}

const hex = (byte) => `0x${byte.toString(16).padStart(2, "0")}`;
const number = (bytes, position) => (bytes[position] << 8) | bytes[position + 1];

/** Returns the next marker of a segment or EOI, its position behind 0xFF, and the number of bytes that are skipped. */
function findMarker(bytes, begin) {
  let stray = 0;
  for (let position = begin; position < bytes.length; position++) {
    const byte = bytes[position];
    if (byte !== 0xff) {
      const follows = position > begin && bytes[position - 1] === 0xff;
      if (follows && byte > 1 && (byte < RST0 || byte > RST0 + 7)) {
        return { marker: byte, position, stray };
      }
      stray += 1;
    }
  }
  damaged("premature end of the file");
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
function readFrame(payload, progressive) {
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
  return { progressive, columns, rows, components };
}

/** Returns the parameters of a scan; null if a table of a sequential file is missing, which then is the one of K.3. */
function readScan(payload, frame, tables) {
  const { progressive } = frame ?? damaged("no frame before the scan");
  const [first, last, bits] = progressive ? payload.subarray(-3) : [0, LAST, 0];
  const [high, low] = [bits >> 4, bits & 15];
  const parts = Array.from({ length: payload[0] }, (_, index) => {
    const [id, numbers] = payload.subarray(1 + 2 * index);
    const component = frame.components.find((each) => each.id === id) ?? damaged(`no component ${id}`);
    return { ...component, dc: tables[numbers >> 4], ac: tables[0x10 | (numbers & 15)] };
  });
  const needsDc = first === 0 && high === 0;
  const needsAc = last > 0;
  if (parts.some(({ dc, ac }) => (needsDc && !dc) || (needsAc && !ac))) {
    return progressive ? damaged("a Huffman table is missing") : null;
  }
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
  return { progressive, first, last, high, units, columns, count: columns * rows, needsDc, needsAc };
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
  const isZero = (table, mask) => (table[0] & mask) === 0; // the symbol of the code of zeros
  return units.every(({ dc, ac }) => (!needsDc || isZero(dc, 0xff)) && (!needsAc || isZero(ac, 0x0f)));
}
