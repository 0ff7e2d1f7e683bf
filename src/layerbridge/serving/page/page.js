// The page: what a person does, and where what the server says is shown.

import { Refusal, bridges, classify, complete, layerWeights, useKey } from "./api.js";
import { EXAMPLES } from "./examples.js";
import { showMap } from "./heat.js";

const $ = (id) => document.getElementById(id);
const PANELS = ["answer-panel", "choice-panel", "layers-panel"];

let known = new Map(); // id → what /v1/models says of it
let running = null; // AbortController of what is under way
let retry = load; // what "Try again" does
let last = Promise.resolve(); // of what was asked last
let answered = ""; // what the panels are about
let mapped = ""; // what the map is about
let offered = ""; // the instruction that the page itself wrote
let wanted = new URLSearchParams(location.hash.slice(1)).get("bridge");

// What is asked ----------------------------------------------------------------------------------

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
  if (known.size === 0) fail(new Refusal("The server has no bridge."), load);
  showBridge();
}

/** Answers or chooses, and draws the map of the same text; ends what was under way. */
function run(kind) {
  const asked = read(kind);
  if (!asked) return;
  stop();
  begin();
  const own = (running = new AbortController());
  busy(true);
  last = last.then(() => work(kind, asked, own));
}

async function work(kind, asked, own) {
  const { signal } = own;
  const tasks = [];
  if (!signal.aborted) {
    const about = JSON.stringify([asked.model, asked.text]);
    if (about !== answered) clear();
    answered = about;
    tasks.push(kind === "answer" ? answer(asked, signal) : choose(asked, signal));
    if (mapped !== about) tasks.push(map(asked, about, signal));
    reveal();
  }
  const ended = await Promise.allSettled(tasks);
  if (running !== own) return; // Something newer was asked.
  running = null;
  busy(false);
  $("intro").hidden = PANELS.some((panel) => !$(panel).hidden);
  const wrong = ended.find(({ reason }) => reason)?.reason;
  if (wrong && !signal.aborted) fail(wrong, () => run(kind));
}

async function answer(asked, signal) {
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
    const request = { model: asked.model, prompt: asked.text, ...asked.settings };
    for await (const piece of complete(request, signal)) {
      pieces.push(piece.text);
      reason = piece.reason ?? reason;
      // Leading spaces are the tokenizer's.
      reply.textContent = pieces.join("").trimStart();
      reply.classList.toggle("long", reply.textContent.length > 160);
    }
    const text = reply.textContent;
    if (!text) note("reply-note", "The model had nothing to say.");
    else if (reason === "length") {
      note("reply-note", `Cut at ${asked.settings.max_tokens} tokens; Settings allow more.`);
    }
    say(text ? `Answer: ${text}` : "The model had nothing to say.");
  } catch (error) {
    if (signal.aborted) {
      note("reply-note", pieces.length ? "Stopped here." : "Stopped before the first word.");
      say("Stopped.");
    } else if (pieces.length) note("reply-note", "Broken off here.");
    else panel.hidden = true;
    throw error;
  } finally {
    reply.classList.remove("writing");
  }
}

async function choose(asked, signal) {
  const request = { model: asked.model, text: asked.text };
  if (asked.options) request.options = asked.options;
  if ("instruction" in asked.settings) request.instruction = asked.settings.instruction;
  const panel = $("choice-panel");
  const choice = $("choice");
  choice.replaceChildren();
  $("bars").replaceChildren();
  choice.classList.add("writing");
  panel.hidden = false;
  try {
    const said = await classify(request, signal);
    const ranked = [...said.options].sort((a, b) => b.probability - a.probability);
    choice.textContent = said.choice;
    $("bars").replaceChildren(...ranked.map((entry) => bar(entry, entry.option === said.choice)));
    say(`Choice: ${said.choice}`);
  } catch (error) {
    panel.hidden = true;
    throw error;
  } finally {
    choice.classList.remove("writing");
  }
}

async function map(asked, about, signal) {
  const said = await layerWeights({ model: asked.model, text: asked.text }, signal);
  if (signal.aborted || !said.tokens?.length) return;
  showMap($("map"), said);
  $("layers-panel").hidden = false;
  mapped = about;
}

function stop() {
  running?.abort();
}

/** What the form says, or null where something is missing; then that is where the focus goes. */
function read(kind) {
  const model = $("bridge").value;
  const text = $("text").value.trim();
  const options = listed($("options").value);
  if (!model) return missing("bridge", "There is no bridge to ask yet.");
  if (!text) return missing("text", "Write a text first, or pick a name below.");
  if (!$("ask").checkValidity()) {
    $("settings").open = true;
    $("ask").reportValidity();
    return null;
  }
  if (kind === "choose" && options.length < 2 && (options.length || !own().length)) {
    return missing("options", "Write two options or more, separated by commas.");
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
const own = () => known.get($("bridge").value)?.options ?? [];
const standard = () => (known.get($("bridge").value)?.instruction ?? "").trim();

// What is shown ----------------------------------------------------------------------------------

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
        ? `Left empty: ${own().join(", ")}.`
        : "This bridge has no words of its own: write two or more to choose from.",
  );
  // What a person wrote there stays.
  if ($("instruction").value.trim() === offered) $("instruction").value = standard();
  offered = standard();
}

function bar({ option, probability }, chosen) {
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

/** What is shown is about another text. */
function clear() {
  for (const panel of PANELS) $(panel).hidden = true;
  mapped = "";
}

/** Brings the results into view where they are not, as on a telephone. */
function reveal() {
  $("intro").hidden = true;
  const results = $("results");
  results.classList.add("asked");
  const { top } = results.getBoundingClientRect();
  if (top < 0 || top > 0.6 * innerHeight) {
    results.scrollIntoView({ behavior: calm() ? "auto" : "smooth" });
  }
}

/** No problem is known (any more). */
function begin() {
  say("");
  $("problem-text").textContent = "";
  $("again").hidden = true;
  $("key-form").hidden = true;
}

function fail(error, again) {
  retry = again;
  const status = error instanceof Refusal ? error.status : -1;
  let message = error instanceof Refusal ? error.message : "Something went wrong on this page.";
  if (!(error instanceof Refusal)) console.error(error);
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
    // Asking the same again helps where the server was at fault or out of reach.
    $("again").hidden = !(status === 0 || status === 429 || status >= 500);
    $("problem").scrollIntoView({ block: "nearest" });
  }
}

function busy(yes) {
  if (!yes && document.activeElement === $("stop")) $("answer").focus();
  $("stop").hidden = !yes;
}

function note(id, text) {
  $(id).textContent = text;
}

function say(text) {
  $("status").textContent = text;
}

const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** "zoo:" says where a model comes from, and a folder is known by its last part. */
function short(name = "") {
  const bare = String(name ?? "").replace(/^\w+:(?!\/\/)/, "");
  return /^([/~.]|[A-Za-z]:\\)/.test(bare) ? bare.split(/[/\\]/).filter(Boolean).at(-1) : bare;
}

// The address: bridge, text and options are after the "#", which no browser sends to a server -----

let writing = 0;

function writeAddress() {
  clearTimeout(writing);
  writing = setTimeout(() => {
    const told = new URLSearchParams();
    for (const id of ["bridge", "text", "options"]) {
      if ($(id).value) told.set(id, $(id).value);
    }
    history.replaceState(null, "", told.size ? `#${told}` : location.pathname + location.search);
  }, 300);
}

function readAddress() {
  const told = new URLSearchParams(location.hash.slice(1));
  if (!["bridge", "text", "options"].some((id) => told.has(id))) return;
  wanted = told.get("bridge");
  if (known.has(wanted)) $("bridge").value = wanted;
  setText(told.get("text") ?? "");
  $("options").value = told.get("options") ?? "";
  if (known.size) showBridge();
}

function setText(text, lang) {
  const field = $("text");
  field.value = text;
  const example = EXAMPLES.find((each) => each.text === text);
  field.lang = lang ?? example?.lang ?? "";
  if (!field.lang) field.removeAttribute("lang");
}

// Begin ------------------------------------------------------------------------------------------

for (const example of EXAMPLES) {
  const item = document.createElement("li");
  const button = Object.assign(document.createElement("button"), { type: "button" });
  const text = Object.assign(document.createElement("span"), {
    className: "any",
    lang: example.lang,
    dir: example.dir,
    textContent: example.text,
  });
  const gloss = Object.assign(document.createElement("small"), {
    textContent: `${example.language} “${example.meaning}”`,
  });
  button.append(text, " ", gloss);
  button.addEventListener("click", () => {
    setText(example.text, example.lang);
    writeAddress();
    $("text").scrollIntoView({ block: "nearest", behavior: calm() ? "auto" : "smooth" });
  });
  item.append(button);
  $("examples").append(item);
}

// A map of nothing in particular, for the eye.
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
  run("answer");
});
$("ask").addEventListener("input", writeAddress);
$("choose").addEventListener("click", () => run("choose"));
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
    run("answer");
  }
});
addEventListener("hashchange", readAddress);

readAddress();
load();
