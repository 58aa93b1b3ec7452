// Builds dist/page/, a static page: scripts, style, ONNX Runtime and the models of cifar10-infer.

import { cp, rm } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const path = (name) => fileURLToPath(new URL(name, import.meta.url));
const TARGET = path("../dist/page/");
const MODELS = path("../runtime/cifar10_runtime/models/");
const RUNTIME = fileURLToPath(new URL("ort-wasm-simd-threaded.wasm", import.meta.resolve("onnxruntime-web/wasm")));

await rm(TARGET, { recursive: true, force: true });
await build({
  entryPoints: ["page.js", "worker.js", "style.css"].map((name) => path(`src/${name}`)),
  outdir: TARGET,
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
});
await cp(path("src/index.html"), `${TARGET}index.html`);
await cp(RUNTIME, `${TARGET}onnxruntime.wasm`);
for (const name of ["fp32.onnx", "int8.onnx"]) {
  await cp(MODELS + name, TARGET + name);
}
