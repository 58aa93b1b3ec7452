// Crops the center square and resizes it with Pillow's antialiased bicubic filter, bit for bit as cifar10-infer does.

const SHARPNESS = -0.5; // Pillow's parameter of the bicubic filter
const REACH = 2; // support of the filter, in pixels of the result on each side
const ONE = 1 << 22; // weight 1.0 in fixed point: of 32 bits, 8 hold the pixel and 2 hold sums beyond white

/** Returns the place of the center square; an odd rest is cut off at the right or bottom. */
export function middleSquare(width, height) {
  const side = Math.min(width, height);
  return { left: (width - side) >> 1, top: (height - side) >> 1, side };
}

/** Returns RGB [size, size, 3] of opaque RGBA [side, side, 4]. */
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

/** Resizes `lines` lines (rows or columns); the steps say how far apart lines and pixels are in memory. */
function resample(source, from, target, to, lines, filters) {
  for (let line = 0; line < lines; line++) {
    filters.forEach(({ first, weights }, index) => {
      const start = line * from.line + first * from.pixel;
      let red = ONE / 2; // because the shift below then rounds
      let green = red;
      let blue = red;
      for (let tap = 0, at = start; tap < weights.length; tap++, at += from.pixel) {
        red += source[at] * weights[tap];
        green += source[at + 1] * weights[tap];
        blue += source[at + 2] * weights[tap];
      }
      const at = line * to.line + index * to.pixel;
      target[at] = red >> 22; // the array clips to 0..255
      target[at + 1] = green >> 22;
      target[at + 2] = blue >> 22;
    });
  }
}

/** Returns, for each pixel of the result, the first source pixel and the weights from there. */
function filtersOf(side, size) {
  const scale = side / size;
  const widening = Math.max(scale, 1); // when reducing, the filter widens so that every pixel counts
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
