// Removes the parts of PNG files that browsers apply and cifar10-infer ignores.

const SIGNATURE = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a];
const IGNORED = ["gAMA", "cHRM", "cICP"]; // gamma, primaries and code points; color profiles stay

/** Returns parts of a Blob with the content of an image file; if it is a PNG file, without the chunks in IGNORED. */
export function partsOf(bytes) {
  if (!SIGNATURE.every((byte, index) => bytes[index] === byte)) {
    return [bytes];
  }
  const view = new DataView(bytes.buffer);
  const kept = [bytes.subarray(0, 8)];
  let start = 8;
  while (start + 8 <= bytes.length) {
    const end = start + 12 + view.getUint32(start); // length, type, data and checksum
    if (!IGNORED.includes(String.fromCharCode(...bytes.subarray(start + 4, start + 8)))) {
      kept.push(bytes.subarray(start, end));
    }
    start = end;
  }
  return [...kept, bytes.subarray(start)];
}
