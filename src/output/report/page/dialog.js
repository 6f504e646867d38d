// Dialog with all data about one image.

const dialog = document.getElementById("image");

/** Position of the open image among those shown. */
let openPosition = 0;

function openImage(position) {
  fillDialog(position);
  if (dialog.open) return;
  dialog.showModal();
  // By default the focus would be on the buttons, which may be below the window.
  document.getElementById("image-name").focus({ preventScroll: true });
  dialog.scrollTop = 0;
}

function fillDialog(position) {
  openPosition = position;
  const row = shown[position];
  dialog.replaceChildren(
    make("div", { className: "shot" }, thumbnail(row)),
    make(
      "div",
      { className: "details" },
      make("p", { className: `mark ${row.state}` }, stateWords(row)),
      make("h2", { id: "image-name", tabIndex: -1 }, make("bdi", {}, printable(row.name))),
      make("p", { className: "soft" }, sizeWords(row, position)),
      ...parts(row),
    ),
    make(
      "p",
      { className: "buttons" },
      dialogButton("Previous", position > 0, () => step(-1)),
      dialogButton("Next", position + 1 < shown.length, () => step(1)),
      dialogButton("Copy name", true, () => copy(row.name)),
      dialogButton("Close", true, () => dialog.close()),
    ),
  );
}

function parts(row) {
  const found = [];
  if (row.error !== undefined) {
    found.push(make("p", { className: "error" }, printable(row.error)));
  }
  for (const warning of row.warnings) {
    found.push(make("p", { className: "note" }, printable(warning)));
  }
  if (row.targets.length > 0) {
    const names = row.targets.map(label).join("; ");
    found.push(make("p", {}, "True: ", make("bdi", {}, make("strong", {}, names))));
  }
  if (row.best.length > 0) {
    found.push(make("h3", {}, "Top predictions"), answerList(row, row.best, () => ""));
  }
  if (row.runs.length > 0) {
    const lead = (at) => `${printable(facts.runs[at] ?? "?")}: `;
    found.push(make("h3", {}, "By run"), answerList(row, row.runs, lead));
  }
  return found;
}

function answerList(row, answers, lead) {
  const lines = answers.map((answer, at) => make("li", {}, answerLine(answer, row, at === 0, lead(at))));
  return make("ul", { className: "answers" }, ...lines);
}

function stateWords(row) {
  const words = { right: "✓ Right", wrong: "✗ Wrong", failed: "! Failed", unjudged: "" };
  return words[row.state];
}

function sizeWords(row, position) {
  const place = `${grouped.format(position + 1)} of ${grouped.format(shown.length)} shown`;
  return row.size ? `${row.size[0]} × ${row.size[1]} pixels · ${place}` : place;
}

function dialogButton(name, isUsable, act) {
  const button = make("button", { type: "button", disabled: !isUsable }, name);
  button.addEventListener("click", act);
  return button;
}

function step(by) {
  const position = openPosition + by;
  if (position < 0 || position >= shown.length) return;
  const words = document.activeElement.textContent;
  fillDialog(position);
  // Everything is replaced; the button in use keeps the focus, else the name gets it and is announced.
  const buttons = [...dialog.querySelectorAll("button:not(:disabled)")];
  const same = buttons.find((button) => button.textContent === words);
  (same ?? document.getElementById("image-name")).focus();
}

dialog.addEventListener("keydown", (event) => {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (by) step(by);
});
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
});
dialog.addEventListener("close", () => focusCard(openPosition));
