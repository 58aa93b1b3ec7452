// Decodes image files with the browser, and crops and resizes them as cifar10-infer does.

import { middleSquare, resize } from "./pixels.js";

const AS_STORED = { colorSpaceConversion: "none", premultiplyAlpha: "none" };

const canvas = new OffscreenCanvas(1, 1); // one for all files, because canvases of large photos would wait for garbage collection
const context = canvas.getContext("2d", { willReadFrequently: true }); // in memory, because a GPU rounds differently

/** Returns RGB [size, size, 3] of an image file: the center square of the first frame, rotated upright, on white. */
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
