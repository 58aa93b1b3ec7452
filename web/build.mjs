// Builds a static page: scripts, style, ONNX Runtime and two models.
//
// npm run build                                            the models of cifar10-infer, in dist/page/
// npm run build -- --output DIR FP32.onnx INT8.onnx        other models; paths are relative to where npm was called

import { existsSync } from "node:fs";
import { cp, rm } from "node:fs/promises";
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { build } from "esbuild";

const path = (name) => fileURLToPath(new URL(name, import.meta.url));
const given = (name) => resolve(process.env.INIT_CWD ?? ".", name);
const { values, positionals } = parseArgs({ options: { output: { type: "string" } }, allowPositionals: true });
const TARGET = values.output ? given(values.output) : path("../dist/page");
const NAMES = ["fp32.onnx", "int8.onnx"];
const MODELS = positionals.length
  ? positionals.map(given)
  : NAMES.map((name) => path(`../runtime/cifar10_runtime/models/${name}`));
const RUNTIME = fileURLToPath(new URL("ort-wasm-simd-threaded.wasm", import.meta.resolve("onnxruntime-web/wasm")));

if (MODELS.length !== NAMES.length) {
  throw new Error("usage: npm run build -- --output DIR FP32.onnx INT8.onnx");
}
if (values.output && existsSync(TARGET)) {
  throw new Error(`--output ${TARGET} exists already: name a new folder`);
}
await rm(TARGET, { recursive: true, force: true });
await build({
  entryPoints: ["page.js", "worker.js", "style.css"].map((name) => path(`src/${name}`)),
  outdir: TARGET,
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
});
await cp(path("src/index.html"), `${TARGET}/index.html`);
await cp(RUNTIME, `${TARGET}/onnxruntime.wasm`);
for (const [index, name] of NAMES.entries()) {
  await cp(MODELS[index], `${TARGET}/${name}`);
}
