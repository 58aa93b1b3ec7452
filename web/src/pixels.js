// Crops and resizes as cifar10-infer does: the middle square, then Pillow's antialiased bicubic filter, bit for bit.

const SHARPNESS = -0.5; // the parameter a of the bicubic filter, as in Pillow
const REACH = 2; // source pixels on each side of a result pixel
const ONE = 1 << 22; // a weight of 1 in fixed point: of 32 bits, 8 hold the pixel and 2 hold sums beyond white

/** Returns left, top and side of the middle square; an odd margin is wider at the right or bottom. */
export function middleSquare(width, height) {
  const side = Math.min(width, height);
  return { left: (width - side) >> 1, top: (height - side) >> 1, side };
}

/** Resizes opaque RGBA [side, side, 4] to RGB [size, size, 3]. */
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

/**
 * Resizes each line of an image; lines are rows or columns.
 * from and to hold the distances in the arrays from line to line and from pixel to pixel.
 */
function resample(source, from, target, to, lines, filters) {
  for (let line = 0; line < lines; line++) {
    filters.forEach(({ first, weights }, index) => {
      const start = line * from.line + first * from.pixel;
      let red = ONE / 2; // the shift below then rounds to nearest
      let green = red;
      let blue = red;
      for (let tap = 0, position = start; tap < weights.length; tap++, position += from.pixel) {
        red += source[position] * weights[tap];
        green += source[position + 1] * weights[tap];
        blue += source[position + 2] * weights[tap];
      }
      const position = line * to.line + index * to.pixel;
      target[position] = red >> 22; // a Uint8ClampedArray clips to 0..255
      target[position + 1] = green >> 22;
      target[position + 2] = blue >> 22;
    });
  }
}

/** Returns, for each result pixel, the first source pixel of the filter and the weights from there. */
function filtersOf(side, size) {
  const scale = side / size;
  const widening = Math.max(scale, 1); // a reducing filter is wider, so that it covers every source pixel
  const reach = REACH * widening;
  return Array.from({ length: size }, (_, index) => {
    const center = (index + 0.5) * scale;
    const first = Math.max(Math.trunc(center - reach + 0.5), 0);
    const end = Math.min(Math.trunc(center + reach + 0.5), side);
    const shares = Array.from({ length: end - first }, (_, tap) => bicubic((tap + first - center + 0.5) * (1 / widening)));
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
