// Words with patches: the patches of the word that is pointed at, focused or chosen.

const pairs = document.getElementById("pairs");

if (pairs && facts.pairs) {
  const cells = [...pairs.querySelectorAll(".cells rect")];
  const buttons = [...pairs.querySelectorAll("button")];
  const said = pairs.querySelector("p[aria-live]");
  const most = Math.max(...facts.pairs.flat().map(Math.abs));
  const side = Math.sqrt(cells.length);
  let chosen = 0;

  const show = (index) => {
    const map = facts.pairs[index];
    for (const [at, cell] of cells.entries()) {
      const share = most > 0 ? map[at] / most : 0;
      cell.setAttribute("class", share < 0 ? "down" : "up");
      cell.setAttribute("fill-opacity", (0.75 * Math.abs(share)).toFixed(2));
    }
  };
  const choose = (index) => {
    chosen = index;
    for (const [at, button] of buttons.entries()) button.ariaPressed = String(at === index);
    const map = facts.pairs[index];
    const best = map.indexOf(Math.max(...map));
    const place = `row ${Math.floor(best / side) + 1}, column ${(best % side) + 1}`;
    said.textContent = `${buttons[index].textContent}: most in ${place}, ${map[best].toFixed(4)}`;
    show(index);
  };
  for (const [index, button] of buttons.entries()) {
    button.addEventListener("click", () => choose(index));
    for (const on of ["mouseenter", "focus"]) button.addEventListener(on, () => show(index));
    for (const off of ["mouseleave", "blur"]) button.addEventListener(off, () => show(chosen));
  }
  pairs.hidden = false;
  choose(0);
}
