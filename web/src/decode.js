// Image files: the browser decodes them, and the pixels become those of cifar10-infer.

import { middleSquare, resize } from "./pixels.js";

const AS_STORED = { colorSpaceConversion: "none", premultiplyAlpha: "none" };

const canvas = new OffscreenCanvas(1, 1); // one for all, since those of large photos would wait to be collected
const context = canvas.getContext("2d", { willReadFrequently: true }); // in memory, not on a GPU that rounds in its own way

/** RGB [size, size, 3] of an image file: the first frame, turned upright, laid on white, its middle square. */
export async function decode(file, size) {
  const bitmap = await createImageBitmap(file, AS_STORED).catch(() => {
    throw new Error("this browser cannot decode it");
  });
  const { left, top, side } = middleSquare(bitmap.width, bitmap.height);
  if (canvas.width !== side) {
    canvas.width = side;
    canvas.height = side;
  }
  context.fillStyle = "white";
  context.fillRect(0, 0, side, side);
  context.drawImage(bitmap, left, top, side, side, 0, 0, side, side);
  bitmap.close();
  return resize(context.getImageData(0, 0, side, side).data, side, size);
}
