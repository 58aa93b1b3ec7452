// Uses the page as a person does, in one browser. Reads the steps as JSON from stdin, writes the results as JSON to stdout.
//
// In: { chromium, profile, url, steps: [{ url, model, drop: [path, ...] or choose: [path, ...] }, ...] }.
// A step without url stays on the page.
// Out: { steps: [[{ path, ranking: [[label, probability], ...], error }, ...], ...], requests, complaints, reached }.
// reached holds, for the page and the worker, whether they can fetch from another origin.

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
  const soFar = [...complaints]; // without the requests that the browser refuses in reach()
  const reached = await reach(url.replace("127.0.0.1", "localhost"));
  console.log(JSON.stringify({ steps: results, requests, complaints: soFar, reached }));
} finally {
  await browser.close();
}

/** Drops or chooses files; returns the cards. */
async function classify({ url, model, drop, choose }) {
  if (url) {
    await page.goto(url);
  }
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

/** Drops files and folders from outside the browser. */
async function dropFiles(files) {
  const session = await page.createCDPSession();
  const data = { items: [], files, dragOperationsMask: 1 };
  const { x, y } = await (await page.$("#choose")).clickablePoint();
  for (const type of ["dragEnter", "dragOver", "drop"]) {
    await session.send("Input.dispatchDragEvent", { type, x, y, data });
  }
}

/** Returns, by the URLs of page and worker, whether each can fetch from another origin. */
async function reach(elsewhere) {
  const get = (address) => fetch(address, { mode: "no-cors" }).then(() => true, () => false);
  const places = [page, ...page.workers()];
  const answers = places.map(async (place) => [place.url(), await place.evaluate(get, elsewhere)]);
  return Object.fromEntries(await Promise.all(answers));
}
