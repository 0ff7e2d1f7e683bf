// The examples of a bridge: buttons that fill in the text.

import { canBeShown } from "./glyphs.js";

/** Fills the list; `pick(example)` is called with the example whose button is pressed. */
export function showExamples(list, examples, pick) {
  const shown = examples.filter((example) => canBeShown(example.text));
  list.replaceChildren(...shown.map((example) => entry(example, pick)));
  list.parentElement.hidden = shown.length === 0;
  const left = new Set(examples.filter((each) => !shown.includes(each)).map((each) => nameOf(each.language)));
  document.getElementById("examples-note").textContent =
    left.size ? `Not shown, for want of a font on this device: ${[...left].join(", ")}.` : "";
}

function entry(example, pick) {
  const item = document.createElement("li");
  const button = Object.assign(document.createElement("button"), { type: "button" });
  const text = Object.assign(document.createElement("span"), {
    className: "any clip",
    lang: example.language,
    dir: "auto",
    textContent: example.text,
  });
  button.append(text, " ", Object.assign(document.createElement("small"), { textContent: gloss(example) }));
  button.addEventListener("click", () => pick(example));
  item.append(button);
  return item;
}

/** What the text means, or else how it is labeled. */
function gloss({ language, meaning, target }) {
  const name = language === "en" ? "" : `${nameOf(language)} `;
  return meaning ? `${name}“${meaning}”` : `${name}labeled “${target}”`;
}

function nameOf(language) {
  try {
    return new Intl.DisplayNames("en", { type: "language" }).of(language);
  } catch {
    return language; // It is no code that browsers know.
  }
}
