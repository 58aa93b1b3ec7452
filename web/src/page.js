// The page: sends files to the worker in batches, and shows the answers as cards and totals.

import { chosenFiles, droppedFiles } from "./files.js";

const MAX_BATCH = 32; // files: the fastest size for the models
const MAX_BATCH_SECONDS = 0.5; // after a slower batch, the next one has fewer files: photos are slow to decode
const MAX_CARDS = 200; // pictures that are shown; also errors that are shown
const MAX_LABELS = 20; // class names in the description of the model
const MAX_CLASSES = 50; // bars in the summary: the most frequent classes
const MAX_PIXELATED = 64; // pixels: the width of the largest picture whose pixels are shown as sharp squares

const element = (id) => document.getElementById(id);
const copy = (id) => element(id).content.firstElementChild.cloneNode(true);
const main = document.querySelector("main");
const gallery = document.querySelector(".gallery");
const progress = document.querySelector("progress");
const round = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const whole = new Intl.NumberFormat("en");
const percent = new Intl.NumberFormat("en", { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });
const list = new Intl.ListFormat("en");
const counted = (count) => `${whole.format(count)} ${count === 1 ? "file" : "files"}`;

let sources = [];
let newest = 0; // number of the newest run: an older run stops after its current batch
let running = Promise.resolve();
let worker;

/** Starts a new run on all chosen files, after the current batch of the old run. */
function start() {
  const run = ++newest;
  running = running.then(() => run === newest && classify(run)).catch(report);
}

async function classify(run) {
  clear();
  const totals = { classified: 0, failed: 0, modelSeconds: 0, classes: describe(await ask([])) };
  const begin = performance.now();
  const seconds = () => (performance.now() - begin) / 1000;
  for (let first = 0, size = 1; first < sources.length && run === newest; ) {
    const before = seconds();
    const batch = sources.slice(first, first + size);
    const files = await Promise.all(batch.map(({ open }) => open().catch(() => null)));
    const { results, modelSeconds } = await ask(files);
    totals.modelSeconds += modelSeconds;
    results.forEach((result, index) => add(totals, result, batch[index].path, files[index]));
    show(totals, seconds());
    first += batch.length;
    size = seconds() - before > MAX_BATCH_SECONDS ? Math.ceil(size / 2) : Math.min(2 * size, MAX_BATCH);
  }
  if (run === newest && sources.length) {
    say(`${counted(sources.length)} in ${round.format(seconds())} s`);
  }
  main.ariaBusy = "false";
}

/** Asks the worker to classify files with the selected model; returns a promise of the worker's answer. */
async function ask(files) {
  worker ??= await makeWorker();
  const model = document.querySelector("[name=model]:checked").value;
  return new Promise((done, failed) => {
    worker.onmessage = ({ data }) => (data.error ? failed(new Error(data.error)) : done(data));
    worker.onerror = ({ message }) => failed(new Error(message));
    worker.postMessage({ model: new URL(`${model}.onnx`, location.href).href, files });
  });
}

/** Starts the worker from a blob: then the page's content security policy applies to it, which a URL would evade. */
async function makeWorker() {
  const script = await (await fetch("worker.js")).text();
  return new Worker(URL.createObjectURL(new Blob([script], { type: "text/javascript" })), { type: "module" });
}

function clear() {
  gallery.querySelectorAll("img").forEach(({ src }) => URL.revokeObjectURL(src));
  gallery.replaceChildren();
  main.ariaBusy = "true";
  element("progress").hidden = sources.length === 0;
  element("summary").hidden = true;
  element("pictures").hidden = true;
  progress.max = sources.length;
  progress.value = 0;
  say(`Classifying ${counted(sources.length)}`);
}

/** Shows labels, accuracy and image size of the model; returns a count of 0 for each label. */
function describe({ metadata, size }) {
  const labels = JSON.parse(metadata.labels);
  const names = labels.length > MAX_LABELS ? whole.format(labels.length) : list.format(labels);
  const accuracy = percent.format(metadata.test_accuracy);
  const measured = `Top-1 accuracy on the ${metadata.dataset} test images: ${accuracy}.`;
  element("model").textContent = `Classes: ${names}. ${metadata.test_accuracy ? measured : ""}`;
  element("size").textContent = `${size}x${size}`;
  return new Map(labels.map((label) => [label, 0]));
}

function add(totals, { ranking, error }, path, file) {
  if (error) {
    totals.failed += 1;
  } else {
    const [label] = ranking[0];
    totals.classified += 1;
    totals.classes.set(label, totals.classes.get(label) + 1);
  }
  if ((error ? totals.failed : totals.classified) <= MAX_CARDS) {
    gallery.append(error ? failureCard(path, error) : pictureCard(path, file, ranking));
  }
}

function pictureCard(path, file, ranking) {
  const card = named(copy("picture"), path);
  const image = card.querySelector("img");
  image.onload = () => image.classList.toggle("small", image.naturalWidth <= MAX_PIXELATED);
  image.src = URL.createObjectURL(file);
  const choices = ranking.map(([label, share]) => bar(label, share, percent.format(share), share));
  card.querySelector("ul").append(...choices);
  return card;
}

function failureCard(path, error) {
  const card = named(copy("failure"), path);
  card.querySelector(".error").textContent = error;
  return card;
}

function named(card, path) {
  card.title = path;
  card.querySelector("bdi").textContent = path;
  return card;
}

/** Returns a list item with a label, its value and a bar that is filled to `share`, 0 to 1. */
function bar(label, value, text, share) {
  const item = copy("bar");
  item.querySelector("span").textContent = label;
  item.querySelector("data").value = value;
  item.querySelector("data").textContent = text;
  item.querySelector(".bar").style.setProperty("--share", share);
  return item;
}

function show({ classified, failed, modelSeconds, classes }, seconds) {
  const most = Math.max(1, ...classes.values());
  element("summary").hidden = false;
  element("pictures").hidden = false;
  element("classified").textContent = counted(classified);
  element("failed").textContent = counted(failed);
  element("speed").textContent = `${round.format((classified + failed) / seconds)} images/s`;
  element("share").textContent = percent.format(modelSeconds / seconds);
  element("classes").replaceChildren(
    ...mostFrequent(classes).map(([label, count]) => bar(label, count, whole.format(count), count / most)),
  );
  element("limit").hidden = Math.max(classified, failed) <= MAX_CARDS;
  element("limit").textContent = `Only the first ${MAX_CARDS} pictures and the first ${MAX_CARDS} errors are shown.`;
  progress.value = classified + failed;
}

/** Returns the [label, count] pairs of the most frequent classes, in the order of the model. */
function mostFrequent(classes) {
  const counts = Array.from(classes);
  const frequent = [...counts].sort(([, a], [, b]) => b - a).slice(0, MAX_CLASSES);
  return counts.length > MAX_CLASSES ? counts.filter((pair) => frequent.includes(pair)) : counts;
}

function say(text) {
  element("status").textContent = text;
}

function report({ message }) {
  main.ariaBusy = "false";
  element("progress").hidden = false;
  say(`The model does not work in this browser: ${message}`);
}

/** Classifies the files that were found; without any, the current run continues. */
function classifyFound(found) {
  if (found.length) {
    sources = found;
    start();
  }
}

for (const id of ["files", "folder"]) {
  element(id).addEventListener("change", ({ target }) => {
    classifyFound(chosenFiles(target.files));
    target.value = ""; // choosing the same files again is then a change event, too
  });
}
document.querySelectorAll("[name=model]").forEach((choice) => choice.addEventListener("change", start));
document.addEventListener("dragover", (event) => {
  event.preventDefault(); // otherwise the browser opens the dropped files itself
  document.body.classList.add("dragging");
});
document.addEventListener("dragleave", ({ relatedTarget }) => {
  document.body.classList.toggle("dragging", relatedTarget !== null);
});
document.addEventListener("drop", async (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  classifyFound(await droppedFiles(event.dataTransfer.items));
});
start();
