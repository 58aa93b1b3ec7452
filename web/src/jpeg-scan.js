// Reads all codes in the compressed data of a JPEG scan, without computing pixels (ITU-T T.81, annexes F and G).

const RST0 = 0xd0;
const PADDING = 512; // more bytes than one block can need beyond the end of the data
const SIZE = 15; // mask of the size in a code
const LAST = 63; // the last coefficient of a block

export function damaged(reason) {
  throw new Error(`damaged JPEG: ${reason}`);
}

/**
 * Reads as many blocks as the image has; returns where the data end, and how many bytes are left over.
 * Throws an Error if the data have too few codes or impossible ones, or if a restart marker is not in its place.
 */
export function readCodes(scan, bytes, start, restartInterval) {
  const { units, columns, count } = scan;
  const data = new Uint8Array(bytes.length - start + PADDING); // room for the data between two markers
  const blocks = blockReader(scan, data);
  let position = start;
  let stray = 0;
  for (let mcu = 0, interval = 0; mcu < count; interval++) {
    if (interval > 0) {
      position = skipRestart(bytes, position, RST0 + ((interval - 1) & 7), stray);
    }
    const { length, end } = copyData(bytes, position, data);
    const until = restartInterval ? Math.min(mcu + restartInterval, count) : count;
    let bit = 0; // the position in data
    for (blocks.restart(); mcu < until && bit <= 8 * length; mcu++) {
      const row = Math.floor(mcu / columns);
      const column = mcu % columns;
      for (const unit of units) {
        for (let y = 0; y < unit.v; y++) {
          const block = (row * unit.v + y) * unit.stride + column * unit.h;
          for (let x = 0; x < unit.h; x++) {
            bit = blocks.read(bit, unit, block + x);
          }
        }
      }
    }
    if (bit > 8 * length) {
      damaged("premature end of data segment");
    }
    stray = length - Math.ceil(bit / 8);
    position = end;
  }
  return { position, stray };
}

/** Returns the position behind a restart marker. */
function skipRestart(bytes, position, expected, stray) {
  let behind = position;
  while (bytes[behind] === 0xff) {
    behind += 1;
  }
  if (bytes[behind] !== expected || stray > 0) {
    damaged(`no restart marker RST${expected - RST0} in its place`);
  }
  return behind + 1;
}

/** Copies compressed data up to the next marker, without the zeros behind 0xFF; zeros follow the copy. */
function copyData(bytes, start, data) {
  let length = 0;
  for (let position = start; position < bytes.length; position++) {
    const byte = bytes[position];
    if (byte === 0xff) {
      const begin = position;
      while (bytes[position] === 0xff) {
        position += 1; // fill bytes
      }
      if (position < bytes.length && bytes[position] !== 0) {
        data.fill(0, length, length + PADDING);
        return { length, end: begin };
      }
    }
    data[length++] = byte;
  }
  damaged("Premature end of JPEG file");
}

/** Returns { restart, read }; read(bit, unit, block) returns the position of the first bit behind the block. */
function blockReader({ progressive, first, last, high }, data) {
  let run = 0; // how many of the next blocks have no codes of their own (EOBRUN)

  /** Returns the next 16 bits. */
  const peek = (bit) => {
    const at = bit >> 3;
    return (((data[at] << 16) | (data[at + 1] << 8) | data[at + 2]) >> (8 - (bit & 7))) & 0xffff;
  };

  /** Returns length << 8 | zeros << 4 | size of the next code: zero coefficients, then one with so many bits. */
  const codeAt = (table, bit) => {
    const code = table[peek(bit)];
    if (code === 0) {
      damaged("bad Huffman code");
    }
    return code;
  };

  // The following functions read a block: codes of DC (F.1.2.1), of AC (F.1.2.2), and in scans of progressive files the
  // first bits (G.1.2.2) and one bit more (G.1.2.3) of coefficients.

  const difference = (bit, { dc }) => {
    const code = codeAt(dc, bit);
    return bit + (code >> 8) + (code & 0xff);
  };

  const bitOfDc = (bit) => bit + 1;

  const sequential = (begin, unit) => {
    let bit = difference(begin, unit);
    for (let k = 1; k <= last; k++) {
      const code = codeAt(unit.ac, bit);
      bit += (code >> 8) + (code & SIZE);
      if (isEnd(code)) {
        break;
      }
      k += zerosOf(code);
    }
    return bit;
  };

  /** Starts a run of blocks, of which the current one is the first; returns the first bit behind its length. */
  const startRun = (bit, code) => {
    const size = zerosOf(code);
    run = (1 << size) + (peek(bit) >> (16 - size));
    return bit + size;
  };

  const firstBits = (begin, { ac, nonzero }, block) => {
    let bit = begin;
    for (let k = first; run === 0 && k <= last; k++) {
      const code = codeAt(ac, bit);
      bit += (code >> 8) + (code & SIZE);
      if (isEnd(code)) {
        bit = startRun(bit, code);
      } else {
        k += zerosOf(code);
        if (code & SIZE) {
          setNonzero(nonzero, block, k);
        }
      }
    }
    if (run > 0) {
      run -= 1;
    }
    return bit;
  };

  const nextBits = (begin, { ac, nonzero }, block) => {
    let bit = begin;
    let k = first;
    for (; run === 0 && k <= last; k++) {
      const code = codeAt(ac, bit);
      bit += (code >> 8) + (code & SIZE);
      if (isEnd(code)) {
        bit = startRun(bit, code);
        break;
      }
      for (let zeros = zerosOf(code); k <= last; k++) {
        if (isNonzero(nonzero, block, k)) {
          bit += 1; // nonzero coefficients have a bit each
        } else if (zeros-- === 0) {
          break;
        }
      }
      if ((code & SIZE) > 1) {
        damaged("bad Huffman code");
      }
      if (code & SIZE) {
        setNonzero(nonzero, block, k);
      }
    }
    if (run > 0) {
      run -= 1;
      if (nonzero[2 * block] | nonzero[2 * block + 1]) {
        for (; k <= last; k++) {
          bit += isNonzero(nonzero, block, k);
        }
      }
    }
    return bit;
  };

  const [ofDc, ofAc] = high === 0 ? [difference, firstBits] : [bitOfDc, nextBits];
  const ofScan = first === 0 ? ofDc : ofAc;
  return { restart: () => (run = 0), read: progressive ? ofScan : sequential };
}

const zerosOf = (code) => (code >> 4) & 15;

/** Whether a code is the end of a block, or in progressive scans of a run of blocks: no size, and no 16 zeros. */
const isEnd = (code) => (code & SIZE) === 0 && zerosOf(code) < 15;

function setNonzero(nonzero, block, k) {
  if (k > LAST) {
    damaged("bad Huffman code");
  }
  nonzero[2 * block + (k >> 5)] |= 1 << k; // JavaScript takes k modulo 32 here
}

/** Returns 1 if a coefficient was nonzero in an earlier scan, otherwise 0. */
const isNonzero = (nonzero, block, k) => (nonzero[2 * block + (k >> 5)] >>> k) & 1;
