// The status page: what the service is at, in all of its workers, asked for again and again. What is
// there already is changed and not made anew: focus, selection and what is open stay.
import { hasCredentials, headersOf, withCookies } from "./access.js";
import { announce, button, el, plain } from "./dom.js";
import { showPage, signInView, switches } from "./frame.js";
import { startKeeping } from "./keep.js";
import { set } from "./store.js";

const EVERY = 2000; // milliseconds

// Words

const number = (value) => (value ?? 0).toLocaleString("en", { maximumFractionDigits: 2 });

function clock(time) {
  if (time == null) return "";
  const [date, hour] = new Date(time * 1000).toLocaleString("sv").split(" "); // as ISO 8601 writes them
  return date === new Date().toLocaleDateString("sv") ? hour : `${date} ${hour}`;
}

function duration(seconds) {
  if (seconds == null) return "–";
  if (seconds < 1) return `${Number((seconds * 1000).toPrecision(3))} ms`;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const [minutes, hours] = [Math.floor(seconds / 60), Math.floor(seconds / 3600)];
  if (hours < 1) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} days`;
}

const put = (node, text) => {
  const written = plain(text ?? "");
  if (node.textContent !== written) node.textContent = written;
};

// Cells: what each is made of, and how it is brought up to date with what its row tells

const text = (head, show) => ({ head, make: () => el("td"), show: (cell, row) => put(cell, show(row)) });
const amount = (head, show) => ({
  ...text(head, show),
  number: true,
  make: () => el("td", { class: "number" }),
});
const mark = (head, show) => ({
  head,
  make: () => el("td", {}, el("span", { class: "badge" })),
  show: (cell, row) => {
    const [words, kind] = show(row);
    cell.firstChild.className = `badge ${kind}`;
    put(cell.firstChild, words);
  },
});
/** Make a cell of a short text that unfolds a long one; `show` gives both. */
const unfolding = (head, show) => ({
  head,
  make: () =>
    el(
      "td",
      {},
      el(
        "details",
        {},
        el("summary"),
        el("pre", { tabindex: "0", role: "group", "aria-label": head }, el("code")),
      ),
    ),
  show: (cell, row) => {
    const [short, long] = show(row);
    const [summary, block] = cell.firstChild.children;
    put(summary, short);
    put(block.firstChild, long);
    cell.firstChild.hidden = !short;
  },
});

/** Make a section with a table; what it returns brings it up to date. */
function section(title, columns, keyOf, { none = null, folded = false } = {}) {
  const body = el("tbody");
  const head = el(
    "tr",
    {},
    columns.map((each) => el("th", { scope: "col", class: each.number ? "number" : null }, each.head)),
  );
  const holder = el(
    "div",
    { class: "table", tabindex: "0", role: "region", "aria-label": title },
    el("table", {}, el("thead", {}, head), body),
  );
  const empty = el("p", { class: "quiet" }, none);
  const made = folded
    ? el("section", {}, el("details", { class: "panel" }, el("summary", {}, title), holder))
    : el("section", {}, el("h2", {}, title), holder, empty);
  main.append(made);
  const known = new Map();
  return (rows) => {
    const keys = new Set();
    let at = body.firstChild;
    for (const row of rows) {
      let key = String(keyOf(row));
      while (keys.has(key)) key += "+";
      keys.add(key);
      let line = known.get(key);
      if (!line)
        known.set(
          key,
          (line = el(
            "tr",
            {},
            columns.map((each) => each.make()),
          )),
        );
      columns.forEach((each, index) => each.show(line.children[index], row));
      if (line === at) at = at.nextSibling;
      else body.insertBefore(line, at);
    }
    for (const [key, line] of known) {
      if (keys.has(key)) continue;
      known.delete(key);
      line.remove();
    }
    holder.hidden = !rows.length;
    empty.hidden = !!rows.length;
    made.hidden = !rows.length && !none;
  };
}

// The page

const main = el("main", { id: "main", tabindex: "-1" });
const home = el("span", { class: "home" }, "Status");
const name = el("h1", { tabindex: "-1" });
const state = el("span", { class: "badge" });
const trouble = el("p", { class: "fault", role: "status", hidden: true });
const when = el("span", { class: "quiet" });
const pausing = button("Pause", () => pause(!paused), { "aria-pressed": "false" });
let paused = false;
let timer = 0;
let update = null;

const calls = (minute, title) => [
  text(title, (row) => row.name),
  amount("Per second", (row) => number(row.minute.per_second)),
  ...["p50", "p95", "p99"].map((each) => amount(each, (row) => duration(row.minute[each] ?? row[each]))),
  amount("Max", (row) => duration(row.calls ? row.max : null)),
  amount("Calls", (row) => number(row.calls)),
  amount("Errors", (row) => number(row.errors)),
  amount(minute, (row) => number(row.minute.errors)),
  amount("Refused", (row) => number(row.refused)),
];
const work = (row) => row.method ?? row.handler;
const worker = text("Worker", (row) => row.pid);
const COLOURS = { pass: "good", warn: "warn", fail: "bad", running: "good" };

/** Make the sections; return what brings them up to date. */
function sections() {
  main.replaceChildren(
    el("header", { class: "bar" }, el("div", {}, name, el("p", {}, state, " ", when)), pausing),
    trouble,
  );
  const minute = "Errors, last minute";
  const parts = {
    workers: section(
      "Workers",
      [
        text("Process", (row) => row.pid),
        mark("State", (row) =>
          row.answers ? [row.state, COLOURS[row.state] ?? "warn"] : ["does not answer", "bad"],
        ),
        amount("Up for", (row) => duration(row.uptime)),
        amount("Calls in flight", (row) =>
          row.answers ? `${number(row.running)} of ${number(row.places)}` : "",
        ),
        amount("Waiting", (row) => (row.answers ? number(row.waiting) : "")),
        amount("Lag", (row) => (row.answers ? duration(row.lag) : "")),
        unfolding("Held by", (row) =>
          row.held_by ? [`for ${duration(row.held_for)}`, row.held_by] : ["", ""],
        ),
      ],
      (row) => row.pid,
    ),
    methods: section("Methods", calls(minute, "Method"), (row) => row.name, { none: "No calls yet." }),
    in_flight: section(
      "In flight",
      [
        text("Method or handler", work),
        amount("Age", (row) => duration(row.age)),
        unfolding("Is at", (row) => [
          row.waits_for ? `waits for ${row.waits_for}` : "runs",
          row.stack.join("\n"),
        ]),
        text("Request", (row) => row.request_id),
        worker,
      ],
      (row) => `${row.pid} ${row.request_id} ${work(row)}`,
      { none: "Nothing runs." },
    ),
    errors: section(
      "Recent errors",
      [
        text("Time", (row) => clock(row.time)),
        text("Method or handler", work),
        unfolding("Error", (row) => [
          `${row.error}: ${row.text}`.slice(0, 200) + (row.times > 1 ? ` (${row.times} times)` : ""),
          `${row.arguments == null ? "" : `Arguments: ${row.arguments}\n\n`}${row.traceback || row.text}`,
        ]),
        text("Error id", (row) => row.error_id ?? row.event_id),
        text("Request", (row) => row.request_id),
        worker,
      ],
      (row) => `${row.pid} ${row.time} ${work(row)}`,
      { none: "None." },
    ),
    handlers: section("Events", calls(minute, "Handler").slice(0, -1), (row) => row.name),
    queues: section(
      "Queues",
      [
        text("Queue", (row) => row[0]),
        amount("Events that wait", (row) => (typeof row[1] === "number" ? number(row[1]) : row[1])),
      ],
      (row) => row[0],
    ),
    periodic: section(
      "Periodic tasks",
      [
        text("Task", (row) => row.name),
        amount("Every", (row) => duration(row.every)),
        text("Last run", (row) => clock(row.last)),
        amount("Took", (row) => duration(row.seconds)),
        text("Next run", (row) => (row.running ? "runs" : clock(row.next))),
        text("Failure", (row) => row.failure),
        worker,
      ],
      (row) => `${row.pid} ${row.name}`,
    ),
    blocks: section(
      "What held the hub",
      [text("Time", (row) => clock(row.time)), text("What", (row) => row.text), worker],
      (row) => `${row.pid} ${row.time}`,
    ),
    registries: section(
      "Registries",
      [
        text("Registry", (row) => row.componentId),
        mark("State", (row) => [row.status, COLOURS[row.status]]),
        text("At", (row) => clock(Date.parse(row.time) / 1000)),
        text("Why", (row) => row.output),
        worker,
      ],
      (row) => `${row.pid} ${row.componentId}`,
    ),
    checks: section(
      "Health",
      [
        text("What", (row) => [row.name, row.componentId].filter(Boolean).join(" ")),
        mark("State", (row) => [row.status, COLOURS[row.status]]),
        text("Observed", (row) =>
          row.observedValue === undefined
            ? ""
            : `${JSON.stringify(row.observedValue)} ${row.observedUnit ?? ""}`,
        ),
        text("Why", (row) => row.output),
        worker,
      ],
      (row) => `${row.pid} ${row.name} ${row.componentId}`,
    ),
    configuration: section(
      "Configuration",
      [
        text("Setting", (row) => row.name),
        text("Value", (row) => row.value),
        text("Source", (row) => row.source),
      ],
      (row) => row.name,
      { folded: true },
    ),
  };
  return (told) => {
    const [events, outbox] = [told.events.value, told.outbox.value];
    const queues = [
      ...Object.entries(events?.backlog ?? {}),
      ...Object.entries(events?.dead_letters ?? {}).map(([queue, count]) => [
        `dead letters: ${queue}`,
        count,
      ]),
    ];
    if (told.events.failure) queues.push(["not known", told.events.failure]);
    if (told.outbox.failure) queues.push(["outbox: not known", told.outbox.failure]);
    if (outbox) {
      const age = outbox.oldest === null ? "" : `, the oldest for ${duration(told.time - outbox.oldest)}`;
      queues.push([`outbox${age}`, outbox.pending], ["outbox: refused", outbox.refused]);
    }
    const checks = told.workers.flatMap(({ pid, health }) => {
      if (health?.failure) return [{ pid, name: "health", status: "fail", output: health.failure }];
      return Object.entries(health?.value?.checks ?? {}).flatMap(([name, all]) =>
        all.map((each) => ({ pid, name, ...each })),
      );
    });
    const worst = checks.find((each) => each.status === told.status && each.status !== "pass");
    const rows = { ...told, queues, checks };
    for (const [key, show] of Object.entries(parts)) show(rows[key]);
    put(name, told.name);
    put(home, told.name);
    document.title = `Status – ${plain(told.name)}`;
    put(state, worst?.output ? `${told.status}: ${worst.output}` : told.status);
    state.className = `badge ${COLOURS[told.status]}`;
    put(when, `${told.version} · as of ${clock(told.time)}`);
  };
}

// Asking

function pause(yes) {
  paused = yes;
  clearTimeout(timer);
  pausing.setAttribute("aria-pressed", String(yes));
  announce(yes ? "Paused" : "Goes on");
  if (!yes) read();
}

/** Ask once, and again in a while, unless the page is paused or not seen. */
async function read() {
  clearTimeout(timer);
  try {
    const reply = await withCookies(() =>
      fetch(location.pathname, {
        headers: [["Accept", "application/json"], ...headersOf()],
        cache: "no-store",
        redirect: "error",
        referrerPolicy: "no-referrer",
      }),
    );
    if (reply.status === 401) return void signIn((await reply.json()).tokens);
    if (!reply.ok) throw new Error(`HTTP ${reply.status}`);
    const told = await reply.json();
    update ??= sections();
    update(told);
    trouble.hidden = true;
  } catch (error) {
    if (!update) main.replaceChildren(el("h1", { tabindex: "-1" }, "Status"), trouble);
    put(trouble, `The service does not answer: ${error.message}`);
    trouble.hidden = false;
  }
  clearTimeout(timer);
  if (!paused && !document.hidden) timer = setTimeout(read, EVERY);
}

function signIn(tokens) {
  const tried = hasCredentials();
  update = null;
  set({ tokens });
  if (!tried && hasCredentials()) return void read(); // it was kept
  const view = signInView("This status page is private", tried, read);
  main.replaceChildren(view);
  view.querySelector("input")?.focus();
}

showPage(
  main,
  el("header", { class: "top" }, home, el("span", { class: "grow" }), switches()),
  el("div", { class: "status" }, main),
);
document.addEventListener("visibilitychange", () => {
  clearTimeout(timer);
  if (!document.hidden && !paused) read();
});
startKeeping();
read();
