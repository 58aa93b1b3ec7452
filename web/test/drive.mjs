// Uses the page as a person does. Reads steps as JSON from stdin, writes the outcome as JSON to stdout.
//
// In: { chromium, profile, url, steps: [{ model, drop: [path, ...] or choose: [path, ...] }, ...] }.
// Out: { steps: [[{ path, ranking: [[label, probability], ...], error }, ...], ...], requests, complaints, reached }, where
// reached says whether the page and the worker could reach another origin.

import { text } from "node:stream/consumers";
import puppeteer from "puppeteer-core";

const QUIET = ["background-networking", "component-update", "sync"].map((name) => `--disable-${name}`);
const FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", ...QUIET];

const { chromium, profile, url, steps } = JSON.parse(await text(process.stdin));
const browser = await puppeteer.launch({ executablePath: chromium, userDataDir: profile, args: FLAGS });
const page = await browser.newPage();
const requests = [];
const complaints = [];
page.on("request", (request) => requests.push(request.url()));
page.on("requestfailed", (request) => complaints.push(`${request.url()} failed`));
page.on("console", (message) => complaints.push(message.text()));
page.on("pageerror", (error) => complaints.push(error.message));
try {
  await page.goto(url);
  const results = [];
  for (const step of steps) {
    results.push(await classify(step));
  }
  const soFar = [...complaints]; // because the refusal below adds one more
  const reached = await reach(url.replace("127.0.0.1", "localhost"));
  console.log(JSON.stringify({ steps: results, requests, complaints: soFar, reached }));
} finally {
  await browser.close();
}

/** Returns the cards after files were dropped or chosen. */
async function classify({ model, drop, choose }) {
  await page.click(`[value=${model}]`);
  await idle();
  await page.$eval("#status", (status) => (status.textContent = ""));
  if (drop) {
    await dropFiles(drop);
  } else {
    await (await page.$("#files")).uploadFile(...choose);
  }
  await page.waitForFunction(() => / in /.test(document.querySelector("#status").textContent));
  await idle();
  return page.$$eval(".card", (cards) =>
    cards.map((card) => ({
      path: card.title,
      error: card.querySelector(".error")?.textContent ?? "",
      ranking: [...card.querySelectorAll(".choices li")].map((choice) => [
        choice.querySelector("span").textContent,
        Number(choice.querySelector("data").value),
      ]),
    })),
  );
}

async function idle() {
  await page.waitForSelector("main[aria-busy=false]");
}

/** Drops files and folders on the page, from outside the browser. */
async function dropFiles(files) {
  const session = await page.createCDPSession();
  const data = { items: [], files, dragOperationsMask: 1 };
  const { x, y } = await (await page.$("#choose")).clickablePoint();
  for (const type of ["dragEnter", "dragOver", "drop"]) {
    await session.send("Input.dispatchDragEvent", { type, x, y, data });
  }
}

/** Returns whether the page and the worker get an answer from another origin, by URL. */
async function reach(elsewhere) {
  const get = (address) => fetch(address, { mode: "no-cors" }).then(() => true, () => false);
  const places = [page, ...page.workers()];
  const answers = places.map(async (place) => [place.url(), await place.evaluate(get, elsewhere)]);
  return Object.fromEntries(await Promise.all(answers));
}
