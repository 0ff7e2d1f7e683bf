// The page: the form, and the panels for the server's responses.

import { ApiError, bridges, classify, complete, layerWeights, useKey } from "./api.js";
import { bar, trust } from "./choice.js";
import { showExamples } from "./examples.js";
import { showMap } from "./heat.js";

const $ = (id) => document.getElementById(id);
const PANELS = ["answer-panel", "choice-panel", "layers-panel"];

let known = new Map(); // id → its description from /v1/models
let running = null; // AbortController of the current run
let retry = load; // what "Try again" calls
let last = Promise.resolve(); // of the last run
let answered = ""; // model and text of the panels
let mapped = ""; // model and text of the map
let offered = ""; // the default instruction that the page filled in
let wanted = new URLSearchParams(location.hash.slice(1)).get("bridge");

// Requests ----------------------------------------------------------------------------------

async function load() {
  begin();
  try {
    known = new Map((await bridges()).map((item) => [item.id, item.layerbridge ?? {}]));
  } catch (error) {
    fail(error, load);
    return;
  }
  const select = $("bridge");
  select.replaceChildren(...[...known.keys()].map((id) => new Option(id, id)));
  select.disabled = known.size === 0;
  if (known.has(wanted)) select.value = wanted;
  if (known.size === 0) fail(new ApiError("The server has no bridges."), load);
  showBridge();
}

/** Answers or chooses and draws the text's map; aborts the previous run. */
function run(kind) {
  const input = read(kind);
  if (!input) return;
  stop();
  begin();
  const own = (running = new AbortController());
  busy(true);
  last = last.then(() => work(kind, input, own));
}

async function work(kind, input, own) {
  const { signal } = own;
  const tasks = [];
  if (!signal.aborted) {
    const about = JSON.stringify([input.model, input.text]);
    if (about !== answered) clear();
    answered = about;
    tasks.push(kind === "answer" ? answer(input, signal) : choose(input, signal));
    if (mapped !== about) tasks.push(map(input, about, signal));
    reveal();
  }
  const ended = await Promise.allSettled(tasks);
  if (running !== own) return; // A newer run has started.
  running = null;
  busy(false);
  $("intro").hidden = PANELS.some((panel) => !$(panel).hidden);
  const wrong = ended.find(({ reason }) => reason)?.reason;
  if (wrong && !signal.aborted) fail(wrong, () => run(kind));
}

async function answer(input, signal) {
  const reply = $("reply");
  const panel = $("answer-panel");
  const pieces = [];
  let reason = null;
  reply.replaceChildren();
  reply.classList.remove("long");
  reply.classList.add("writing");
  note("reply-note", "");
  panel.hidden = false;
  try {
    // No options: free text, also of a bridge that was trained on labels.
    const request = { model: input.model, prompt: input.text, options: [], ...input.settings };
    for await (const piece of complete(request, signal)) {
      pieces.push(piece.text);
      reason = piece.reason ?? reason;
      // Leading spaces come from the tokenizer.
      reply.textContent = pieces.join("").trimStart();
      reply.classList.toggle("long", reply.textContent.length > 160);
    }
    const text = reply.textContent;
    if (!text) note("reply-note", "The model returned an empty answer.");
    else if (reason === "length") {
      note("reply-note", `Stopped at ${input.settings.max_tokens} tokens; raise the limit in Settings.`);
    }
    say(text ? `Answer: ${text}` : "The model returned an empty answer.");
  } catch (error) {
    if (signal.aborted) {
      note("reply-note", pieces.length ? "Stopped here." : "Stopped before the first word.");
      say("Stopped.");
    } else if (pieces.length) note("reply-note", "Interrupted here.");
    else panel.hidden = true;
    throw error;
  } finally {
    reply.classList.remove("writing");
  }
}

async function choose(input, signal) {
  const request = { model: input.model, text: input.text };
  if (input.options) request.options = input.options;
  if ("instruction" in input.settings) request.instruction = input.settings.instruction;
  const panel = $("choice-panel");
  const choice = $("choice");
  choice.replaceChildren();
  note("choice-note", "");
  $("bars").replaceChildren();
  choice.classList.add("writing");
  panel.hidden = false;
  try {
    const result = await classify(request, signal);
    const ranked = [...result.options].sort((a, b) => b.probability - a.probability);
    choice.textContent = result.choice;
    $("bars").replaceChildren(...ranked.map((entry) => bar(entry, entry.option === result.choice)));
    panel.classList.toggle("far", result.far_from_training);
    note("choice-note", trust(result));
    say(`Choice: ${result.choice}${result.far_from_training ? ", far from training" : ""}`);
  } catch (error) {
    panel.hidden = true;
    throw error;
  } finally {
    choice.classList.remove("writing");
  }
}

async function map(input, about, signal) {
  const result = await layerWeights({ model: input.model, text: input.text }, signal);
  if (signal.aborted || !result.tokens?.length) return;
  showMap($("map"), result);
  $("layers-panel").hidden = false;
  mapped = about;
}

function stop() {
  running?.abort();
}

/** Returns the form's values; null, with the focus on the field, if one is missing. */
function read(kind) {
  const model = $("bridge").value;
  const text = $("text").value.trim();
  const options = listed($("options").value);
  if (!model) return missing("bridge", "No bridge is loaded yet.");
  if (!text) return missing("text", "Enter a text first, or pick an example below.");
  if (!$("ask").checkValidity()) {
    $("settings").open = true;
    $("ask").reportValidity();
    return null;
  }
  if (kind === "choose" && options.length < 2 && (options.length || !own().length)) {
    return missing("options", "Enter at least two options, separated by commas.");
  }
  const settings = {
    max_tokens: $("max-tokens").valueAsNumber,
    temperature: $("temperature").valueAsNumber,
  };
  if ($("seed").value) settings.seed = $("seed").valueAsNumber;
  const instruction = $("instruction").value.trim();
  if (instruction !== standard()) settings.instruction = instruction;
  return { model, text, options: options.length ? options : null, settings };
}

function missing(id, message) {
  begin();
  $("problem-text").textContent = message;
  $(id).focus();
  return null;
}

const listed = (text) => [...new Set(text.split(/[,،、，]/).map((part) => part.trim()))].filter(Boolean);
/** What Enter does: choose, of a bridge that was trained on labels. */
const first = () => (own().length ? "choose" : "answer");
const own = () => known.get($("bridge").value)?.options ?? [];
const standard = () => (known.get($("bridge").value)?.instruction ?? "").trim();

// Display ----------------------------------------------------------------------------------

function showBridge() {
  const about = known.get($("bridge").value);
  const rows = about
    ? [
        ["Encoder", short(about.encoder)],
        ["Language model", short(about.language_model)],
        ["Fusion", about.layers ? `${about.fusion} over ${about.layers} layers` : about.fusion],
        ["Prompt", about.template],
      ]
    : [];
  $("about").replaceChildren(
    ...rows
      .filter(([, value]) => value)
      .map(([name, value]) => {
        const row = document.createElement("div");
        row.append(
          Object.assign(document.createElement("dt"), { textContent: name }),
          Object.assign(document.createElement("dd"), { textContent: value }),
        );
        return row;
      }),
  );
  note(
    "options-note",
    !about
      ? ""
      : own().length
        ? `If empty: ${own().join(", ")}.`
        : "This bridge has no default options: enter at least two.",
  );
  // The first of the two stands first and is sent by Enter.
  for (const id of ["choose", "answer"]) {
    $(id).classList.toggle("first", id === first());
    $(id).type = id === first() ? "submit" : "button";
  }
  $("answer").parentElement.prepend($(first()));
  showExamples($("examples"), about?.examples ?? [], (example) => {
    setText(example.text, example.language);
    writeAddress();
    $("text").scrollIntoView({ block: "nearest", behavior: calm() ? "auto" : "smooth" });
  });
  // Keep an instruction that was typed.
  if ($("instruction").value.trim() === offered) $("instruction").value = standard();
  offered = standard();
}

/** Hides panels that belong to another text. */
function clear() {
  for (const panel of PANELS) $(panel).hidden = true;
  mapped = "";
}

/** Scrolls the results into view, as on a phone. */
function reveal() {
  $("intro").hidden = true;
  const results = $("results");
  results.classList.add("asked");
  const { top } = results.getBoundingClientRect();
  if (top < 0 || top > 0.6 * innerHeight) {
    results.scrollIntoView({ behavior: calm() ? "auto" : "smooth" });
  }
}

/** Clears messages. */
function begin() {
  say("");
  $("problem-text").textContent = "";
  $("again").hidden = true;
  $("key-form").hidden = true;
}

function fail(error, again) {
  retry = again;
  const status = error instanceof ApiError ? error.status : -1;
  let message = error instanceof ApiError ? error.message : "Something went wrong on this page.";
  if (!(error instanceof ApiError)) console.error(error);
  if (status === 429 || status === 503) {
    const when = error.retry === null ? "shortly" : `in ${error.retry} second${error.retry === 1 ? "" : "s"}`;
    message = `${/[.!?]$/.test(message) ? message : `${message}.`} Try again ${when}.`;
  }
  $("problem-text").textContent = message;
  if (status === 401) {
    $("key-form").hidden = false;
    $("key").value = "";
    $("key").focus();
  } else {
    // Retrying helps if the server failed or could not be reached.
    $("again").hidden = !(status === 0 || status === 429 || status >= 500);
    $("problem").scrollIntoView({ block: "nearest" });
  }
}

function busy(yes) {
  if (!yes && document.activeElement === $("stop")) $(first()).focus();
  $("stop").hidden = !yes;
}

function note(id, text) {
  $(id).textContent = text;
}

function say(text) {
  $("status").textContent = text;
}

const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** Drops a source prefix such as "zoo:", and all but the last part of a folder. */
function short(name = "") {
  const bare = String(name ?? "").replace(/^\w+:(?!\/\/)/, "");
  return /^([/~.]|[A-Za-z]:\\)/.test(bare) ? bare.split(/[/\\]/).filter(Boolean).at(-1) : bare;
}

// The address: bridge, text and options are after the "#", which no browser sends to a server -----

let writing = 0;

function writeAddress() {
  clearTimeout(writing);
  writing = setTimeout(() => {
    const parameters = new URLSearchParams();
    for (const id of ["bridge", "text", "options"]) {
      if ($(id).value) parameters.set(id, $(id).value);
    }
    const { pathname, search } = location;
    history.replaceState(null, "", parameters.size ? `#${parameters}` : pathname + search);
  }, 300);
}

function readAddress() {
  const parameters = new URLSearchParams(location.hash.slice(1));
  if (!["bridge", "text", "options"].some((id) => parameters.has(id))) return;
  wanted = parameters.get("bridge");
  if (known.has(wanted)) $("bridge").value = wanted;
  setText(parameters.get("text") ?? "");
  $("options").value = parameters.get("options") ?? "";
  if (known.size) showBridge();
}

function setText(text, lang) {
  const field = $("text");
  field.value = text;
  const examples = [...known.values()].flatMap((about) => about.examples ?? []);
  field.lang = lang ?? examples.find((each) => each.text === text)?.language ?? "";
  if (!field.lang) field.removeAttribute("lang");
}

// Setup ------------------------------------------------------------------------------------------

// A decorative map.
for (let place = 0; place < 60; place += 1) {
  const [row, column] = [Math.floor(place / 12), place % 12];
  const cell = document.createElement("i");
  const share = 92 * Math.exp(-((column - 7.5 + 2.6 * Math.sin(row * 1.3)) ** 2) / 9);
  cell.style.setProperty("--share", share.toFixed(0));
  $("motif").append(cell);
}

if (/Mac|iPhone|iPad/.test(navigator.platform)) $("modifier").textContent = "⌘";

// The fragment is the address's own, so the link may not change it.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  $("text").focus();
});
$("ask").noValidate = true; // read() does it, and opens the settings first.
$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  run(first());
});
$("ask").addEventListener("input", writeAddress);
for (const kind of ["choose", "answer"]) {
  // The first one submits the form.
  $(kind).addEventListener("click", () => $(kind).type === "button" && run(kind));
}
$("stop").addEventListener("click", stop);
$("again").addEventListener("click", () => retry());
$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey($("key").value.trim());
  retry();
});
$("bridge").addEventListener("change", () => {
  wanted = $("bridge").value;
  showBridge();
});
$("text").addEventListener("input", () => $("text").removeAttribute("lang"));
addEventListener("keydown", (event) => {
  if (event.key === "Escape") stop();
  const sends = event.key === "Enter" && (event.ctrlKey || event.metaKey) && !event.isComposing;
  if (sends && !$("key-form").contains(event.target)) {
    event.preventDefault();
    run(first());
  }
});
addEventListener("hashchange", readAddress);

readAddress();
load();
