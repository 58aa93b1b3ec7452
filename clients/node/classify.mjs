// Classifies images with an exported model: node classify.mjs MODEL.onnx IMAGE.ppm...
//
// The images are binary PPM files (P6) of the size that the model takes: 32x32 pixels for the models of cifar10-infer.
// Prints one line of CSV per image: path,label,probability

import { readFileSync } from "node:fs";
import ort from "onnxruntime-node";
import { metadataOf } from "../../web/src/metadata.js";

/** Returns RGB [size, size, 3] of a PPM file. */
function readPixels(path, size) {
  const content = readFileSync(path);
  const header = /^P6(?:\s+|#.*\n)+(\d+)\s+(\d+)\s+(\d+)\s/.exec(content.toString("latin1"));
  if (header?.slice(1).join() !== `${size},${size},255`) {
    throw new Error(`${path}: not a binary PPM (P6) of ${size}x${size} pixels: convert the image`);
  }
  const pixels = content.subarray(header[0].length);
  if (pixels.length !== size * size * 3) {
    throw new Error(`${path}: ${pixels.length} bytes of pixels instead of ${size * size * 3}: the file is damaged`);
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

/** Returns a field of CSV, in quotes if it needs them: the name of a class may have a comma. */
const field = (text) => (/[",]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

async function main(model, ...paths) {
  if (!paths.length) {
    throw new Error("usage: node classify.mjs MODEL.onnx IMAGE.ppm...");
  }
  const labels = readLabels(model);
  const session = await ort.InferenceSession.create(model);
  const size = session.inputMetadata[0].shape[1];
  for (const path of paths) {
    const images = new ort.Tensor("uint8", readPixels(path, size), [1, size, size, 3]);
    const { probabilities } = await session.run({ images });
    const best = probabilities.data.indexOf(Math.max(...probabilities.data));
    console.log(`${field(path)},${field(labels[best])},${probabilities.data[best].toFixed(6)}`);
  }
}

main(...process.argv.slice(2)).catch(({ message }) => {
  console.error(`error: ${message}`);
  process.exitCode = 1;
});
