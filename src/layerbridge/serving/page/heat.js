// The map: tokens × layers, weights as colors. One tab stop; arrow keys move inside.

import { readable } from "./tokens.js";

const HINT = "Point at a cell, or use the arrow keys.";

/** Fills `place` with the map of a /v1/layer_weights response. */
export function showMap(place, { tokens, layers, weights }) {
  const words = readable(tokens);
  const highest = Math.max(...weights.flat(), Number.MIN_VALUE);
  const alike = weights.length > 1 && weights.every((row) => same(row, weights[0]));
  // If all rows are equal, so is their average.
  const average = weights.length > 1 && !alike ? mean(weights) : null;

  const grid = element("table", { role: "grid" });
  grid.setAttribute("aria-labelledby", "layers-title");
  grid.setAttribute("aria-describedby", "map-note");
  grid.append(head(layers), ...bodies(words, layers, weights, highest));
  if (average) grid.append(foot(layers, average, highest));

  const readout = element("p", { className: "readout", textContent: HINT });
  // Screen readers already read the focused cell's name.
  readout.setAttribute("aria-hidden", "true");
  const scroll = element("div", { className: "scroll", role: "region" });
  scroll.setAttribute("aria-label", "Map of layer weights");
  scroll.append(grid);
  const note = element("p", {
    className: "note",
    id: "map-note",
    textContent:
      (layers[0] === 0 ? "Layer 0 is the embeddings. " : "") +
      (alike ? "This bridge uses the same weights for every token. " : "") +
      `Uniform weights would be ${percent(1 / layers.length)} per layer. ` +
      "The outlined cell is the row's maximum; gaps separate words.",
  });
  const sideways = element("p", {
    className: "note sideways",
    textContent: `Scroll the map sideways for all ${layers.length} layers.`,
  });
  place.replaceChildren(legend(highest), readout, sideways, scroll, note);
  moving(grid, readout);
  watch.disconnect();
  watch.observe(scroll);
}

/** Says that a map scrolls, where it does. */
const watch = new ResizeObserver(([{ target }]) => {
  target.previousElementSibling.hidden = target.scrollWidth <= target.clientWidth;
});

function head(layers) {
  const thead = element("thead");
  const axis = element("tr", { className: "axis" });
  axis.setAttribute("aria-hidden", "true");
  const across = element("td", { colSpan: layers.length });
  const ends = element("div");
  const [lower, upper] = ["lower layers", "upper layers"].map((textContent) =>
    element("span", { textContent }),
  );
  ends.append(lower, element("i"), upper);
  across.append(ends);
  axis.append(element("td"), across, element("td"));

  const row = element("tr");
  row.append(header("col", "Token"));
  for (const layer of layers) {
    const cell = header("col", "");
    const full = element("span", { className: "hidden", textContent: "layer " });
    cell.append(full, String(layer));
    row.append(cell);
  }
  row.append(header("col", "Top layer"));
  thead.append(axis, row);
  return thead;
}

/** One tbody per word, with a gap between words. */
function bodies(words, layers, weights, highest) {
  const all = [];
  words.forEach((word, index) => {
    if (word.begins || !all.length) all.push(element("tbody"));
    all.at(-1).append(line(shown(word), word.text, layers, weights[index], highest));
  });
  return all;
}

function foot(layers, average, highest) {
  const tfoot = element("tfoot");
  tfoot.append(line(document.createTextNode("average"), "average", layers, average, highest));
  return tfoot;
}

function line(label, name, layers, weights, highest) {
  const row = element("tr");
  const first = header("row", "");
  first.append(label);
  row.append(first);
  const top = weights.indexOf(Math.max(...weights));
  weights.forEach((weight, index) => {
    const cell = element("td", { className: "cell", tabIndex: -1 });
    // Square root, as in the plots: one layer often has most of the weight.
    cell.style.setProperty("--share", (100 * Math.sqrt(Math.max(0, weight) / highest)).toFixed(1));
    cell.classList.toggle("top", index === top);
    const description = `${percent(weight)} from layer ${layers[index]}`;
    cell.setAttribute("aria-label", `${name}: ${description}`);
    cell.dataset.token = name;
    cell.dataset.label = description;
    row.append(cell);
  });
  const most = element("td", { className: "most", tabIndex: -1 });
  most.append(
    element("span", { className: "hidden", textContent: "layer " }),
    element("b", { textContent: String(layers[top]) }),
    element("span", { className: "hidden", textContent: "," }),
    ` ${percent(weights[top])}`,
  );
  most.dataset.token = name;
  most.dataset.label = `top layer ${layers[top]}, ${percent(weights[top])}`;
  row.append(most);
  return row;
}

function shown({ text, mark }) {
  const piece = element("bdi", { className: mark ? "mark" : "any", textContent: text });
  // Special tokens read left to right in any text.
  piece.dir = mark ? "ltr" : "auto";
  return piece;
}

function legend(highest) {
  const box = element("div", { className: "legend", role: "img" });
  box.setAttribute("aria-label", `Colors from 0 % to ${percent(highest)}`);
  const ticks = element("div", { className: "ticks" });
  // The middle of the ramp is a quarter of the maximum: colors follow the square root.
  for (const share of [0, highest / 4, highest]) {
    ticks.append(element("span", { textContent: percent(share) }));
  }
  box.append(element("div", { className: "ramp" }), ticks);
  return box;
}

/** Roving tabindex over the cells, and a readout of the current one. */
function moving(grid, readout) {
  const rows = [...grid.querySelectorAll("tbody tr, tfoot tr")].map((row) => [
    ...row.querySelectorAll("td"),
  ]);
  const heads = [...grid.querySelectorAll("thead th[scope=col]")].slice(1);
  const names = rows.map(([cell]) => cell.parentElement.querySelector("th"));
  const spots = new Map();
  rows.forEach((cells, y) => cells.forEach((cell, x) => spots.set(cell, [y, x])));
  let home = rows[0][0];
  home.tabIndex = 0;

  const light = (cell) => {
    for (const lit of grid.querySelectorAll(".lit")) lit.classList.remove("lit");
    if (!cell) {
      readout.textContent = HINT;
      return;
    }
    const [y, x] = spots.get(cell);
    heads[x].classList.add("lit");
    names[y].classList.add("lit");
    const token = element("bdi", { className: "any", textContent: cell.dataset.token });
    token.dir = "auto";
    const rest = element("span", { textContent: cell.dataset.label });
    readout.replaceChildren(token, rest);
  };
  const pointed = (event) => {
    const cell = event.target.closest("td");
    return spots.has(cell) ? cell : null;
  };

  grid.addEventListener("pointerover", (event) => light(pointed(event) ?? focused(grid, spots)));
  grid.addEventListener("pointerleave", () => light(focused(grid, spots)));
  grid.addEventListener("focusin", (event) => {
    const cell = pointed(event);
    if (!cell) return;
    home.tabIndex = -1;
    home = cell;
    home.tabIndex = 0;
    light(cell);
  });
  grid.addEventListener("focusout", () => light(null));
  grid.addEventListener("keydown", (event) => {
    const from = spots.get(event.target);
    if (!from || event.altKey || event.metaKey) return;
    const to = step(event, from, rows);
    if (!to) return;
    event.preventDefault();
    const cell = rows[to[0]][to[1]];
    cell.focus({ preventScroll: true });
    cell.scrollIntoView({ block: "nearest", inline: "nearest" });
  });
}

function step({ key, ctrlKey }, [y, x], rows) {
  const lastRow = rows.length - 1;
  const lastColumn = rows[y].length - 1;
  const held = (value, last) => Math.min(Math.max(value, 0), last);
  switch (key) {
    case "ArrowLeft":
      return [y, held(x - 1, lastColumn)];
    case "ArrowRight":
      return [y, held(x + 1, lastColumn)];
    case "ArrowUp":
      return [held(y - 1, lastRow), x];
    case "ArrowDown":
      return [held(y + 1, lastRow), x];
    case "Home":
      return [ctrlKey ? 0 : y, 0];
    case "End":
      return [ctrlKey ? lastRow : y, lastColumn];
    case "PageUp":
      return [held(y - 10, lastRow), x];
    case "PageDown":
      return [held(y + 10, lastRow), x];
    default:
      return null;
  }
}

function focused(grid, spots) {
  const cell = document.activeElement;
  return grid.contains(cell) && spots.has(cell) ? cell : null;
}

function header(scope, textContent) {
  return element("th", { scope, textContent });
}

function element(name, properties = {}) {
  return Object.assign(document.createElement(name), properties);
}

function percent(share) {
  const value = 100 * share;
  return `${value.toFixed(value > 0 && value < 9.95 ? 1 : 0)}\u00a0%`;
}

function mean(rows) {
  return rows[0].map((_, x) => rows.reduce((sum, row) => sum + row[x], 0) / rows.length);
}

function same(one, other) {
  return one.every((value, x) => Math.abs(value - other[x]) < 1e-6);
}
