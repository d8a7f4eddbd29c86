// The page. Reading order: `store` (what the page knows), `dom` (elements), `contract` (what the
// service promises), `send` and `access` (requests), then what is shown: `list`, `overview`, `method`
// with `tryit` (`form`, `editors` and `containers` from schemas, held against them by `check`), `answer`, `code`,
// `batch`, `history`, `events`. Texts become text by `dom` and `markdown`; `keep` is the one who
// stores anything. `frame` is what the status page (`status`) has around it, too.
import { hasCredentials } from "./access.js";
import { batchView } from "./batch.js";
import { Contract } from "./contract.js";
import { afterwards, button, el, plain } from "./dom.js";
import { deadLettersView, eventView, handledView } from "./events.js";
import { showPage, signInView, switches } from "./frame.js";
import { historyView } from "./history.js";
import { parse } from "./json.js";
import { startKeeping } from "./keep.js";
import { readLink, readParams } from "./links.js";
import { listView } from "./list.js";
import { methodView } from "./method.js";
import { overview } from "./overview.js";
import { ask, fetchBelow } from "./send.js";
import { get, set, watch } from "./store.js";

const main = el("main", { id: "main", tabindex: "-1" });
const notice = el("p", { class: "notice", role: "alert", hidden: true, on: { click: () => (notice.hidden = true) } });
const side = el("div", { class: "side" });
const menu = button("Methods", () => showList(side.dataset.open !== "true"), {
  class: "menu",
  "aria-expanded": "false",
  "aria-controls": "side",
});
side.id = "side";

function showList(yes) {
  side.dataset.open = String(yes);
  menu.setAttribute("aria-expanded", String(yes));
}

function topBar() {
  const batch = el("a", { href: "#batch" });
  watch("batch", (all) => {
    batch.textContent = all.length ? `Batch (${all.length})` : "Batch";
  });
  const extras = el("span", { class: "extras" });
  watch("about", (about) =>
    extras.replaceChildren(
      ...(about?.handled ? [el("a", { href: "#handled" }, "Handled")] : []),
      ...(about?.dead_letters ? [el("a", { href: "#dead-letters" }, "Dead letters")] : []),
    ),
  );
  const pages = el("nav", { "aria-label": "Pages" }, batch, el("a", { href: "#history" }, "History"), extras);
  const home = el("a", { href: "#", class: "home" }, "Explorer");
  watch("contract", (contract) => {
    home.textContent = contract ? plain(contract.title.slice(0, 80)) : "Explorer";
    pages.hidden = menu.hidden = !contract;
  });
  return el("header", { class: "top" }, menu, home, pages, switches());
}

/** Show what the address says. */
function show({ focus = true } = {}) {
  const link = readLink();
  const contract = get("contract");
  set({ link });
  const [view, title] = shown(() => viewOf(link, contract));
  document.title = title ? `${plain(title.slice(0, 100))} – ${plain(contract.title)}` : plain(contract.title);
  main.replaceChildren(view);
  showList(false);
  document.body.dataset.home = String(!link.kind);
  main.scrollTop = 0;
  scrollTo(0, 0);
  if (focus) main.querySelector("h1")?.focus({ preventScroll: true });
}

/** Make a view; or the page that says that it cannot be made, so that the others stay. */
function shown(make) {
  try {
    return make();
  } catch (error) {
    return [faultView("This cannot be shown", error), ""];
  }
}

function viewOf(link, contract) {
  if (link.kind === "method" && contract.method(link.name))
    return [methodView(contract.method(link.name), readParams(link.params)), link.name];
  const event = (link.kind === "emits" || link.kind === "handles") && contract.event(link.kind, link.name);
  if (event) return [eventView(event), link.name];
  const pages = {
    "": [overview, ""],
    batch: [batchView, "Batch"],
    history: [historyView, "History"],
    handled: [handledView, "Handled events"],
    "dead-letters": [deadLettersView, "Dead letters"],
  };
  if (Object.hasOwn(pages, link.kind) && !link.name) return [pages[link.kind][0](), pages[link.kind][1]];
  return [
    el(
      "article",
      { class: "page" },
      el("h1", { tabindex: "-1" }, "Not here"),
      el(
        "p",
        {},
        "The service has nothing of that name",
        contract.methods.some((one) => one["x-private"])
          ? "."
          : ", or shows it to those only who have a token.",
      ),
      el("p", {}, el("code", {}, plain(`${link.kind} ${link.name}`.slice(0, 300)))),
    ),
    "Not here",
  ];
}

/** Read what the service says of itself, and show it; ask for a token where it says nothing. */
async function read() {
  let about = null;
  try {
    about = await ask("rpc.explorer.about");
  } catch (error) {
    if (error.code === -32001) return void signIn(error.data?.tokens ?? []);
    if (error.code !== -32601) return void failed(error);
  }
  try {
    set({ about, tokens: about?.tokens ?? [] });
    await readContract();
  } catch (error) {
    return void failed(error);
  }
  show({ focus: false });
}

/** Read the documents; change the list if they say something else now. */
async function readContract() {
  const texts = await Promise.all(
    ["openrpc.json", "asyncapi.json"].map(async (name) => (await fetchBelow(name)).text()),
  );
  if (texts.join() === get("documents")) return;
  set({ documents: texts.join(), contract: new Contract(...texts.map(parse)) });
  side.replaceChildren(listView(get("contract")));
}

// Who has a token may see more.
const reread = afterwards(() => get("contract") && readContract().catch(() => {}), 700);
for (const key of ["credentials", "headers"]) watch(key, reread);

const faultView = (title, error, ...rest) =>
  el(
    "article",
    { class: "page" },
    el("h1", { tabindex: "-1" }, title),
    el("p", { class: "message" }, plain(error.message ?? String(error))),
    rest,
  );

function failed(error) {
  const again = button("Try again", read, { class: "primary" });
  main.replaceChildren(faultView("The service does not answer", error, again));
}

/** Ask for a token; nothing of the service is shown before it is right. */
function signIn(tokens) {
  const tried = hasCredentials();
  set({ tokens, contract: null, documents: "" });
  side.replaceChildren();
  const view = signInView("This explorer is private", tried, read);
  main.replaceChildren(view);
  view.querySelector("input")?.focus();
}

showPage(main, topBar(), el("div", { class: "columns" }, side, main), notice);

addEventListener("hashchange", () => get("contract") && show());
addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest?.("input, textarea, select")) return;
  const search = document.getElementById("search");
  if (!search) return;
  event.preventDefault();
  showList(true);
  search.focus();
  search.select();
});
function tellFault(fault) {
  notice.textContent = plain(`Something went wrong in this page: ${fault?.message ?? fault}`);
  notice.hidden = false;
}
addEventListener("unhandledrejection", ({ reason }) => tellFault(reason));
addEventListener("error", ({ error, message }) => tellFault(error ?? message));

startKeeping();
read();
