// The page: sends batches of files to the worker, and shows its answers as cards and counts.

import { chosenFiles, droppedFiles } from "./files.js";

const BATCH = 32; // files per batch at most; the model is fastest with this size
const PATIENCE = 0.5; // seconds; after a slower batch, for example of photos, the next one is smaller
const CARDS = 200; // images that are shown, and as many errors
const CHOICES = 3; // classes per card
const SMALL = 64; // pixels per side; smaller images are enlarged without smoothing

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
let newest = 0; // number of the current run; an older run ends after its batch
let running = Promise.resolve();
let worker;

/** Classifies the chosen files, from the first one. */
function start() {
  const run = ++newest;
  running = running.then(() => run === newest && classify(run)).catch(report);
}

async function classify(run) {
  clear();
  const sums = { classified: 0, failed: 0, modelSeconds: 0, classes: describe((await ask([])).metadata) };
  const begin = performance.now();
  const seconds = () => (performance.now() - begin) / 1000;
  for (let at = 0, size = 1; at < sources.length && run === newest; ) {
    const before = seconds();
    const batch = sources.slice(at, at + size);
    const files = await Promise.all(batch.map(({ open }) => open().catch(() => null)));
    const { results, modelSeconds } = await ask(files);
    sums.modelSeconds += modelSeconds;
    results.forEach((result, index) => add(sums, result, batch[index].path, files[index]));
    show(sums, seconds());
    at += batch.length;
    size = seconds() - before > PATIENCE ? Math.ceil(size / 2) : Math.min(2 * size, BATCH);
  }
  if (run === newest && sources.length) {
    say(`${counted(sources.length)} in ${round.format(seconds())} s`);
  }
  main.ariaBusy = "false";
}

/** Asks the worker to classify files with the chosen model. */
async function ask(files) {
  worker ??= await makeWorker();
  const model = document.querySelector("[name=model]:checked").value;
  return new Promise((done, failed) => {
    worker.onmessage = ({ data }) => (data.error ? failed(new Error(data.error)) : done(data));
    worker.onerror = ({ message }) => failed(new Error(message));
    worker.postMessage({ model: new URL(`${model}.onnx`, location.href).href, files });
  });
}

/** Starts the worker from a blob, because the page's Content Security Policy binds such a worker only. */
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

/** Shows a model's metadata, and a count of 0 for each class. */
function describe(metadata) {
  const labels = JSON.parse(metadata.labels);
  const accuracy = percent.format(metadata.test_accuracy);
  element("model").textContent = `knows ${list.format(labels)}; right for ${accuracy} of ${metadata.dataset}'s test images`;
  return new Map(labels.map((label) => [label, 0]));
}

function add(sums, { ranking, error }, path, file) {
  if (error) {
    sums.failed += 1;
  } else {
    const [label] = ranking[0];
    sums.classified += 1;
    sums.classes.set(label, sums.classes.get(label) + 1);
  }
  if ((error ? sums.failed : sums.classified) <= CARDS) {
    gallery.append(error ? failureCard(path, error) : pictureCard(path, file, ranking));
  }
}

function pictureCard(path, file, ranking) {
  const card = named(copy("picture"), path);
  const image = card.querySelector("img");
  image.onload = () => image.classList.toggle("small", image.naturalWidth <= SMALL);
  image.src = URL.createObjectURL(file);
  const choices = ranking.slice(0, CHOICES).map(([label, share]) => bar(label, share, percent.format(share), share));
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

/** Returns a row with a class, a value, and a bar that is filled to `share`. */
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
    ...Array.from(classes, ([label, count]) => bar(label, count, whole.format(count), count / most)),
  );
  element("limit").hidden = Math.max(classified, failed) <= CARDS;
  element("limit").textContent = `The first ${CARDS} are shown, and the first ${CARDS} that could not be read.`;
  progress.value = classified + failed;
}

function say(text) {
  element("status").textContent = text;
}

function report({ message }) {
  main.ariaBusy = "false";
  element("progress").hidden = false;
  say(`The model does not work in this browser: ${message}`);
}

/** Makes `found` the chosen files, unless the list is empty. */
function take(found) {
  if (found.length) {
    sources = found;
    start();
  }
}

for (const id of ["files", "folder"]) {
  element(id).addEventListener("change", ({ target }) => {
    take(chosenFiles(target.files));
    target.value = ""; // so that choosing the same file again fires a change event
  });
}
document.querySelectorAll("[name=model]").forEach((choice) => choice.addEventListener("change", start));
document.addEventListener("dragover", (event) => {
  event.preventDefault(); // otherwise the browser opens the files
  document.body.classList.add("dragging");
});
document.addEventListener("dragleave", ({ relatedTarget }) => {
  document.body.classList.toggle("dragging", relatedTarget !== null);
});
document.addEventListener("drop", async (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  take(await droppedFiles(event.dataTransfer.items));
});
start();
