// Pixels as cifar10-infer makes them: the middle square, resized by Pillow's antialiased bicubic filter, bit for bit.

const SHARPNESS = -0.5; // Pillow's choice among bicubic filters
const REACH = 2; // pixels on each side of the result's that count
const ONE = 1 << 22; // a weight of 1 in fixed point: of 32 bits, 8 are the pixel's and 2 are for sums beyond white

/** Where the middle square of an image lies; of an odd rest more is cut off right and bottom. */
export function middleSquare(width, height) {
  const side = Math.min(width, height);
  return { left: (width - side) >> 1, top: (height - side) >> 1, side };
}

/** RGB [size, size, 3] of opaque RGBA [side, side, 4]. */
export function resize(rgba, side, size) {
  if (side === size) {
    return rgba.filter((_, index) => index % 4 !== 3);
  }
  const filters = filtersOf(side, size);
  const narrow = new Uint8ClampedArray(3 * size * side);
  resample(rgba, { line: 4 * side, pixel: 4 }, narrow, { line: 3 * size, pixel: 3 }, side, filters);
  const small = new Uint8ClampedArray(3 * size * size);
  resample(narrow, { line: 3, pixel: 3 * size }, small, { line: 3, pixel: 3 * size }, size, filters);
  return small;
}

/** Resize each of so many lines, rows or columns, as the steps from line to line and from pixel to pixel say. */
function resample(source, from, target, to, lines, filters) {
  for (let line = 0; line < lines; line++) {
    filters.forEach(({ first, weights }, index) => {
      const start = line * from.line + first * from.pixel;
      let red = ONE / 2; // so that the shift rounds
      let green = red;
      let blue = red;
      for (let tap = 0, at = start; tap < weights.length; tap++, at += from.pixel) {
        red += source[at] * weights[tap];
        green += source[at + 1] * weights[tap];
        blue += source[at + 2] * weights[tap];
      }
      const at = line * to.line + index * to.pixel;
      target[at] = red >> 22; // the array clips to 0 to 255
      target[at + 1] = green >> 22;
      target[at + 2] = blue >> 22;
    });
  }
}

/** For each pixel of the result, the first pixel that counts and the weights from there on. */
function filtersOf(side, size) {
  const scale = side / size;
  const widening = Math.max(scale, 1); // a filter that reduces looks at all pixels
  const reach = REACH * widening;
  return Array.from({ length: size }, (_, index) => {
    const centre = (index + 0.5) * scale;
    const first = Math.max(Math.trunc(centre - reach + 0.5), 0);
    const end = Math.min(Math.trunc(centre + reach + 0.5), side);
    const shares = Array.from({ length: end - first }, (_, tap) => bicubic((tap + first - centre + 0.5) * (1 / widening)));
    const sum = shares.reduce((total, share) => total + share, 0);
    return { first, weights: Int32Array.from(shares, (share) => Math.trunc((share / sum) * ONE + Math.sign(share) / 2)) };
  });
}

function bicubic(distance) {
  const x = Math.abs(distance);
  if (x < 1) {
    return ((SHARPNESS + 2) * x - (SHARPNESS + 3)) * x * x + 1;
  }
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * SHARPNESS : 0;
}
