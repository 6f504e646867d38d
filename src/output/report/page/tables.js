// Sortable tables, and names and numbers that open their images.

/** A table with more rows gets a search field. */
const SHORT_TABLE = 15;

function makeOpener(element) {
  const button = make("button", { type: "button", className: "open" }, ...element.childNodes);
  const { true: truth, predicted, better, worse } = element.dataset;
  const number = (text) => (text === undefined ? null : Number(text));
  const wanted = {
    truth: number(truth),
    predicted: number(predicted),
    better: number(better),
    worse: number(worse),
  };
  button.addEventListener("click", () => show(wanted));
  element.replaceWith(button);
}

function makeSortable(table) {
  const headers = [...table.tHead.rows[0].cells];
  for (const [column, header] of headers.entries()) {
    const button = make("button", { type: "button" }, ...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => {
      const isText = table.tBodies[0].rows[0]?.cells[column].dataset.value === undefined;
      const before = header.ariaSort;
      // Names start with A, numbers with the largest.
      const first = isText ? "ascending" : "descending";
      const other = isText ? "descending" : "ascending";
      for (const one of headers) one.removeAttribute("aria-sort");
      header.ariaSort = before === first ? other : first;
      sortTable(table, column, header.ariaSort === "ascending" ? 1 : -1);
    });
  }
}

function sortTable(table, column, sign) {
  const body = table.tBodies[0];
  const key = (row) => {
    const cell = row.cells[column];
    return cell.dataset.value === undefined ? cell.textContent : Number(cell.dataset.value);
  };
  const list = [...body.rows].map((row) => [key(row), row]);
  list.sort(([a], [b]) => sign * (typeof a === "string" ? collator.compare(a, b) : a - b));
  body.append(...list.map(([, row]) => row));
}

function makeSearchable(table) {
  if (table.tBodies[0].rows.length <= SHORT_TABLE) return;
  const field = make("input", { type: "search", placeholder: "class name" });
  field.addEventListener("input", () => {
    const wanted = field.value.toLowerCase();
    for (const row of table.tBodies[0].rows) {
      row.hidden = !row.cells[0].textContent.toLowerCase().includes(wanted);
    }
  });
  table.parentElement.before(make("label", { className: "find" }, "Find ", field));
}

if (grid) {
  for (const element of document.querySelectorAll("span.open, bdi.open")) makeOpener(element);
}
for (const table of document.querySelectorAll("table.sortable")) {
  makeSortable(table);
  makeSearchable(table);
}
