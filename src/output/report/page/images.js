// Filtering and sorting of the images.

/** All filters; null and "" match everything. */
const noFilter = {
  text: "",
  state: null,
  truth: null,
  predicted: null,
  better: null,
  worse: null,
};
let filter = { ...noFilter };

/** The rows that are shown, in order. */
let shown = rows;

const controls = Object.fromEntries(
  ["browser", "text", "true", "predicted", "sort", "direction", "shown", "clear", "copy"].map(
    (id) => [id, document.getElementById(id)],
  ),
);

/** With more classes a list is impractical; the search finds them. */
const MAX_OPTIONS = 2000;

const sorts = {
  order: ["Original order", (row) => row.index],
  name: ["Name", (row) => row.name],
  sure: ["Confidence, highest first", (row) => negative(row.confidence)],
  margin: ["Margin, smallest first", (row) => row.margin ?? row.confidence],
  state: ["Wrong first", (row) => ["failed", "wrong", "unjudged", "right"].indexOf(row.state)],
  truth: ["True class", (row) => (row.targets.length > 0 ? label(row.targets[0]) : null)],
  answer: ["Prediction", (row) => (row.best.length > 0 ? label(row.best[0][0]) : null)],
};

function negative(number) {
  return number === null ? null : -number;
}

/** Each word of the search must occur in the name, the first prediction or the true classes. */
function haystack(row) {
  const labels = [row.best[0]?.[0], ...row.targets].filter((index) => index !== undefined);
  row.haystack ??= [row.name, ...labels.map((index) => facts.labels[index])].join("\n").toLowerCase();
  return row.haystack;
}

function isShown(row, words) {
  const { state, truth, predicted, better, worse } = filter;
  const isRightIn = (run) => row.runs[run] && row.targets.includes(row.runs[run][0]);
  return (
    (state === null || row.state === state || (state === "warned" && row.warnings.length > 0)) &&
    (truth === null || row.targets.includes(truth)) &&
    (predicted === null || row.best[0]?.[0] === predicted) &&
    (better === null || (isRightIn(better) && !isRightIn(worse))) &&
    words.every((word) => haystack(row).includes(word))
  );
}

function sorted(list) {
  const [, key] = sorts[controls.sort.value];
  const sign = controls.direction.ariaPressed === "true" ? -1 : 1;
  const keys = new Map(list.map((row) => [row, key(row)]));
  return [...list].sort((a, b) => sign * compare(keys.get(a), keys.get(b), sign) || a.index - b.index);
}

/** Rows without a key come last, in either direction. */
function compare(a, b, sign) {
  if (a === null || b === null) return sign * ((a === null) - (b === null));
  return typeof a === "string" ? collator.compare(a, b) : a - b;
}

function update() {
  const words = filter.text.toLowerCase().split(/\s+/).filter(Boolean);
  shown = sorted(rows.filter((row) => isShown(row, words)));
  controls.clear.hidden = Object.entries(noFilter).every(([name, none]) => filter[name] === none);
  announce(`${grouped.format(shown.length)} of ${count(rows.length, "image")}${filterWords()}`);
  for (const button of document.querySelectorAll(".quick button")) {
    button.ariaPressed = String(button.isOn());
  }
  restartGrid();
}

function announce(words) {
  controls.shown.textContent = words;
}

/** The filters on classes and runs, in words. */
function filterWords() {
  const words = [];
  if (filter.truth !== null) words.push(`true class ${label(filter.truth)}`);
  if (filter.predicted !== null) words.push(`predicted as ${label(filter.predicted)}`);
  if (filter.better !== null) {
    const name = (run) => printable(facts.runs[run] ?? "?");
    words.push(`right with ${name(filter.better)}, wrong with ${name(filter.worse)}`);
  }
  return words.length > 0 ? `: ${words.join("; ")}` : "";
}

/** Shows only the images that match `wanted` and scrolls there, after any click on a figure. */
function show(wanted) {
  filter = { ...noFilter, ...wanted };
  controls.text.value = "";
  controls.true.value = filter.truth ?? "";
  controls.predicted.value = filter.predicted ?? "";
  update();
  // Through the address, so that the browser's back button returns to the figure.
  location.hash = "images";
  document.getElementById("images-title").focus({ preventScroll: true });
  document.getElementById("images").scrollIntoView();
}

function addQuick(words, number, act, isOn) {
  const button = make("button", { type: "button" }, words);
  if (number !== null) button.append(make("span", { className: "soft" }, ` ${grouped.format(number)}`));
  button.isOn = isOn;
  button.addEventListener("click", () => {
    act();
    update();
  });
  document.querySelector(".quick").append(button);
}

function setOrder(sort, isReversed) {
  controls.sort.value = sort;
  controls.direction.ariaPressed = String(isReversed);
}

function addQuicks() {
  const byState = (state) => rows.filter((row) => row.state === state).length;
  const warned = rows.filter((row) => row.warnings.length > 0).length;
  const states = [
    ["All", null, rows.length],
    ["Wrong", "wrong", byState("wrong")],
    ["Right", "right", byState("right")],
    ["Failed", "failed", byState("failed")],
    ["With warnings", "warned", warned],
  ];
  for (const [words, state, number] of states) {
    if (state !== null && number === 0) continue;
    addQuick(words, number, () => (filter.state = state), () => filter.state === state);
  }
  const isOrder = (sort, state) => () =>
    controls.sort.value === sort && controls.direction.ariaPressed === "false" && filter.state === state;
  const leastConfident = () => {
    filter.state = null;
    setOrder("margin", false);
  };
  const worst = () => {
    filter.state = "wrong";
    setOrder("sure", false);
  };
  addQuick("Least confident first", null, leastConfident, isOrder("margin", null));
  if (byState("wrong") > 0) {
    addQuick("Most confident mistakes", null, worst, isOrder("sure", "wrong"));
  }
}

/** Fills a list with the classes that occur and their counts. */
function addOptions(select, field, labelsOf, name) {
  const counts = new Map();
  for (const row of rows) {
    for (const index of labelsOf(row)) counts.set(index, (counts.get(index) ?? 0) + 1);
  }
  if (counts.size === 0 || counts.size > MAX_OPTIONS) return;
  const entries = [...counts].map(([index, number]) => [label(index), index, number]);
  entries.sort((a, b) => collator.compare(a[0], b[0]));
  const options = entries.map(([words, index, number]) =>
    make("option", { value: index }, `${words} (${grouped.format(number)})`),
  );
  select.append(make("option", { value: "" }, "any"), ...options);
  select.addEventListener("change", () => {
    filter[name] = select.value === "" ? null : Number(select.value);
    update();
  });
  field.hidden = false;
}

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    announce("Copied.");
  } catch {
    announce("The browser does not allow this page to copy.");
  }
}

function isOfTruth(sort) {
  return sort === "truth" || sort === "state";
}

function startImages() {
  const hasCaptions = facts.answer === "caption";
  for (const [value, [words]] of Object.entries(sorts)) {
    const isUseless = (value === "truth" && hasCaptions) || (isOfTruth(value) && !hasTargets);
    if (!isUseless) controls.sort.append(make("option", { value }, words));
  }
  addQuicks();
  const truths = (row) => row.targets;
  const answers = (row) => row.best.slice(0, 1).map(([index]) => index);
  if (!hasCaptions) {
    addOptions(controls.true, document.getElementById("true-field"), truths, "truth");
    addOptions(controls.predicted, document.getElementById("predicted-field"), answers, "predicted");
  }
  controls.text.addEventListener("input", () => {
    filter.text = controls.text.value;
    update();
  });
  controls.sort.addEventListener("change", update);
  controls.direction.addEventListener("click", () => {
    controls.direction.ariaPressed = String(controls.direction.ariaPressed !== "true");
    update();
  });
  controls.clear.addEventListener("click", () => {
    filter = { ...noFilter };
    for (const field of [controls.text, controls.true, controls.predicted]) field.value = "";
    update();
    controls.text.focus();
  });
  controls.copy.addEventListener("click", () => copy(shown.map((row) => row.name).join("\n")));
  document.querySelector(".tools").addEventListener("submit", (event) => event.preventDefault());
  controls.browser.hidden = false;
}
