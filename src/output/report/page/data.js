// The page's data, and how they are shown. Names and labels come from files: they enter the page
// as text nodes only, never as markup.

const facts = JSON.parse(document.getElementById("facts").textContent);
const rows = JSON.parse(document.getElementById("rows").textContent);

const hasTargets = rows.some((row) => row.targets);
const collator = new Intl.Collator(undefined, { numeric: true });
const grouped = new Intl.NumberFormat("en");

for (const [index, row] of rows.entries()) {
  row.index = index;
  row.best ??= [];
  row.targets ??= [];
  row.runs ??= [];
  row.warnings ??= [];
  row.confidence = row.best[0]?.[1] ?? null;
  row.margin = row.best.length > 1 ? row.best[0][1] - row.best[1][1] : null;
  row.state = stateOf(row);
}

function stateOf(row) {
  if (row.error !== undefined) return "failed";
  if (row.targets.length === 0 || row.best.length === 0) return "unjudged";
  return row.targets.includes(row.best[0][0]) ? "right" : "wrong";
}

/** Shows control characters and bidirectional overrides as escapes, as on a terminal. */
function printable(text) {
  const short = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };
  return text.replace(
    /[\p{Cc}\u200e\u200f\u2028-\u202e\u2066-\u2069]/gu,
    (one) => short[one] ?? `\\u{${one.codePointAt(0).toString(16)}}`,
  );
}

function label(index) {
  return printable(facts.labels[index] ?? "?");
}

function count(number, noun) {
  return `${grouped.format(number)} ${noun}${number === 1 ? "" : "s"}`;
}

/** A score in its unit; numbers that are not finite come as null. */
function shownScore(score) {
  if (score === null) return "–";
  if (facts.score === "probability") return `${(100 * score).toFixed(1)}%`;
  return score.toFixed(facts.score === "cosine" ? 4 : 2);
}

/** The share of a full bar: logits and cosines have no natural maximum, so the best fills its bar. */
function barShare(score, best) {
  const full = facts.score === "probability" ? 1 : best;
  return full > 0 ? Math.min(Math.max(score / full, 0), 1) : 0;
}

/** An element with properties (or attributes, if there is no such property) and children. */
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** A label with its score and bar; the first prediction is highlighted. */
function answerLine([index, score], row, isFirst, lead = "") {
  const fill = make("span", { className: "fill" });
  fill.style.width = `${100 * barShare(score, row.best[0]?.[1])}%`;
  const isTrue = row.targets.includes(index);
  return make(
    "span",
    { className: `answer${isTrue ? " true" : ""}${isFirst ? " first" : ""}` },
    make("bdi", { className: "label", title: label(index) }, lead, label(index)),
    make("span", { className: "number" }, isTrue ? "✓ " : "", shownScore(score)),
    make("span", { className: "bar" }, fill),
  );
}

/** Thumbnails that were requested before the browser had parsed them. */
const awaited = [];

function thumbnail(row) {
  const image = make("img", { decoding: "async", loading: "lazy", alt: "", draggable: false });
  if (row.thumb && !setSource(image, row.index)) awaited.push([image, row.index]);
  return row.thumb ? image : make("span", { className: "blank" }, "no preview");
}

function setSource(image, index) {
  const data = document.getElementById(`t${index}`);
  // While the page loads, an element is only known to be complete if another one follows.
  const isWhole = data && (document.readyState !== "loading" || data.nextElementSibling);
  if (isWhole) image.src = `data:image/jpeg;base64,${data.textContent}`;
  return isWhole;
}

document.addEventListener("DOMContentLoaded", () => {
  for (const [image, index] of awaited.splice(0)) setSource(image, index);
});
