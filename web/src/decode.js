// Decodes image files with the browser, and crops and resizes them as cifar10-infer does.

import { checkJpeg, isJpeg } from "./jpeg.js";
import { middleSquare, resize } from "./pixels.js";
import { partsOf } from "./png.js";

// "default" converts colors to sRGB as the color profile in the file says.
const OPTIONS = { colorSpaceConversion: "default", premultiplyAlpha: "none" };

// One canvas for all images, because a canvas per photo would keep its memory until garbage collection.
const canvas = new OffscreenCanvas(1, 1);
// willReadFrequently keeps the pixels in main memory, because GPUs round differently.
const context = canvas.getContext("2d", { willReadFrequently: true });

/**
 * Returns RGB [size, size, 3] of an image file: the middle square of the first frame, turned upright, on white.
 * Throws an Error with a message for the user if the browser cannot decode the content, or if a JPEG file lost data.
 */
export async function decode(bytes, size) {
  const decoding = createImageBitmap(new Blob(partsOf(bytes)), OPTIONS);
  const bitmap = await decoding.catch(() => {
    throw new Error("this browser cannot decode the file");
  });
  try {
    if (isJpeg(bytes)) {
      checkJpeg(bytes);
    }
    return resize(...middleOf(bitmap), size);
  } finally {
    bitmap.close();
  }
}

/** Returns the RGBA pixels and the side of the middle square, on white. */
function middleOf(bitmap) {
  const { left, top, side } = middleSquare(bitmap.width, bitmap.height);
  if (canvas.width !== side) {
    canvas.width = side;
    canvas.height = side;
  }
  context.fillStyle = "white";
  context.fillRect(0, 0, side, side);
  context.drawImage(bitmap, left, top, side, side, 0, 0, side, side);
  return [context.getImageData(0, 0, side, side).data, side];
}
