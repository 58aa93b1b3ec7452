// The web worker, which decodes and classifies files, so that the page always responds.
//
// A request is { model, files }; the answer is { metadata, size, results, modelSeconds } or { error }.

import * as ort from "onnxruntime-web/wasm";
import { decode } from "./decode.js";
import { metadataOf } from "./metadata.js";

const BEST = 3; // labels per image in a ranking

let opened = {};

self.onmessage = async ({ data: { model, files } }) => {
  try {
    if (opened.model !== model) {
      opened = await open(model);
    }
    self.postMessage(await classify(opened, files));
  } catch (error) {
    self.postMessage({ error: error.message });
  }
};

/** Loads the model at a URL, with ONNX Runtime from the same folder. */
async function open(model) {
  ort.env.wasm.numThreads = 1; // more threads need HTTP headers that many static hosts do not send
  ort.env.wasm.wasmPaths = { wasm: new URL("onnxruntime.wasm", model).href };
  const response = await fetch(model);
  if (!response.ok) {
    throw new Error(`${model}: ${response.status} ${response.statusText}`);
  }
  const bytes = new Uint8Array(await response.arrayBuffer());
  const session = await ort.InferenceSession.create(bytes);
  return { model, session, metadata: metadataOf(bytes), size: session.inputMetadata[0].shape[1] };
}

/** Returns one result per file: { ranking } with [label, probability] of the best labels, best first, or { error }. */
async function classify({ session, metadata, size }, files) {
  const images = [];
  const results = [];
  const contents = await Promise.allSettled(files.map(bytesOf)); // at once, because each waits for the browser
  for (const { value: bytes } of contents) {
    try {
      images.push(await decode(bytes ?? [], size)); // a file that cannot be read has no bytes, which is an error here
      results.push({});
    } catch (error) {
      results.push({ error: error.message });
    }
  }
  const start = performance.now();
  const rankings = await rank(session, images, size, JSON.parse(metadata.labels));
  const modelSeconds = (performance.now() - start) / 1000;
  results.filter(({ error }) => !error).forEach((result, index) => (result.ranking = rankings[index]));
  return { metadata, size, results, modelSeconds };
}

const bytesOf = async (file) => new Uint8Array(await file.arrayBuffer());

async function rank(session, images, size, labels) {
  if (images.length === 0) {
    return [];
  }
  const pixels = new Uint8Array(images.length * images[0].length);
  images.forEach((image, index) => pixels.set(image, index * image.length));
  const batch = new ort.Tensor("uint8", pixels, [images.length, size, size, 3]);
  const { probabilities } = await session.run({ images: batch }, ["probabilities"]);
  return images.map((_, index) => {
    const row = probabilities.data.subarray(index * labels.length, (index + 1) * labels.length);
    const ranking = labels.map((label, column) => [label, row[column]]).sort((a, b) => b[1] - a[1]);
    return ranking.slice(0, BEST);
  });
}
