// What is around a page: the switches in its top bar, the sign-in, and who says what has happened.
import { accessFields } from "./access.js";
import { el } from "./dom.js";
import { setRemember } from "./keep.js";
import { set, watch } from "./store.js";

/** Make the switches between light and dark, and for keeping things on this computer. */
export function switches() {
  const theme = el(
    "select",
    { "aria-label": "Light or dark", class: "small", on: { change: () => set({ theme: theme.value }) } },
    [
      ["", "System"],
      ["light", "Light"],
      ["dark", "Dark"],
    ].map(([value, text]) => el("option", { value }, text)),
  );
  watch("theme", (chosen) => {
    theme.value = chosen;
    if (chosen) document.documentElement.dataset.theme = chosen;
    else delete document.documentElement.dataset.theme;
  });
  const remember = el("input", {
    type: "checkbox",
    id: "remember",
    on: { change: () => setRemember(remember.checked) },
  });
  const label = el("label", {
    for: "remember",
    title:
      "Tokens, headers, history and the look, for this service on this computer, until this is taken back",
  });
  watch("remember", (yes) => {
    remember.checked = yes;
    label.textContent = yes ? "Remembered: untick to forget" : "Remember on this computer";
  });
  return [el("span", { class: "keep" }, remember, label), theme];
}

/** Make the form that asks for what the service wants to see, and proceeds with it. */
export function signInView(title, tried, proceed) {
  const form = el(
    "form",
    {
      on: {
        submit: (event) => {
          event.preventDefault();
          proceed();
        },
      },
    },
    accessFields(),
    el("div", { class: "actions" }, el("button", { class: "primary" }, "Continue")),
  );
  return el(
    "article",
    { class: "page sign-in" },
    el("h1", { tabindex: "-1" }, title),
    el("p", {}, "Give what the service wants of those who may call its private methods."),
    tried ? el("p", { class: "fault", role: "alert" }, "The service did not accept it.") : null,
    form,
  );
}

/** Put a page together. */
export function showPage(main, ...around) {
  document.body.replaceChildren(
    el(
      "a",
      {
        href: "#main",
        class: "skip",
        on: {
          click: (event) => {
            event.preventDefault();
            main.focus();
          },
        },
      },
      "Skip to the content",
    ),
    ...around,
    el("div", { id: "announcer", role: "status", class: "unseen" }),
  );
}
