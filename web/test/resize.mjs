// Resizes raw RGBA squares for tests: node resize.mjs SIZE
//
// Each line on stdin is {"side": ..., "rgba": base64}; each line on stdout is RGB in base64.

import { createInterface } from "node:readline";
import { resize } from "../src/pixels.js";

const size = Number(process.argv[2]);
for await (const line of createInterface({ input: process.stdin })) {
  const { side, rgba } = JSON.parse(line);
  const pixels = resize(new Uint8ClampedArray(Buffer.from(rgba, "base64")), side, size);
  console.log(Buffer.from(pixels).toString("base64"));
}
