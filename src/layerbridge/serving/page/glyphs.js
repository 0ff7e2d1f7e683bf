// Whether this device has a font for a text: without one, letters are empty boxes.

// Scripts that the page's own fonts or any system's have, and marks that belong to no script.
const COVERED = new RegExp(
  `[${[
    ...["Common", "Inherited", "Latin", "Greek", "Cyrillic", "Arabic", "Armenian", "Bengali"],
    ...["Devanagari", "Ethiopic", "Georgian", "Gujarati", "Gurmukhi", "Hebrew", "Kannada", "Khmer"],
    ...["Lao", "Malayalam", "Myanmar", "Oriya", "Sinhala", "Tamil", "Telugu", "Thai"],
  ]
    .map((script) => `\\p{Script=${script}}`)
    .join("")}]`,
  "gu",
);
const SIZE = 24;
// No character, so that it is drawn as what stands for a missing one.
const MISSING = "\u{10ffff}";

const known = new Map();

/** Returns false if a letter of the text would be an empty box. */
export function canBeShown(text) {
  return [...text.replace(COVERED, "")].every((letter) => {
    if (!known.has(letter)) known.set(letter, drawn(letter) !== drawn(MISSING));
    return known.get(letter);
  });
}

/** Returns the pixels of a letter in the page's fonts. */
function drawn(letter) {
  const canvas = Object.assign(document.createElement("canvas"), { width: 2 * SIZE, height: 2 * SIZE });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const fonts = getComputedStyle(document.documentElement).getPropertyValue("--any");
  context.font = `${SIZE}px ${fonts}`;
  context.textBaseline = "middle";
  context.fillText(letter, 2, SIZE);
  return context.getImageData(0, 0, canvas.width, canvas.height).data.join();
}
