// The list at the left: methods in groups, events, and search in all of them.
import { el, fold, plain } from "./dom.js";
import { linkTo } from "./links.js";
import { find, indexOf } from "./search.js";
import { get, watch } from "./store.js";

const MOST_OPEN = 60; // methods up to which all groups are open
const MOST_FOUND = 100;
const TITLES = { __proto__: null, "": "methods", "\uffff": "every service has" };

export function listView(contract) {
  const entries = indexOf(contract);
  const found = el("div", { class: "found" });
  const count = el("p", { class: "quiet count", role: "status" });
  const search = el("input", {
    id: "search",
    type: "search",
    placeholder: "Search",
    autocomplete: "off",
    spellcheck: "false",
    "aria-keyshortcuts": "/",
    on: { input: () => draw() },
  });
  const groups = groupsOf(contract);

  function draw() {
    const query = search.value.trim();
    if (!query) {
      count.textContent = "";
      found.replaceChildren(...groups);
    } else {
      const matches = find(entries, query);
      count.textContent =
        matches.length > MOST_FOUND
          ? `${matches.length.toLocaleString("en")} found, the best ${MOST_FOUND} are shown`
          : `${matches.length} found`;
      found.replaceChildren(
        el(
          "ul",
          { class: "items" },
          matches.slice(0, MOST_FOUND).map(({ item, kind }) => itemOf(item, kind)),
        ),
      );
    }
    mark(get("link"));
  }

  /** Mark where we are; open the group that it is in. */
  function mark(link) {
    for (const each of found.querySelectorAll("[aria-current]")) each.removeAttribute("aria-current");
    if (!link?.name) return;
    const target = linkTo(link.kind, link.name);
    for (const group of groups) if (group.holds?.has(target)) group.open = true;
    // A group fills itself a moment after it is opened.
    requestAnimationFrame(() => {
      for (const each of found.querySelectorAll("a")) {
        if (each.getAttribute("href") !== target) continue;
        each.setAttribute("aria-current", "page");
        each.scrollIntoView({ block: "nearest" });
      }
    });
  }

  const nav = el(
    "nav",
    {
      id: "list",
      "aria-label": "Methods and events",
      on: {
        keydown: (event) => {
          if (event.key !== "ArrowDown" && event.key !== "ArrowUp") {
            if (event.key === "Escape" && search.value) {
              search.value = "";
              draw();
              search.focus();
            }
            return;
          }
          const all = [
            search,
            ...found.querySelectorAll("summary, details[open] a, ul.items > li > a"),
          ].filter((one) => one.checkVisibility?.() ?? true);
          const next = all[all.indexOf(document.activeElement) + (event.key === "ArrowDown" ? 1 : -1)];
          if (!next) return;
          event.preventDefault();
          next.focus();
        },
      },
    },
    el(
      "div",
      { class: "search", role: "search" },
      el("label", { for: "search", class: "unseen" }, "Search methods, events, parameters"),
      search,
      el("kbd", { "aria-hidden": "true" }, "/"),
    ),
    count,
    found,
  );
  search.addEventListener("keydown", (event) => {
    if (event.key === "Enter") found.querySelector("a")?.click();
  });
  draw();
  watch("link", mark, nav);
  return nav;
}

function itemOf(item, kind, told = true) {
  const isPrivate = item["x-private"];
  return el(
    "li",
    {},
    el(
      "a",
      { href: linkTo(kind, item.name), class: item.deprecated ? "deprecated" : null },
      el(
        "span",
        { class: "title" },
        plain(item.name),
        isPrivate ? el("span", { class: "lock", role: "img", "aria-label": "private" }) : null,
        kind === "method" || !told ? null : el("span", { class: "badge" }, kind),
      ),
      item.summary ? el("span", { class: "summary" }, plain(item.summary.slice(0, 140))) : null,
    ),
  );
}

function groupsOf(contract) {
  const all = contract.groups();
  const isOpen = contract.methods.length <= MOST_OPEN;
  const group = (title, items, kind, open) => {
    const made = fold(
      el("span", {}, plain(title.slice(0, 200)), el("span", { class: "count" }, String(items.length))),
      () =>
        el(
          "ul",
          { class: "items" },
          items.map((each) => itemOf(each, kind, false)),
        ),
      { class: "group", open },
    );
    made.holds = new Set(items.map((each) => linkTo(kind, each.name)));
    return made;
  };
  const found = all.map(([name, methods]) =>
    group(TITLES[name] ?? name, methods, "method", isOpen || all.length === 1),
  );
  for (const [action, title] of [
    ["emits", "events it emits"],
    ["handles", "events it handles"],
  ]) {
    const events = contract.events.filter((each) => each.action === action);
    if (events.length) found.push(group(title, events, action, events.length <= 30));
  }
  return found;
}
