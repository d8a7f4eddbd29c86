// Tokens and headers that go with every request. They stay in memory, unless they are to be kept.
import { button, el, newId, plain, revealButton } from "./dom.js";
import { get, set, watch } from "./store.js";

const keyOf = (token) => `${token.kind} ${token.name}`;

function base64(text) {
  return btoa(String.fromCharCode(...new TextEncoder().encode(text)));
}

/** List the headers as [name, value]. */
export function headersOf() {
  const found = [];
  for (const token of get("tokens")) {
    const value = get("credentials")[keyOf(token)] ?? "";
    if (!value || token.kind === "cookie") continue;
    const written = { bearer: (one) => `Bearer ${one}`, basic: (one) => `Basic ${base64(one)}` }[token.kind];
    found.push([token.name, written ? written(value) : value]);
  }
  for (const { name, value } of get("headers")) if (name.trim()) found.push([name.trim(), value]);
  return once(found);
}

/** Of headers of one name keep the last one, as browsers do. */
export const once = (headers) => [...new Map(headers.map((one) => [one[0].toLowerCase(), one])).values()];

/** The seconds that a call may take, as they are chosen; 0 where nothing is, or no number. */
export function chosenDeadline() {
  const seconds = Number(get("deadline"));
  return seconds > 0 && seconds < 1e9 ? seconds : 0;
}

/** The headers that say so. */
export function deadlineHeaders() {
  const seconds = chosenDeadline();
  return seconds ? [["X-Gemstone-Deadline", String(Math.max(1, Math.round(seconds * 1000)))]] : [];
}

/** The cookies as [name, value]. */
export function cookiesOf() {
  return get("tokens")
    .filter((token) => token.kind === "cookie" && get("credentials")[keyOf(token)])
    .map((token) => [token.name, get("credentials")[keyOf(token)]]);
}

/** Run what sends a request, while the token that stands in a cookie is one. */
export async function withCookies(send) {
  const path = location.pathname.replace(/\/docs\/?$/, "") || "/";
  const cookies = cookiesOf();
  for (const [name, value] of cookies) document.cookie = `${name}=${value}; path=${path}; SameSite=Strict`;
  try {
    return await send();
  } finally {
    for (const [name] of cookies) document.cookie = `${name}=; path=${path}; max-age=0; SameSite=Strict`;
  }
}

export const hasCredentials = () => headersOf().length > 0 || cookiesOf().length > 0;

/** Make the fields for tokens, and for any other headers. */
export function accessFields() {
  const holder = el("div", { class: "access" });
  const draw = () => {
    const put = (token, value) => set({ credentials: { ...get("credentials"), [keyOf(token)]: value } });
    const tokens = get("tokens").map((token) => {
      const id = newId();
      const [label, where] = {
        header: [token.name, "header"],
        bearer: ["Bearer token", "header Authorization"],
        basic: ["User and password", "as user:password, header Authorization"],
        cookie: [token.name, "cookie"],
      }[token.kind];
      const field = el("input", {
        id,
        type: "password",
        autocomplete: "off",
        spellcheck: "false",
        value: get("credentials")[keyOf(token)] ?? "",
        on: { input: () => put(token, field.value) },
      });
      return el(
        "div",
        { class: "field" },
        el(
          "div",
          { class: "head" },
          el(
            "label",
            { for: id, class: "name" },
            plain(label),
          ),
          el("span", { class: "quiet" }, where),
        ),
        el("div", { class: "row" }, field, revealButton(field, label)),
      );
    });
    const rows = get("headers").map((header, at) => {
      const change = (changes) =>
        set({ headers: get("headers").map((one, index) => (index === at ? { ...one, ...changes } : one)) });
      return el(
        "div",
        { class: "entry" },
        el("input", {
          type: "text",
          class: "key",
          value: header.name,
          "aria-label": "Name of a header",
          placeholder: "X-Header",
          autocomplete: "off",
          spellcheck: "false",
          on: { input: (event) => change({ name: event.target.value }) },
        }),
        el("input", {
          type: "text",
          value: header.value,
          "aria-label": "Value of the header",
          placeholder: "value",
          autocomplete: "off",
          spellcheck: "false",
          on: { input: (event) => change({ value: event.target.value }) },
        }),
        button(
          "×",
          () => {
            set({ headers: get("headers").filter((_, index) => index !== at) });
            draw();
            holder.querySelector(".adder").focus();
          },
          { class: "quiet remove", "aria-label": "Remove this header" },
        ),
      );
    });
    holder.replaceChildren(
      ...tokens,
      ...rows,
      button(
        "Add a header",
        () => {
          set({ headers: [...get("headers"), { name: "", value: "" }] });
          draw();
          holder.querySelectorAll(".key")[get("headers").length - 1].focus();
        },
        { class: "quiet adder" },
      ),
    );
  };
  let shown = null;
  watch(
    "tokens",
    (tokens) => {
      if (shown !== tokens) draw();
      shown = tokens;
    },
    holder,
  );
  return holder;
}

/** Make the panel of tokens, headers and the deadline, to unfold. */
export function accessPanel(isPrivate) {
  const id = newId();
  const told = el("span", { class: "quiet" });
  const deadline = el("input", {
    id,
    type: "text",
    inputmode: "decimal",
    placeholder: "the method's own",
    value: get("deadline"),
    on: { input: () => set({ deadline: deadline.value }) },
  });
  const tell = () => {
    const count = headersOf().length + cookiesOf().length;
    told.textContent = count
      ? ` · ${count} sent with each call`
      : isPrivate
        ? " · this method wants a token"
        : "";
  };
  const panel = el(
    "details",
    { class: "panel", open: isPrivate && !hasCredentials() },
    el("summary", {}, "Token, headers, deadline", told),
    accessFields(),
    el(
      "div",
      { class: "field" },
      el(
        "div",
        { class: "head" },
        el("label", { for: id, class: "name" }, "Deadline"),
        el("span", { class: "quiet" }, "seconds"),
      ),
      deadline,
    ),
  );
  for (const key of ["credentials", "headers", "tokens"]) watch(key, tell, panel);
  return panel;
}
