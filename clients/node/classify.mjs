// Classifies images with an exported model: node classify.mjs MODEL.onnx IMAGE.ppm...
//
// The images are binary PPM files (P6) of 32x32 pixels. Prints one line per image: path,label,probability

import { readFileSync } from "node:fs";
import ort from "onnxruntime-node";
import { metadataOf } from "../../web/src/metadata.js";

const SIZE = 32;

/** Returns RGB [SIZE, SIZE, 3] of a PPM file. */
function readPixels(path) {
  const content = readFileSync(path);
  const header = /^P6(?:\s+|#.*\n)+(\d+)\s+(\d+)\s+(\d+)\s/.exec(content.toString("latin1"));
  if (header?.slice(1).join() !== `${SIZE},${SIZE},255`) {
    throw new Error(`${path}: not a binary PPM (P6) of ${SIZE}x${SIZE} pixels: convert the image`);
  }
  const pixels = content.subarray(header[0].length);
  if (pixels.length !== SIZE * SIZE * 3) {
    throw new Error(`${path}: ${pixels.length} bytes of pixels instead of ${SIZE * SIZE * 3}: the file is damaged`);
  }
  return pixels;
}

/** Returns the labels of a model, in the order of its probabilities. */
function readLabels(model) {
  const content = readFileSync(model);
  try {
    return JSON.parse(metadataOf(content).labels);
  } catch {
    throw new Error(`${model}: not a model with labels in its metadata: export it with python -m cifar10_export`);
  }
}

async function main(model, ...paths) {
  if (!paths.length) {
    throw new Error("usage: node classify.mjs MODEL.onnx IMAGE.ppm...");
  }
  const labels = readLabels(model);
  const session = await ort.InferenceSession.create(model);
  for (const path of paths) {
    const images = new ort.Tensor("uint8", readPixels(path), [1, SIZE, SIZE, 3]);
    const { probabilities } = await session.run({ images });
    const best = probabilities.data.indexOf(Math.max(...probabilities.data));
    console.log(`${path},${labels[best]},${probabilities.data[best].toFixed(6)}`);
  }
}

main(...process.argv.slice(2)).catch(({ message }) => {
  console.error(`error: ${message}`);
  process.exitCode = 1;
});
