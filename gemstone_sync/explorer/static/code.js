// A call written for other programs: curl, the gemstone command, Python, JavaScript.
import { chosenDeadline, cookiesOf, deadlineHeaders, headersOf, once } from "./access.js";
import { button, copyButton, cut, el } from "./dom.js";
import { kindOf, parse, write } from "./json.js";
import { codeBlock } from "./markdown.js";
import { endpoint, requestOf } from "./send.js";
import { get, set } from "./store.js";

// Whatever is not ASCII is escaped, so that no character is what it does not seem.
const ascii = (text) =>
  text.replace(/[\u007f-\uffff]/g, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`);
const json = (value) => ascii(write(value));
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
const word = (text) => (/^[\w.:/@%+=,-]+$/.test(text) ? text : quoted(text));

function allHeaders() {
  const cookies = cookiesOf()
    .map(([name, value]) => `${name}=${value}`)
    .join("; ");
  return [...headersOf(), ...(cookies ? [["Cookie", cookies]] : [])];
}

const JSON_BODY = ["Content-Type", "application/json"];

export function curl(call) {
  const headers = once([JSON_BODY, ...deadlineHeaders(), ...allHeaders()]);
  return [
    "curl",
    // without a value it would take the header away
    ...headers.map(([name, value]) => `-H ${quoted(value ? `${name}: ${value}` : `${name};`)}`),
    `-d ${quoted(json(requestOf(call)))}`,
    word(endpoint),
  ].join(" \\\n  ");
}

export function gemstone(call) {
  const named = kindOf(call.params) === "object" && Object.entries(call.params);
  const simple =
    named && named.every(([name, value]) => /^[A-Za-z_]\w*$/.test(name) && json(value).length < 2000);
  const params = !simple
    ? [`--args ${quoted(json(call.params))}`]
    : named.map(([name, value]) =>
        typeof value === "string" && /^[ -~]*$/.test(value)
          ? word(`${name}=${value}`)
          : word(`${name}:=${json(value)}`),
      );
  const headers = allHeaders().map(([name, value]) => `--header ${quoted(`${name}: ${value}`)}`);
  return [
    "gemstone call_raw",
    word(endpoint),
    word(call.method),
    ...params,
    ...(call.notify ? ["--notify"] : []),
    ...(chosenDeadline() ? [`--timeout ${chosenDeadline()}`] : []),
    ...headers,
  ].join(" \\\n  ");
}

/** Write a value as Python does. */
function python(value) {
  const kind = kindOf(value);
  if (kind === "array") return `[${value.map(python).join(", ")}]`;
  if (kind === "object")
    return `{${Object.entries(value)
      .map(([key, one]) => `${python(key)}: ${python(one)}`)
      .join(", ")}}`;
  if (kind === "string") {
    // astral characters as one escape: Python's texts have no halves
    return ascii(
      JSON.stringify(value).replace(
        /[\ud800-\udbff][\udc00-\udfff]/g,
        (pair) => `\\U${pair.codePointAt(0).toString(16).padStart(8, "0")}`,
      ),
    );
  }
  return { true: "True", false: "False", null: "None" }[String(value)] ?? String(value);
}

export function pythonCode(call) {
  const headers = allHeaders();
  const seconds = chosenDeadline();
  const lines = ["import gemstone_sync", ""];
  if (headers.length) {
    lines.unshift("import requests");
    lines.splice(1, 0, "");
    lines.push(
      "session = requests.Session()",
      `session.headers.update(${python(Object.fromEntries(headers))})`,
    );
  }
  const options = [
    python(endpoint),
    ...(headers.length ? ["session=session"] : []),
    ...(seconds ? [`timeout=(1, ${seconds})`, `total_timeout=${seconds}`] : []),
  ];
  lines.push(`service = gemstone_sync.RemoteService(${options.join(", ")})`);
  const given = `${python(call.method)}, ${python(call.params)}`;
  lines.push(call.notify ? `service.notify(${given})` : `print(service.call_method(${given}).result)`);
  return lines.join("\n");
}

export function javascript(call) {
  const headers = Object.fromEntries(once([JSON_BODY, ...deadlineHeaders(), ...allHeaders()]));
  const body = json(requestOf(call));
  // Where JavaScript would read something else (numbers beyond 2^53, a key `__proto__`): as a text.
  const isPlain = !body.includes('"__proto__"') && JSON.stringify(JSON.parse(body)) === write(parse(body));
  const lines = [
    `const reply = await fetch(${json(endpoint)}, {`,
    '  method: "POST",',
    `  headers: ${json(headers)},`,
    `  body: ${isPlain ? `JSON.stringify(${body})` : json(body)},`,
    "});",
    `console.log(${call.notify ? "reply.status" : isPlain ? "await reply.json()" : "await reply.text()"});`,
  ];
  return lines.join("\n");
}

const LANGUAGES = { curl, gemstone, Python: pythonCode, JavaScript: javascript };

/** Make the block that shows a call as code; `call` gives it as it is now. */
export function codeView(call) {
  const holder = el("div");
  const language = () => (Object.hasOwn(LANGUAGES, get("language")) ? get("language") : "curl");
  const text = () => LANGUAGES[language()](call());
  const tabs = Object.keys(LANGUAGES).map((name) =>
    button(
      name,
      () => {
        set({ language: name });
        draw();
      },
      { class: "tab" },
    ),
  );
  const draw = () => {
    for (const tab of tabs) tab.setAttribute("aria-pressed", String(tab.textContent === language()));
    const show = (part) => codeBlock(part, `The call as ${language()}`);
    holder.replaceChildren(...cut(text(), 100_000, show));
  };
  const panel = el(
    "details",
    { class: "panel", on: { toggle: () => panel.open && draw() } },
    el("summary", {}, "This call as code"),
    el("div", { class: "toolbar" }, tabs, copyButton(text, "Copy", "the code")),
    holder,
  );
  panel.refresh = () => panel.open && draw();
  return panel;
}
