// The grid of images. Only the rows near the window are in the document, so that thousands of
// images scroll as fast as ten; padding takes the space of the others.

const grid = document.getElementById("grid");

/** Cards that are in the document, by position. */
const cards = new Map();

/** Rows above and below the window that are rendered in advance. */
const SPARE_ROWS = 3;

/** Maximum number of printed cards: paper has no scroll bar. */
const MAX_PRINTED = 400;

let columns = 1;
let rowHeight = 1;

/** The card with the keyboard focus. */
let current = 0;

function restartGrid() {
  current = 0;
  clearCards();
  measureGrid();
  drawGrid();
}

function clearCards() {
  for (const card of cards.values()) card.remove();
  cards.clear();
}

/** Reads sizes from the style sheet, so that a larger font makes larger cards. */
function measureGrid() {
  const style = getComputedStyle(grid);
  columns = style.gridTemplateColumns.split(" ").length;
  rowHeight = parseFloat(style.gridAutoRows) + parseFloat(style.rowGap);
}

/** There is always a windowful of rows, wherever the window is, so that screen readers find some. */
function drawGrid() {
  const total = Math.ceil(shown.length / columns);
  const drawn = Math.min(Math.ceil(innerHeight / rowHeight) + 2 * SPARE_ROWS, total);
  const above = Math.floor(-grid.getBoundingClientRect().top / rowHeight);
  const first = Math.min(Math.max(above - SPARE_ROWS, 0), total - drawn);
  const last = first + drawn;
  fillGrid(first * columns, Math.min(last * columns, shown.length));
  grid.style.paddingTop = `${first * rowHeight}px`;
  grid.style.paddingBottom = `${(total - last) * rowHeight}px`;
}

/** Renders the positions `start..end` and removes the others. */
function fillGrid(start, end) {
  for (const [position, card] of cards) {
    if (position >= start && position < end) continue;
    card.remove();
    cards.delete(position);
  }
  let following = null;
  for (let position = end - 1; position >= start; position--) {
    if (!cards.has(position)) {
      cards.set(position, makeCard(position));
      grid.insertBefore(cards.get(position), following);
    }
    following = cards.get(position);
  }
  rove();
}

/** One card can be reached with Tab: the current one, or the nearest in the document. */
function rove() {
  const nearest = cards.has(current) ? current : Math.min(...cards.keys());
  for (const [position, card] of cards) {
    card.firstChild.tabIndex = position === nearest ? 0 : -1;
  }
}

function makeCard(position) {
  const row = shown[position];
  const button = make(
    "button",
    { type: "button", className: `card ${row.state}` },
    make("span", { className: "shot" }, thumbnail(row)),
    ...cardMark(row),
    cardName(row.name),
    ...cardAnswers(row),
  );
  button.addEventListener("click", () => {
    current = position;
    openImage(position);
  });
  button.addEventListener("focus", () => {
    current = position;
    rove();
  });
  const place = { "aria-posinset": position + 1, "aria-setsize": shown.length };
  return make("li", place, button);
}

function cardMark(row) {
  const [mark, words] = { right: ["✓", "right"], wrong: ["✗", "wrong"], failed: ["!", "failed"] }[row.state] ?? [];
  if (!mark) return [];
  const sign = make("span", { "aria-hidden": "true" }, mark);
  return [make("span", { className: `mark ${row.state}` }, sign, make("span", { className: "unseen" }, `${words}: `))];
}

/** Image names differ mostly in the file name, so the folder is truncated. */
function cardName(name) {
  const cut = name.lastIndexOf("/") + 1;
  return make(
    "span",
    { className: "name", title: printable(name) },
    make("bdi", { className: "folder" }, printable(name.slice(0, cut))),
    make("bdi", { className: "file" }, printable(name.slice(cut))),
  );
}

function cardAnswers(row) {
  if (row.error !== undefined) {
    return [make("span", { className: "error" }, printable(row.error))];
  }
  const lines =
    row.runs.length > 0
      ? row.runs.slice(0, 3).map((answer, run) => answerLine(answer, row, run === 0, `${run + 1} · `))
      : row.best.slice(0, 3).map((answer, at) => answerLine(answer, row, at === 0));
  const listed = (row.runs.length > 0 ? row.runs : row.best).slice(0, 3).map(([index]) => index);
  if (row.targets.length > 0 && !row.targets.some((target) => listed.includes(target))) {
    const truth = label(row.targets[0]);
    lines.push(make("span", { className: "truth", title: truth }, "true: ", make("bdi", {}, truth)));
  }
  return lines.length > 0 ? lines : [make("span", { className: "soft" }, "no label reaches the threshold")];
}

/** Scrolls the card at `position` into view and focuses it. */
function focusCard(position) {
  current = Math.min(Math.max(position, 0), shown.length - 1);
  if (!cards.has(current)) {
    const top = grid.getBoundingClientRect().top + scrollY;
    scrollTo(0, top + Math.floor(current / columns) * rowHeight - innerHeight / 3);
    drawGrid();
  }
  cards.get(current)?.firstChild.focus();
}

function move(event) {
  const page = Math.max(Math.floor(innerHeight / rowHeight), 1) * columns;
  const steps = {
    ArrowLeft: -1,
    ArrowRight: 1,
    ArrowUp: -columns,
    ArrowDown: columns,
    PageUp: -page,
    PageDown: page,
    Home: -shown.length,
    End: shown.length,
  };
  const by = steps[event.key];
  if (by === undefined || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  // Up from the first row and down from the last stay where they are, as in a spreadsheet.
  const isLeaving = Math.abs(by) === columns && (current + by < 0 || current + by >= shown.length);
  if (!isLeaving || columns === 1) focusCard(current + by);
}

function startGrid() {
  grid.classList.toggle("captions", facts.answer === "caption");
  grid.classList.toggle("short", !hasTargets);
  grid.addEventListener("keydown", move);
  addEventListener("scroll", () => requestAnimationFrame(drawGrid), { passive: true });
  addEventListener("resize", () => {
    measureGrid();
    drawGrid();
  });
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
    fillGrid(0, Math.min(shown.length, MAX_PRINTED));
    grid.style.padding = "0";
  });
  addEventListener("afterprint", drawGrid);
}

if (grid) {
  startImages();
  startGrid();
  update();
}
