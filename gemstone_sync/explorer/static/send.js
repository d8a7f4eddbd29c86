// Requests to the service: where it is, with which headers, and what came back.
import { chosenDeadline, deadlineHeaders, headersOf, withCookies } from "./access.js";
import { get } from "./store.js";
import { parse, write } from "./json.js";

// The page is at `docs` below the endpoint, whatever a proxy has put before both.
const root = location.pathname.replace(/\/docs\/?$/, "");

/** The URL of the endpoint. */
export const endpoint = `${location.origin}${root}${document.documentElement.dataset.slash || ""}`.replace(
  /^([^/]+\/\/[^/]+)$/,
  "$1/",
);

/** The URL of what lies below the endpoint. */
export const below = (name) => `${location.origin}${root}/${name}`;

/** Make an id for what is sent, which the service's log has too. */
export function newRequestId() {
  const bytes = crypto.getRandomValues(new Uint8Array(8));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Make the body of a call; a notification has no id. */
export function requestOf({ method, params, notify }, id = 1) {
  return { jsonrpc: "2.0", method, params, ...(notify ? {} : { id }) };
}

/** Make the headers of a call. @throws {string} why it cannot be sent with them */
function headersFor(hasDeadline) {
  const headers = new Headers({ "Content-Type": "application/json", "X-Request-Id": newRequestId() });
  const deadline = get("deadline").trim();
  if (hasDeadline && deadline && !chosenDeadline()) throw `The deadline is no number of seconds: ${deadline}`;
  try {
    for (const [name, value] of [...(hasDeadline ? deadlineHeaders() : []), ...headersOf()])
      headers.set(name, value);
  } catch (error) {
    throw `A header cannot be sent: ${error.message}`;
  }
  const taken = new Request(endpoint, { headers }).headers;
  const kept = [...headers.keys()].filter((name) => !taken.has(name));
  if (kept.length) throw `A browser lets no page send ${kept.join(", ")}; “This call as code” does.`;
  return headers;
}

/**
 * Send a body, with the headers that were chosen, and the deadline where it is a call.
 * @returns {Promise<object>} status, statusText, text, ms, requestId, and content: what the text is
 *   as JSON, or undefined; or only `failed`, in words, where nothing came back, and no `ms` where
 *   nothing was sent.
 */
export async function post(body, { hasDeadline = false, signal } = {}) {
  let headers;
  try {
    headers = headersFor(hasDeadline);
  } catch (failed) {
    return { failed: String(failed) };
  }
  const started = performance.now();
  const ms = () => performance.now() - started;
  try {
    const reply = await withCookies(() =>
      fetch(endpoint, {
        method: "POST",
        headers,
        body: write(body),
        signal,
        cache: "no-store",
        redirect: "error",
        referrerPolicy: "no-referrer",
      }),
    );
    const text = await reply.text();
    let content;
    try {
      content = text ? parse(text) : undefined;
    } catch {
      /* shown as it is */
    }
    return {
      status: reply.status,
      statusText: reply.statusText,
      text,
      content,
      ms: ms(),
      requestId: reply.headers.get("X-Request-Id") ?? headers.get("X-Request-Id"),
    };
  } catch (error) {
    const words =
      error.name === "AbortError"
        ? "You cancelled it. The service may have done it all the same."
        : `No answer: ${error.message}`;
    return { failed: words, ms: ms() };
  }
}

/** Call one of the framework's own methods; throws {code, message, data}. */
export async function ask(method, params = {}) {
  const reply = await post(requestOf({ method, params }));
  if (reply.failed) throw { message: reply.failed };
  const { error, result } = reply.content ?? {};
  if (error) throw error;
  if (reply.content === undefined) throw { message: `HTTP ${reply.status} ${reply.statusText}` };
  return result;
}

/** Get a document that lies below the endpoint. */
export async function fetchBelow(name) {
  const reply = await withCookies(() =>
    fetch(below(name), { headers: headersOf(), redirect: "error", referrerPolicy: "no-referrer" }),
  );
  if (!reply.ok) throw { message: `${name}: HTTP ${reply.status}` };
  return reply;
}
