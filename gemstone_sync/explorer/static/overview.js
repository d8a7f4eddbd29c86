// The first page: what the service is, where to begin, and documents to take along.
import { isEverywhere } from "./contract.js";
import { badgesOf } from "./method.js";
import { announce, button, el, plain } from "./dom.js";
import { linkTo } from "./links.js";
import { markdown } from "./markdown.js";
import { endpoint, fetchBelow } from "./send.js";
import { get } from "./store.js";

const FIRST = 12; // methods that are shown here

const DOWNLOADS = [
  ["openrpc.json", "OpenRPC", "openrpc.json"],
  ["asyncapi.json", "AsyncAPI", "asyncapi.json"],
  ["docs/client.py", "Python client", "client.py"],
  ["docs/client.ts", "TypeScript client", "client.ts"],
  ["docs/contract.md", "Markdown", "contract.md"],
];

export function overview() {
  const contract = get("contract");
  // What every service has comes last.
  const own = contract.methods.filter((each) => !isEverywhere(each));
  const shown = (own.length ? own : contract.methods).slice(0, FIRST);
  const told = el("p", { class: "fault", role: "alert" });
  return el(
    "article",
    { class: "page overview" },
    el(
      "header",
      {},
      el(
        "h1",
        { tabindex: "-1" },
        plain(contract.title),
        contract.version ? el("span", { class: "version" }, plain(contract.version)) : null,
      ),
      markdown(contract.description),
      el("p", {}, el("code", { class: "quiet" }, plain(endpoint))),
    ),
    el(
      "section",
      {},
      el("h2", {}, "Methods"),
      el(
        "ul",
        { class: "cards" },
        shown.map((each) =>
          el(
            "li",
            {},
            el(
              "a",
              { href: linkTo("method", each.name), class: "card" },
              el("strong", {}, plain(each.name)),
              el("span", {}, badgesOf(each)),
              el("span", { class: "quiet" }, plain((each.summary ?? "").slice(0, 160))),
            ),
          ),
        ),
      ),
      contract.methods.length > shown.length
        ? el(
            "p",
            { class: "quiet" },
            `${contract.methods.length.toLocaleString("en")} in all: the list has them, and `,
            el("kbd", {}, "/"),
            " searches.",
          )
        : null,
    ),
    el(
      "section",
      {},
      el("h2", {}, "Take along"),
      el(
        "p",
        { class: "actions" },
        DOWNLOADS.map(([path, title, name]) =>
          button(title, () => download(path, name, told), { title: name }),
        ),
      ),
      told,
    ),
    el(
      "section",
      { class: "keys" },
      el("h2", {}, "Keys"),
      el(
        "p",
        {},
        el("kbd", {}, "/"),
        " search  ",
        el("kbd", {}, "↓"),
        " ",
        el("kbd", {}, "↑"),
        " in the list  ",
        el("kbd", {}, "Ctrl"),
        " ",
        el("kbd", {}, "Enter"),
        " send",
      ),
    ),
  );
}

/** Get a document with the tokens that were given, and save it. */
async function download(path, name, told) {
  told.textContent = "";
  try {
    const blob = await (await fetchBelow(path)).blob();
    const address = URL.createObjectURL(blob);
    const title = get("contract")
      .title.replace(/[^\w.-]/g, "_")
      .slice(0, 60);
    el("a", { href: address, download: `${title}-${name}` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 10_000);
    announce(`${name} saved`);
  } catch (error) {
    told.textContent = plain(error.message);
  }
}
