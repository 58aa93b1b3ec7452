// Checks JPEG files for tests. Each line on stdin is a file in base64; each line on stdout is the error or empty.

import { createInterface } from "node:readline";
import { checkJpeg } from "../src/jpeg.js";

for await (const line of createInterface({ input: process.stdin })) {
  try {
    checkJpeg(new Uint8Array(Buffer.from(line, "base64")));
    console.log("");
  } catch (error) {
    console.log(error.message);
  }
}
