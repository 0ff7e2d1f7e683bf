// Requests to the server. Knows nothing of the page's elements.

const KEY = "layerbridge-key";

/** An error response, or none at all (status 0). `retry`: whole seconds, or null. */
export class ApiError extends Error {
  constructor(message, { status = 0, retry = null } = {}) {
    super(message);
    this.status = status;
    this.retry = retry;
  }
}

export function useKey(key) {
  kept = key;
  try {
    sessionStorage.setItem(KEY, key);
  } catch {
    // Storage is disabled: the key lasts as long as the page.
  }
}

let kept = "";
try {
  kept = sessionStorage.getItem(KEY) ?? "";
} catch {
  // As above.
}

/** The bridges: [{id, layerbridge: {fusion, encoder, …}}]. */
export async function bridges(signal) {
  const reply = await send("v1/models", null, signal);
  const result = await json(reply);
  return Array.isArray(result.data) ? result.data : [];
}

export async function classify(request, signal) {
  return json(await send("v1/classify", request, signal));
}

export async function layerWeights(request, signal) {
  return json(await send("v1/layer_weights", request, signal));
}

/** Streams the answer: yields {text, reason}, where reason is null until the end. */
export async function* complete(request, signal) {
  const reply = await send("v1/completions", { ...request, stream: true }, signal);
  let ended = false;
  for await (const data of events(reply, signal)) {
    if (data === "[DONE]") return;
    const result = parsed(data);
    if (result.error) throw new ApiError(message(result) ?? "The server aborted the answer.");
    const choice = result.choices?.[0];
    if (!choice) continue;
    ended ||= Boolean(choice.finish_reason);
    yield { text: choice.text ?? "", reason: choice.finish_reason ?? null };
  }
  if (!ended) throw new ApiError("The connection was lost during the answer.");
}

/** The `data:` lines of a stream of server-sent events. */
async function* events(reply, signal) {
  const reader = reply.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      const lines = (rest + (value ?? "")).split("\n");
      rest = done ? "" : lines.pop();
      for (const line of lines) {
        if (line.startsWith("data:")) yield line.slice(5).trim();
      }
      if (done) return;
    }
  } catch (error) {
    if (signal?.aborted || error instanceof ApiError) throw error;
    throw new ApiError("The connection was lost during the answer.");
  } finally {
    reader.cancel().catch(() => {});
  }
}

async function send(path, body, signal) {
  const headers = { Accept: "application/json, text/event-stream" };
  if (kept) headers.Authorization = `Bearer ${kept}`;
  if (body) headers["Content-Type"] = "application/json";
  let reply;
  try {
    reply = await fetch(path, {
      method: body ? "POST" : "GET",
      headers,
      body: body ? JSON.stringify(body) : undefined,
      cache: "no-store",
      signal,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError("The server cannot be reached. Is it still running?");
  }
  if (reply.ok) return reply;
  const result = parsed(await reply.text().catch(() => ""));
  throw new ApiError(message(result) ?? `The server replied with status ${reply.status}.`, {
    status: reply.status,
    retry: seconds(reply.headers.get("Retry-After")),
  });
}

async function json(reply) {
  const result = parsed(await reply.text());
  if (result.error) throw new ApiError(message(result) ?? "The server could not answer.");
  return result;
}

function parsed(text) {
  try {
    return JSON.parse(text) ?? {};
  } catch {
    return {};
  }
}

function message(result) {
  const text = result.error?.message;
  return typeof text === "string" && text ? text : null;
}

/** Seconds of a Retry-After header, which holds a number or a date. */
function seconds(header) {
  if (!header) return null;
  const number = /^\d+$/.test(header.trim())
    ? Number(header)
    : Math.ceil((Date.parse(header) - Date.now()) / 1000);
  return Number.isFinite(number) ? Math.max(1, number) : null;
}
