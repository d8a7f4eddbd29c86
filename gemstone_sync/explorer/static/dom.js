// Elements. Every text becomes a text node: nothing here, or anywhere else, takes HTML.

/**
 * Make an element.
 * @param {string} tag
 * @param {object} props - `class`, `on: {event: function}`, `value`, `checked` and `open` are set as
 *   properties; true and false add or leave out an attribute; all else is an attribute.
 * @param {...(Node|string|null|Array)} children - null and undefined are left out.
 */
export function el(tag, props = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name === "on") {
      for (const [event, listen] of Object.entries(value)) made.addEventListener(event, listen);
    } else if (name === "value" || name === "checked" || name === "open") {
      made[name] = value;
    } else if (value === true) {
      made.setAttribute(name, "");
    } else if (value !== false && value != null) {
      made.setAttribute(name, value);
    }
  }
  for (const child of children.flat(Infinity)) if (child != null) made.append(child); // may be very many
  return made;
}

export function button(text, click, props = {}) {
  return el("button", { type: "button", ...props, on: { click } }, text);
}

/** Make the button that shows what stands in a field for secrets, and hides it again. */
export function revealButton(field, name) {
  const made = button(
    "Show",
    () => {
      field.type = field.type === "password" ? "text" : "password";
      made.textContent = field.type === "password" ? "Show" : "Hide";
    },
    { class: "quiet", "aria-label": `Show or hide ${name}` },
  );
  return made;
}

let numbers = 0;

/** Make an id that no other element has. */
export const newId = () => `e${++numbers}`;

/** Make a `details` whose content is made when it is first opened. */
export function fold(summary, make, props = {}) {
  const made = el("details", props, el("summary", {}, summary));
  const fill = () => {
    if (made.open && made.childElementCount === 1) made.append(...[make()].flat());
  };
  made.addEventListener("toggle", fill);
  fill();
  return made;
}

/** Characters of a text beyond which a field only shows its beginning. */
export const TOO_LONG = 200_000;

export const beginning = (text) =>
  `${plain(text.slice(0, 300))}… (${text.length.toLocaleString("en")} characters, too long to be edited here)`;

/** Make a text that is cut where it is long, with a button that shows the rest. */
export function cut(text, most, show = (part) => part) {
  if (text.length <= most) return [show(text)];
  const more = button(
    `Show all ${text.length.toLocaleString("en")} characters`,
    () => {
      holder.replaceChildren(show(text));
    },
    { class: "quiet" },
  );
  const holder = el("span", {}, show(`${text.slice(0, most)}…`), " ", more);
  return [holder];
}

// What reorders or hides the text beside it: control characters, marks of direction, invisible ones.
const TRICKY =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ufeff\uffa0\ufff9-\ufffb]|\udb40[\udc00-\udfff]/g;
const escape = (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`;

/** Write out the characters that would trick a reader. JSON stays the same JSON. */
export const plain = (text) => String(text).replace(TRICKY, (found) => found.split("").map(escape).join(""));

/** Make a function that calls another once nobody has called it for so many milliseconds. */
export function afterwards(run, milliseconds) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(run, milliseconds);
  };
}

/** Make a listener that runs something at Ctrl-Enter. */
export const atCtrlEnter = (run) => (event) => {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
  event.preventDefault();
  run();
};

/** Make a function that does nothing as long as an earlier call of it goes on. */
export function oneAtATime(run) {
  let goesOn = false;
  return async () => {
    if (goesOn) return;
    goesOn = true;
    try {
      await run();
    } finally {
      goesOn = false;
    }
  };
}

/** Make a page: a title, what can be done beside it, a line that tells what it is, and the rest. */
export const pageView = (title, tools, told, ...rest) =>
  el(
    "article",
    { class: "page" },
    el("div", { class: "bar" }, el("h1", { tabindex: "-1" }, title), tools),
    el("p", { class: "quiet" }, told),
    rest,
  );

/** Say something to those who do not see the page. */
export function announce(text) {
  const place = document.getElementById("announcer");
  if (place) place.textContent = text;
}

/** Put a text on the clipboard. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // a page without TLS has no clipboard of that kind
    const holder = el("textarea", { class: "unseen", "aria-hidden": "true", value: text });
    document.body.append(holder);
    const before = document.activeElement;
    holder.select();
    document.execCommand("copy");
    holder.remove();
    before?.focus();
  }
  announce("Copied");
}

export function copyButton(text, label = "Copy", what = "") {
  const made = button(
    label,
    async () => {
      await copy(typeof text === "function" ? text() : text);
      made.textContent = "Copied";
      setTimeout(() => {
        made.textContent = label;
      }, 1500);
    },
    { class: "quiet", "aria-label": what ? `${label} ${what}` : null },
  );
  return made;
}
