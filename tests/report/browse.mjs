// Opens the report pages in headless Chromium and uses them as a reader does, with mouse and keys.
//
//     cargo run --example report_page -- /tmp/pages
//     npm install --prefix tests/report
//     PAGES=/tmp/pages node --test tests/report/browse.mjs
//
// CHROMIUM names another browser than the one in the path; SCREENSHOTS a folder for images of
// every page in light and dark, wide and narrow. Times are printed, never asserted.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { after, before, test } from "node:test";
import { pathToFileURL } from "node:url";

import { chromium } from "playwright-core";

const folder = resolve(process.env.PAGES ?? "pages");
const pages = readdirSync(folder).filter((name) => name.endsWith(".html"));
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

let browser;

before(async () => {
  const find = () => execFileSync("which", ["chromium"], { encoding: "utf8" }).trim();
  const executablePath = process.env.CHROMIUM ?? find();
  browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
});

after(() => browser.close());

/** The page, and everything that it should not have done. */
async function open(name, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  const page = await context.newPage();
  const address = pathToFileURL(join(folder, name)).href;
  page.setDefaultTimeout(8000);
  const faults = [];
  page.on("console", (message) => faults.push(message.text()));
  page.on("pageerror", (error) => faults.push(error.stack));
  page.on("request", (request) => {
    const url = request.url().split("#")[0];
    if (url !== address && !url.startsWith("data:")) faults.push(`asked for ${url}`);
  });
  await page.goto(address);
  return { page, faults, close: () => context.close() };
}

async function names(page) {
  return page.locator("#grid .name").evaluateAll((all) => all.map((one) => one.title));
}

async function shownCount(page) {
  return Number((await page.textContent("#shown")).split(" ")[0].replaceAll(",", ""));
}

const wide = { viewport: { width: 1280, height: 900 } };
const narrow = { viewport: { width: 400, height: 800 } };

for (const name of pages) {
  for (const colorScheme of ["light", "dark"]) {
    for (const size of [wide, narrow]) {
      const { width } = size.viewport;
      test(`${name}, ${colorScheme}, ${width} wide, is quiet, fits and is accessible`, async () => {
        const { page, faults, close } = await open(name, { colorScheme, ...size });
        await page.locator("#images").scrollIntoViewIfNeeded();
        await page.waitForFunction(() => document.querySelector("#grid img")?.naturalWidth > 0);
        assert.ok((await page.evaluate(() => document.documentElement.scrollWidth)) <= width);
        if (process.env.SCREENSHOTS) {
          const path = join(process.env.SCREENSHOTS, `${name}-${colorScheme}-${width}.png`);
          await page.screenshot({ path });
        }
        await page.evaluate(axe);
        // All of the page, with an image open and without.
        for (const isOpen of [false, true]) {
          if (isOpen) await page.locator("#grid button").first().click();
          const { violations } = await page.evaluate(() => window.axe.run());
          const told = violations.map((one) => [one.id, one.nodes[0].html, one.nodes[0].failureSummary]);
          assert.deepEqual(told, []);
        }
        assert.deepEqual(faults, []);
        await close();
      });
    }
  }
}

test("a click on a cell of the matrix shows its images and no others", async () => {
  const { page, faults, close } = await open("evaluation-10.html");
  const cell = page.locator('#matrix td[data-true="4"][data-predicted="5"]');
  const expected = Number(await cell.textContent());
  assert.ok(expected > 3);
  await cell.click();
  assert.equal(await shownCount(page), expected);
  assert.match(await page.textContent("#shown"), /true class stop sign; predicted as brick wall/);
  assert.equal(await page.locator("#grid li").count(), expected);
  for (const card of await page.locator("#grid .card").all()) {
    assert.match(await card.getAttribute("class"), /wrong/);
    assert.equal(await card.locator(".label").first().textContent(), "brick wall");
    assert.match(await card.locator(".name").getAttribute("title"), /stop_sign/);
  }
  assert.ok(await page.locator("#images-title").evaluate((title) => title === document.activeElement));
  assert.ok((await page.locator("#images").boundingBox()).y < 200);
  await page.click("#clear");
  assert.equal(await shownCount(page), 400);
  await page.goBack();
  assert.ok((await cell.boundingBox()).y < 900, "the way back does not lead to the matrix");
  assert.deepEqual(faults, []);
  await close();
});

test("the matrix is walked with the arrows and opened with Enter", async () => {
  const { page, close } = await open("evaluation-10.html");
  await page.locator("#matrix td[tabindex='0']").focus();
  for (const key of ["ArrowDown", "ArrowDown", "ArrowRight", "ArrowRight", "ArrowRight"]) {
    await page.keyboard.press(key);
  }
  assert.match(await page.textContent("#matrix-readout"), /^rocket predicted as sunflower: \d+ of 40/);
  const expected = Number(await page.evaluate(() => document.activeElement.textContent));
  await page.keyboard.press("Enter");
  assert.equal(await shownCount(page), expected);
  await close();
});

test("worst confusions, classes and runs open their images", async () => {
  const ten = await open("evaluation-10.html");
  const worst = ten.page.locator(".worst li").first();
  const count = Number((await worst.locator(".of").textContent()).split(" ")[0]);
  assert.ok((await worst.locator("img").count()) > 2);
  await worst.locator("button").click();
  assert.equal(await shownCount(ten.page), count);
  await ten.page.locator("#classes tbody button").nth(2).click();
  assert.equal(await shownCount(ten.page), 40);
  assert.equal(await ten.page.inputValue("#true"), "2");
  await ten.close();
  const compared = await open("comparison.html");
  const won = compared.page.locator("#comparison button.open").first();
  const expected = Number(await won.textContent());
  await won.click();
  assert.equal(await shownCount(compared.page), expected);
  assert.match(await compared.page.textContent("#shown"), /right with labels.txt with openai7, wrong with labels.txt$/);
  await compared.close();
});

test("images are sorted, both ways", async () => {
  const { page, close } = await open("evaluation-100.html");
  const numbers = () =>
    page.locator("#grid .card:not(.failed)").evaluateAll((all) =>
      all.map((one) => parseFloat(one.querySelector(".number").textContent.replace("✓", ""))),
    );
  await page.selectOption("#sort", "sure");
  const falling = await numbers();
  assert.deepEqual(falling, falling.toSorted((a, b) => b - a));
  await page.click("#direction");
  const rising = await numbers();
  assert.deepEqual(rising, rising.toSorted((a, b) => a - b));
  assert.ok(rising[0] < falling[0]);
  await page.click("#direction");
  await page.selectOption("#sort", "name");
  const sorted = await names(page);
  const collator = new Intl.Collator(undefined, { numeric: true });
  assert.deepEqual(sorted, sorted.toSorted(collator.compare));
  await page.getByRole("button", { name: "Most confident mistakes" }).click();
  const mistakes = await numbers();
  assert.deepEqual(mistakes, mistakes.toSorted((a, b) => b - a));
  assert.equal(await page.locator("#grid .card:not(.wrong)").count(), 0);
  await page.getByRole("button", { name: "Least confident first" }).click();
  const margins = await page.locator("#grid .card").evaluateAll((all) =>
    all.map((card) => {
      const [a, b] = [...card.querySelectorAll(".number")].map((one) => parseFloat(one.textContent.replace("✓", "")));
      return a - b;
    }),
  );
  // Shown with one decimal.
  assert.ok(margins.every((margin, at) => at === 0 || margin > margins[at - 1] - 0.21), `${margins}`);
  await close();
});

test("images are filtered by words, classes and outcome", async () => {
  const { page, close } = await open("evaluation-10.html");
  await page.fill("#text", "BRICK img_07");
  assert.ok((await shownCount(page)) > 0);
  assert.ok((await names(page)).every((name) => /IMG_07/.test(name)));
  const texts = await page.locator("#grid .card").allTextContents();
  assert.ok(texts.every((text) => /brick[ _]wall/.test(text)));
  await page.fill("#text", "no such thing");
  assert.equal(await shownCount(page), 0);
  await page.click("#clear");
  assert.equal(await page.inputValue("#text"), "");
  await page.selectOption("#predicted", { index: 1 });
  const option = await page.locator("#predicted option").nth(1).textContent();
  assert.equal(await shownCount(page), Number(/\((\d+)\)/.exec(option)[1]));
  await page.selectOption("#predicted", "");
  for (const [words, kind] of [["Wrong", "wrong"], ["Right", "right"], ["Failed", "failed"]]) {
    const button = page.locator(".quick button", { hasText: new RegExp(`^${words}`) });
    await button.click();
    assert.equal(await button.getAttribute("aria-pressed"), "true");
    assert.equal(await shownCount(page), Number(/\d+/.exec(await button.textContent())[0]));
    assert.equal(await page.locator(`#grid .card:not(.${kind})`).count(), 0);
  }
  await close();
});

test("everything is reached with the keyboard alone", async () => {
  const { page, close } = await open("evaluation-10.html");
  const focused = () => page.evaluate(() => document.activeElement.id || document.activeElement.className || document.activeElement.textContent);
  await page.keyboard.press("Tab");
  assert.equal(await focused(), "skip");
  await page.keyboard.press("Enter");
  assert.equal(await focused(), "main");
  const reached = new Set();
  for (let step = 0; step < 200 && !(await focused()).startsWith("card"); step++) {
    await page.keyboard.press("Tab");
    reached.add(await focused());
  }
  for (const id of ["text", "true", "predicted", "sort", "direction", "copy"]) {
    assert.ok(reached.has(id), `${id} is not reached`);
  }
  const position = () => page.evaluate(() => Number(document.activeElement.closest("li").ariaPosInSet));
  assert.equal(await position(), 1);
  await page.keyboard.press("ArrowRight");
  assert.equal(await position(), 2);
  await page.keyboard.press("ArrowDown");
  assert.equal(await position(), 6);
  await page.keyboard.press("End");
  assert.equal(await position(), 400);
  await page.keyboard.press("Home");
  assert.equal(await position(), 1);
  await page.keyboard.press("Enter");
  const title = () => page.textContent("#image-name");
  const first = await title();
  await page.keyboard.press("ArrowRight");
  assert.notEqual(await title(), first);
  await page.keyboard.press("Escape");
  assert.equal(await page.locator("dialog[open]").count(), 0);
  // The card of the image that was open last; the browser tells of the closing a moment later.
  await page.waitForFunction(() => document.activeElement.closest("li")?.ariaPosInSet === "2");
  // Past the grid, to what follows it, in one step.
  await page.keyboard.press("Tab");
  assert.doesNotMatch(await focused(), /^card/);
  await close();
});

test("tables are sorted by their headers", async () => {
  const { page, close } = await open("evaluation-100.html");
  const header = page.locator("#classes th", { hasText: "Recall" });
  const column = () => page.locator("#classes tbody tr td:nth-of-type(2)").evaluateAll((all) => all.map((one) => Number(one.dataset.value)));
  for (const [direction, sign] of [["descending", -1], ["ascending", 1]]) {
    await header.locator("button").click();
    assert.equal(await header.getAttribute("aria-sort"), direction);
    const values = await column();
    assert.deepEqual(values, values.toSorted((a, b) => sign * (a - b)));
  }
  await page.fill(".find input", "violin");
  const labels = await page.locator("#classes tbody tr:visible th").allTextContents();
  assert.ok(labels.length === 10 && labels.every((label) => label.includes("violin")));
  await close();
});

test("the map of many classes is pointed at, steered and magnified", async () => {
  const { page, faults, close } = await open("evaluation-1000.html");
  const canvas = page.locator("#map canvas");
  await canvas.scrollIntoViewIfNeeded();
  await page.locator("#map .frame").focus();
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("ArrowDown");
  assert.match(await page.textContent("#map .readout"), /^common retriever recognised: \d of 5/);
  const before = await page.locator("#map .space").boundingBox();
  await page.keyboard.press("+");
  const larger = await page.locator("#map .space").boundingBox();
  assert.ok(larger.width > before.width);
  await page.keyboard.press("Enter");
  assert.match(await page.textContent("#shown"), /^\d of 5,000 images: true class common retriever/);
  // Magnifying kept the middle in the window; the cursor brings its cell back.
  await page.locator("#map .frame").focus();
  await page.keyboard.press("ArrowUp");
  await canvas.click({ position: { x: 1, y: 1 } });
  assert.match(await page.textContent("#shown"), /true class common sparrow/);
  assert.deepEqual(faults, []);
  await close();
});

test("hostile names are shown as text and run nothing", async () => {
  const { page, faults, close } = await open("classification.html");
  assert.equal(await page.title(), "photos/ – Classification");
  const shown = await names(page);
  assert.equal(shown[0], "</script><script>document.title='run'</script>.jpg");
  assert.equal(shown[3], "line\\u{2028}separator\\nnew line\\ttab \\u{1b}[31mred\\u{0}.jpg");
  assert.equal(shown[4], "photo\\u{202e}gpj.exe");
  assert.equal(await page.locator("#grid b, #grid script").count(), 0);
  await page.locator("#grid button").nth(1).click();
  assert.equal(await page.textContent("#image-name"), "<img src=x onerror=\"document.title='run'\">.png");
  assert.deepEqual(faults, []);
  await close();
});

test("the policy stops scripts and requests that are not the page's", async () => {
  const { page, faults, close } = await open("classification.html");
  await page.evaluate(() => {
    document.body.append(Object.assign(document.createElement("script"), { textContent: "window.ran = true" }));
    document.body.append(Object.assign(document.createElement("img"), { src: "https://example.com/x.png" }));
    document.body.insertAdjacentHTML("beforeend", "<p onclick='window.ran = true' id='trap'>x</p>");
    document.getElementById("trap").click();
  });
  await page.waitForTimeout(300);
  assert.equal(await page.evaluate(() => window.ran), undefined);
  assert.equal(faults.filter((fault) => fault.includes("Content Security Policy")).length, 3);
  await close();
});

test("without scripts the figures, the matrix and the classes are there", async () => {
  const { page, close } = await open("evaluation-10.html", { javaScriptEnabled: false });
  assert.equal(await page.locator(".figures .value").count(), 6);
  assert.equal(await page.locator("#classes tbody tr").count(), 10);
  assert.equal(await page.locator("#matrix tbody td[data-level='10']").count() > 0, true);
  assert.ok(await page.locator("noscript .note").isVisible());
  assert.equal(await page.locator("#browser").isVisible(), false);
  assert.equal(await page.locator("#theme").isVisible(), false);
  await close();
});

test("light and dark are chosen by the system and then by the reader", async () => {
  const { page, close } = await open("evaluation-10.html", { colorScheme: "dark" });
  const ground = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const dark = await ground();
  await page.click("#theme");
  assert.notEqual(await ground(), dark);
  assert.equal(await page.textContent("#theme"), "Dark theme");
  await page.click("#theme");
  assert.equal(await ground(), dark);
  await close();
});

test("names are copied as they are", async () => {
  const { page, close } = await open("classification.html");
  await page.context().grantPermissions(["clipboard-read", "clipboard-write"]);
  await page.fill("#text", "gpj");
  await page.click("#copy");
  await page.getByText("Copied.").waitFor();
  assert.equal(await page.evaluate(() => navigator.clipboard.readText()), "photo\u202egpj.exe");
  await close();
});

test("a printed page has its images and its numbers", async () => {
  const { page, close } = await open("evaluation-10.html");
  await page.evaluate(() => dispatchEvent(new Event("beforeprint")));
  assert.equal(await page.locator("#grid li").count(), 400);
  assert.equal(await page.locator("details:not([open])").count(), 0);
  await page.evaluate(() => dispatchEvent(new Event("afterprint")));
  assert.ok((await page.locator("#grid li").count()) < 60);
  await close();
});

test("5,000 images stay few in the document and quick", async () => {
  const { page, close } = await open("evaluation-1000.html");
  const paint = await page.evaluate(
    () =>
      new Promise((done) => {
        const told = (list) => done(list.getEntriesByName("first-contentful-paint")[0]?.startTime);
        new PerformanceObserver(told).observe({ type: "paint", buffered: true });
      }),
  );
  const load = await page.evaluate(() => performance.timing.loadEventEnd - performance.timing.navigationStart);
  const frames = await page.evaluate(async () => {
    const frame = () => new Promise((done) => requestAnimationFrame(done));
    const start = document.getElementById("grid").getBoundingClientRect().top + scrollY;
    const times = [];
    let most = 0;
    for (let step = 0; step < 150; step++) {
      // Wheels, and now and then a leap with the scroll bar.
      scrollTo(0, start + (step % 10 === 9 ? step * 2500 : scrollY - start + 240));
      const before = performance.now();
      await frame();
      await frame();
      times.push((performance.now() - before) / 2);
      most = Math.max(most, document.querySelectorAll("#grid li").length);
    }
    times.sort((a, b) => a - b);
    return { median: times[75], slowest: times[149], most };
  });
  assert.ok(frames.most < 100, `${frames.most} cards at once`);
  const filter = await page.evaluate(() => {
    const time = (act) => {
      const before = performance.now();
      act();
      document.body.getBoundingClientRect();
      return performance.now() - before;
    };
    const type = (words) => () => {
      const field = document.getElementById("text");
      field.value = words;
      field.dispatchEvent(new Event("input"));
    };
    const sort = (key) => () => {
      const select = document.getElementById("sort");
      select.value = key;
      select.dispatchEvent(new Event("change"));
    };
    return {
      search: time(type("violin")),
      again: time(type("violin g")),
      all: time(type("")),
      name: time(sort("name")),
      margin: time(sort("margin")),
    };
  });
  assert.equal(await shownCount(page), 5000);
  const told = (number) => `${number.toFixed(1)} ms`;
  console.log(`first paint ${told(paint)}, loaded ${told(load)}`);
  console.log(`frame while scrolling: median ${told(frames.median)}, slowest ${told(frames.slowest)}; at most ${frames.most} cards`);
  console.log(Object.entries(filter).map(([what, time]) => `${what} ${told(time)}`).join(", "));
  await close();
});
