// Tokens in readable form, without the tokenizer's markers.

/**
 * Returns {text, begins, mark} per token: the text to show, whether it begins a word, and whether
 * it is a special token.
 */
export function readable(tokens) {
  const scheme = schemeOf(tokens);
  return tokens.map((token) => one(token, scheme));
}

// SentencePiece writes a space as ▁, byte-level BPE as Ġ; WordPiece marks what continues a word.
function schemeOf(tokens) {
  if (tokens.some((token) => token.startsWith("▁"))) return { space: "▁" };
  if (tokens.some((token) => token.startsWith("##"))) return { goes: "##" };
  if (tokens.some((token) => token.startsWith("Ġ"))) return { space: "Ġ" };
  return {};
}

function one(token, { space, goes }) {
  if (/^(<[^<>]+>|\[[A-Z]+\])$/.test(token)) return { text: token, begins: true, mark: true };
  if (goes) {
    const inside = token.startsWith(goes) && token.length > goes.length;
    return { text: inside ? token.slice(goes.length) : token, begins: !inside, mark: false };
  }
  if (!space || !token.includes(space)) return { text: token, begins: false, mark: false };
  const text = token.replaceAll(space, " ").trim();
  return text
    ? { text, begins: token.startsWith(space), mark: false }
    : { text: "space", begins: true, mark: true };
}
