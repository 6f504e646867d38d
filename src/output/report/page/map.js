// The whole confusion matrix as a map, for more classes than a table can show. A canvas of the
// size of its window moves over it; only the visible part is drawn, so that any number of classes
// can be magnified.

const MAGNIFICATIONS = [1, 2, 3, 4, 6, 8, 12, 16, 24];

function startMap(place) {
  const classes = [...new Set(facts.confusion.flatMap(([truth, predicted]) => [truth, predicted]))];
  classes.sort((a, b) => a - b);
  const position = new Map(classes.map((label, at) => [label, at]));
  const map = {
    classes,
    cells: facts.confusion.map(([truth, predicted, number]) => ({
      down: position.get(truth),
      across: position.get(predicted),
      share: Math.sqrt(number / totals.get(truth)),
    })),
    canvas: make("canvas"),
    frame: make("div", { className: "frame", tabIndex: 0, role: "application" }),
    space: make("div", { className: "space" }),
    readout: make("p", { className: "readout", role: "status" }),
    size: 1,
    cursor: null,
  };
  const name = `Map of all ${grouped.format(classes.length)} classes`;
  map.frame.ariaLabel = `${name}: arrow keys move, Enter opens the images, plus and minus zoom`;
  map.space.append(map.canvas);
  map.frame.append(map.space);
  place.append(
    make("h3", {}, name),
    make("p", { className: "soft" }, "Rows and columns are in the order of the labels. Correct predictions are on the diagonal."),
    make("p", { className: "buttons" }, zoomButton(map, "Zoom out", -1), zoomButton(map, "Zoom in", 1)),
    map.frame,
    map.readout,
  );
  place.hidden = false;
  listen(map);
  // Initially as large as fits into the window.
  const fitting = MAGNIFICATIONS.filter((size) => size * classes.length <= map.frame.clientWidth);
  zoom(map, Math.max(fitting.length - 1, 0));
}

function zoomButton(map, words, by) {
  const button = make("button", { type: "button" }, words);
  button.addEventListener("click", () => zoom(map, by));
  return button;
}

function zoom(map, by) {
  const at = MAGNIFICATIONS.indexOf(map.size) + by;
  const { frame, space } = map;
  const before = map.size;
  map.size = MAGNIFICATIONS[Math.min(Math.max(at, 0), MAGNIFICATIONS.length - 1)];
  space.style.width = space.style.height = `${map.classes.length * map.size}px`;
  // The centre stays in place.
  const kept = (start, length) => ((start + length / 2) * map.size) / before - length / 2;
  frame.scrollTo(kept(frame.scrollLeft, frame.clientWidth), kept(frame.scrollTop, frame.clientHeight));
  drawMap(map);
}

function drawMap({ canvas, frame, cells, classes, size, cursor }) {
  const { clientWidth: width, clientHeight: height, scrollLeft: left, scrollTop: top } = frame;
  canvas.width = width * devicePixelRatio;
  canvas.height = height * devicePixelRatio;
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const pen = canvas.getContext("2d");
  pen.scale(devicePixelRatio, devicePixelRatio);
  pen.translate(-left, -top);
  const [right, wrong, line, ink] = ["--right", "--wrong", "--rule", "--ink"].map((name) => {
    // The variable resolves to the colour of the light or dark theme when set on an element.
    frame.style.color = `var(${name})`;
    return getComputedStyle(frame).color;
  });
  const end = classes.length * size;
  pen.strokeStyle = line;
  pen.strokeRect(0, 0, end, end);
  // A single mistake must be visible at any magnification.
  const dot = Math.max(size > 4 ? size - 1 : size, 2);
  for (const { down, across, share } of cells) {
    const [x, y] = [across * size, down * size];
    if (x + size < left || y + size < top || x > left + width || y > top + height) continue;
    pen.fillStyle = down === across ? right : wrong;
    pen.globalAlpha = 0.25 + 0.75 * share;
    pen.fillRect(x, y, dot, dot);
  }
  if (cursor) {
    pen.globalAlpha = 1;
    pen.strokeStyle = ink;
    pen.lineWidth = 2;
    pen.strokeRect(cursor.across * size - 2, cursor.down * size - 2, size + 4, size + 4);
  }
}

function listen(map) {
  const { frame, canvas } = map;
  frame.addEventListener("scroll", () => drawMap(map), { passive: true });
  document.addEventListener("theme", () => drawMap(map));
  addEventListener("resize", () => drawMap(map));
  canvas.addEventListener("pointermove", (event) => point(map, nearest(map, event)));
  canvas.addEventListener("click", (event) => {
    point(map, nearest(map, event));
    openCell(map);
  });
  frame.addEventListener("keydown", (event) => steer(map, event));
}

/** The cell with images under the pointer, or the nearest one within a finger's width. */
function nearest({ frame, canvas, cells, size, classes }, event) {
  const box = canvas.getBoundingClientRect();
  const across = (event.clientX - box.left + frame.scrollLeft) / size;
  const down = (event.clientY - box.top + frame.scrollTop) / size;
  let best = null;
  let least = Math.max(5 / size, 0.5);
  for (const cell of cells) {
    const distance = Math.max(Math.abs(cell.across + 0.5 - across), Math.abs(cell.down + 0.5 - down));
    if (distance <= least) [best, least] = [cell, distance];
  }
  const place = { across: Math.floor(across), down: Math.floor(down) };
  return best ?? (place.across < classes.length && place.down < classes.length ? place : null);
}

function point(map, cell) {
  map.cursor = cell;
  if (cell) {
    const [truth, predicted] = [map.classes[cell.down], map.classes[cell.across]];
    const number = confusion.get(`${truth} ${predicted}`) ?? 0;
    map.readout.textContent = cellWords(truth, predicted, number, totals.get(truth) ?? 0);
  }
  drawMap(map);
}

function openCell({ cursor, classes }) {
  if (!cursor) return;
  const [truth, predicted] = [classes[cursor.down], classes[cursor.across]];
  if (confusion.has(`${truth} ${predicted}`)) show({ truth, predicted });
}

function steer(map, event) {
  const { across, down } = map.cursor ?? { across: 0, down: 0 };
  const last = map.classes.length - 1;
  const to = (across, down) => () => {
    point(map, { across: Math.min(Math.max(across, 0), last), down: Math.min(Math.max(down, 0), last) });
    follow(map);
  };
  const moves = {
    ArrowLeft: to(across - 1, down),
    ArrowRight: to(across + 1, down),
    ArrowUp: to(across, down - 1),
    ArrowDown: to(across, down + 1),
    Enter: () => openCell(map),
    "+": () => zoom(map, 1),
    "-": () => zoom(map, -1),
  };
  if (!moves[event.key] || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  moves[event.key]();
}

/** Scrolls just enough to keep the cursor in the window. */
function follow({ frame, cursor, size }) {
  const within = (start, length, at) => Math.min(Math.max(start, (at + 2) * size - length), (at - 1) * size);
  frame.scrollLeft = within(frame.scrollLeft, frame.clientWidth, cursor.across);
  frame.scrollTop = within(frame.scrollTop, frame.clientHeight, cursor.down);
}

// The strips read elements that the buttons replace afterwards.
addStrips();
if (matrix && grid) startMatrix();
const mapPlace = document.getElementById("map");
if (mapPlace && grid) startMap(mapPlace);
