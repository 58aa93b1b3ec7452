// Decodes image files with the browser, and crops and resizes them as cifar10-infer does.

import { middleSquare, resize } from "./pixels.js";

// "default" converts colors to sRGB as the color profile in the file says.
const OPTIONS = { colorSpaceConversion: "default", premultiplyAlpha: "none" };

// One canvas for all images, because a canvas per photo would keep its memory until garbage collection.
const canvas = new OffscreenCanvas(1, 1);
// willReadFrequently keeps the pixels in main memory, because GPUs round differently.
const context = canvas.getContext("2d", { willReadFrequently: true });

/**
 * Returns RGB [size, size, 3] of an image file: the middle square of the first frame, turned upright, on white.
 * Throws an Error with a message for the user if the browser cannot decode the file.
 */
export async function decode(file, size) {
  const bitmap = await createImageBitmap(file, OPTIONS).catch(() => {
    throw new Error("this browser cannot decode the file");
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
