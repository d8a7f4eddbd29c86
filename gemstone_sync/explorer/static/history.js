// The last calls: which, when, and what came of them. What is secret is left out; answers are not kept.
import { outcomeOf } from "./answer.js";
import { button, el, pageView, plain } from "./dom.js";
import { linkTo, readParams } from "./links.js";
import { get, set } from "./store.js";

const MOST = 100;
const LONGEST = 20_000; // characters of params that are kept

/** Note a call and its reply. */
export function remember(call, reply) {
  if (reply.ms === undefined) return; // it was not sent
  const { method, notify } = call;
  const text = get("contract").textOf(call);
  const entry = {
    method,
    notify,
    time: Date.now(),
    ms: Math.round(reply.ms),
    params: text.length > LONGEST ? "{}" : text, // as text: numbers of any size
    outcome: notify && !reply.failed ? "notification" : outcomeOf(reply),
    good: !reply.failed && reply.content?.error == null,
  };
  set({ history: [entry, ...get("history")].slice(0, MOST) });
}

function clear() {
  set({ history: [] });
  location.hash = "#";
}

/** Show the calls, each with a link that fills them in again. */
export function historyView() {
  const all = get("history");
  return pageView(
    "History",
    all.length ? button("Clear", clear, { class: "quiet" }) : null,
    `The last ${MOST} calls of this page, without what is secret. Open one to send it again.`,
    all.length ? table(all) : el("p", {}, "Nothing was sent yet."),
  );
}

function table(all) {
  const titles = ["Time", "Call", "Outcome", "Took"];
  return el(
    "div",
    { class: "table" },
    el(
      "table",
      {},
      el("thead", {}, el("tr", {}, titles.map((title) => el("th", { scope: "col" }, title)))),
      el("tbody", {}, all.map(row)),
    ),
  );
}

function row(one) {
  const open = () => get("drafts").set(one.method, readParams(one.params));
  return el(
    "tr",
    {},
    el("td", {}, new Date(one.time).toLocaleTimeString()),
    el(
      "td",
      {},
      el("a", { href: linkTo("method", one.method), on: { click: open } }, plain(one.method)),
      el("code", { class: "quiet clip" }, plain(one.params.slice(0, 120))),
    ),
    el("td", {}, el("span", { class: one.good ? "badge good" : "badge bad" }, plain(one.outcome))),
    el("td", { class: "number" }, `${one.ms.toLocaleString("en")} ms`),
  );
}
