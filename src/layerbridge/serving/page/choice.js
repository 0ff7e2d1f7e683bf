// How a classification is shown.

/** An option's share of the probability, as a bar. */
export function bar({ option, probability }, chosen) {
  const item = document.createElement("li");
  const name = Object.assign(document.createElement("bdi"), { className: "any", textContent: option });
  const track = Object.assign(document.createElement("span"), { className: "track" });
  track.setAttribute("aria-hidden", "true");
  const fill = document.createElement("span");
  fill.style.width = `${(100 * probability).toFixed(2)}%`;
  track.append(fill);
  const value = Object.assign(document.createElement("span"), {
    className: "value",
    textContent: `${(100 * probability).toFixed(1)}\u00a0%`,
  });
  item.classList.toggle("chosen", chosen);
  item.append(name, track, value);
  return item;
}

/** How much the choice can be relied on. */
export function trust({ any_option: likely, far_from_training: far }) {
  const share = likely < 0.001 ? "less than 0.1" : (100 * likely).toFixed(1);
  const said = `all options together have a probability of ${share}\u00a0%`;
  return far
    ? `Far from training: ${said}, so the choice may mean nothing.`
    : `${said[0].toUpperCase()}${said.slice(1)}; the bars show how it is divided.`;
}
