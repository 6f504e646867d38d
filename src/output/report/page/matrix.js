// The confusion matrix: cells that open their images, a map of all classes if there are many,
// and images next to the most frequent confusions.

const matrix = document.getElementById("matrix");

/** The contents of a cell, in words. */
function cellWords(truth, predicted, number, total) {
  const share = total > 0 ? ` of ${grouped.format(total)} (${((100 * number) / total).toFixed(1)}%)` : "";
  const verb = truth === predicted ? "recognised" : `predicted as ${label(predicted)}`;
  return `${label(truth)} ${verb}: ${grouped.format(number)}${share}`;
}

const confusion = new Map();
const totals = new Map();
for (const [truth, predicted, number] of facts.confusion) {
  confusion.set(`${truth} ${predicted}`, number);
  totals.set(truth, (totals.get(truth) ?? 0) + number);
}

function startMatrix() {
  const readout = document.getElementById("matrix-readout");
  const cells = [...matrix.tBodies[0].rows].map((row) => [...row.cells].slice(1));
  const place = (cell) => [Number(cell.dataset.true), Number(cell.dataset.predicted)];
  const say = (cell) => {
    const [truth, predicted] = place(cell);
    readout.textContent = cellWords(truth, predicted, confusion.get(`${truth} ${predicted}`) ?? 0, totals.get(truth) ?? 0);
  };
  const open = (cell) => {
    const [truth, predicted] = place(cell);
    if (confusion.has(`${truth} ${predicted}`)) show({ truth, predicted });
  };
  // One cell can be reached with Tab, the others with the arrow keys.
  matrix.setAttribute("role", "grid");
  for (const cell of cells.flat()) {
    cell.tabIndex = -1;
    cell.setAttribute("role", "gridcell");
    const [truth, predicted] = place(cell);
    if (!confusion.has(`${truth} ${predicted}`)) cell.setAttribute("aria-label", "0");
  }
  cells[0][0].tabIndex = 0;
  const go = (down, across) => {
    const wanted = cells[down]?.[across];
    if (!wanted) return;
    for (const cell of matrix.querySelectorAll('td[tabindex="0"]')) cell.tabIndex = -1;
    wanted.tabIndex = 0;
    wanted.focus();
  };
  matrix.addEventListener("keydown", (event) => {
    const cell = event.target.closest("td[data-true]");
    if (!cell) return;
    const down = cell.parentElement.sectionRowIndex;
    const across = cell.cellIndex - 1;
    const moves = {
      ArrowUp: () => go(down - 1, across),
      ArrowDown: () => go(down + 1, across),
      ArrowLeft: () => go(down, across - 1),
      ArrowRight: () => go(down, across + 1),
      Home: () => go(down, 0),
      End: () => go(down, cells.length - 1),
      Enter: () => open(cell),
      " ": () => open(cell),
    };
    if (!moves[event.key]) return;
    event.preventDefault();
    moves[event.key]();
  });
  for (const kind of ["pointerover", "focusin"]) {
    matrix.addEventListener(kind, (event) => {
      const cell = event.target.closest("td[data-true]");
      if (cell) say(cell);
    });
  }
  matrix.addEventListener("click", (event) => {
    const cell = event.target.closest("td[data-true]");
    if (cell) open(cell);
  });
}

/** Adds images to each of the most frequent confusions. */
function addStrips() {
  const items = [...document.querySelectorAll(".worst li")];
  const found = new Map();
  for (const row of rows) {
    for (const target of row.targets) {
      const key = `${target} ${row.best[0]?.[0]}`;
      if (!found.has(key)) found.set(key, []);
      if (row.thumb && found.get(key).length < 5) found.get(key).push(row);
    }
  }
  for (const item of items) {
    const { true: truth, predicted } = item.querySelector(".open").dataset;
    const strip = found.get(`${truth} ${predicted}`) ?? [];
    if (strip.length > 0) {
      item.prepend(make("span", { className: "strip" }, ...strip.map(thumbnail)));
    }
  }
}
