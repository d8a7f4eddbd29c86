// Events: what the service emits and handles, emitting one, what was handled, the dead letters.
import { answerView } from "./answer.js";
import { faultsOf } from "./check.js";
import { announce, atCtrlEnter, button, cut, el, fold, newId, oneAtATime, pageView, plain } from "./dom.js";
import { LEFT_OUT, makeField } from "./form.js";
import { parse, write } from "./json.js";
import { codeBlock, markdown } from "./markdown.js";
import { ask } from "./send.js";
import { get } from "./store.js";
import { faultsTold } from "./tryit.js";
import { typeView } from "./types.js";

const isPattern = (name) => /[*#]/.test(name);

export function eventView(event) {
  const told =
    event.action === "emits"
      ? "The service emits this event."
      : event.everyInstance
        ? "Every running instance of the service handles this event."
        : "One instance of the service handles this event.";
  return el(
    "article",
    { class: "page event" },
    el(
      "header",
      {},
      el("p", { class: "eyebrow" }, event.action === "emits" ? "Emitted event" : "Handled event"),
      el("h1", { tabindex: "-1" }, plain(event.name)),
      event.summary ? el("div", { class: "lead" }, markdown(event.summary)) : null,
      el("p", { class: "quiet" }, told),
      event.description ? markdown(event.description) : null,
    ),
    el("section", {}, el("h2", {}, "Body"), typeView(event.schema, event.types)),
    get("about")?.may_emit ? emitView(event) : null,
  );
}

function emitView(event) {
  const nameId = newId();
  const name = el("input", {
    id: nameId,
    type: "text",
    value: event.name,
    autocomplete: "off",
    spellcheck: "false",
  });
  const work = el("input", { type: "checkbox" });
  const field = makeField("body", event.schema, {
    types: event.types,
    edited: () => field.clear(),
    required: true,
    refs: new Set(),
  });
  const answer = el("div", { class: "answers" });
  const place = (faults) => {
    field.clear();
    for (const { steps, text } of faults) field.place(steps, text);
  };
  const send = oneAtATime(async () => {
    const body = field.value() === LEFT_OUT ? null : field.value();
    const problems = [...field.problems([]), ...faultsOf(body, event.schema, event.types)];
    place(problems);
    if (problems.length) return void announce(`${problems.length} faults: nothing was emitted`);
    try {
      const id = await ask("rpc.explorer.emit", { name: name.value, body, broadcast: !work.checked });
      answer.replaceChildren(
        el("p", { class: "answer good" }, el("strong", {}, "Emitted"), " as ", el("code", {}, plain(id))),
      );
      announce("Emitted");
    } catch (error) {
      place(
        faultsTold(error)
          .filter(({ steps }) => steps[0] === "body")
          .map(({ steps, text }) => ({ steps: steps.slice(1), text })),
      );
      answer.replaceChildren(answerView({ content: { error } }));
      announce(`Not emitted: ${error.message}`);
    }
  });
  return el(
    "section",
    {
      class: "try",
      "aria-labelledby": "emit-title",
      on: { keydown: atCtrlEnter(send) },
    },
    el("h2", { id: "emit-title" }, "Emit one"),
    el("p", { class: "quiet" }, "It goes to everybody who handles it, as one of the service's own."),
    isPattern(event.name)
      ? el(
          "div",
          { class: "field" },
          el("div", { class: "head" }, el("label", { class: "name", for: nameId }, "Name")),
          name,
        )
      : null,
    field.element,
    el("label", { class: "check" }, work, " as work: one worker gets it"),
    el("div", { class: "actions" }, button("Emit", send, { class: "primary" })),
    answer,
  );
}

/** Make a page that asks for something, and shows it or why not. */
function asking(title, told, method, show) {
  const holder = el("div");
  const load = async () => {
    try {
      const found = await ask(method);
      holder.replaceChildren(
        ...(found.length ? found.map((each) => show(each, load)) : [el("p", {}, "There are none.")]),
      );
      announce(`${found.length} found`);
    } catch (error) {
      holder.replaceChildren(answerView({ content: { error } }));
    }
  };
  load();
  return pageView(title, button("Load again", load, { class: "quiet" }), told, holder);
}

const when = (seconds) => (seconds == null ? "" : new Date(seconds * 1000).toLocaleString());

function bodyView(text) {
  try {
    return codeBlock(write(parse(text), 2), "Body");
  } catch {
    return codeBlock(text ?? "", "Body");
  }
}

export const handledView = () =>
  asking(
    "Handled events",
    "The newest 50 that the process has handled which answered: of several workers each has its own.",
    "rpc.explorer.handled",
    (one) =>
      el(
        "section",
        { class: "card" },
        el(
          "div",
          { class: "bar" },
          el("h2", {}, plain(one.name)),
          el(
            "span",
            { class: one.error || one.dead ? "badge bad" : "badge good" },
            one.dead ? `dead: ${plain(one.dead)}` : one.error ? "failed" : "handled",
          ),
        ),
        el(
          "p",
          { class: "quiet" },
          plain(
            `${when(one.time)} · ${one.handler ?? "no handler"} · ${(one.seconds * 1000).toFixed(1)} ms · ${one.id ?? ""}`,
          ),
        ),
        one.error ? el("p", { class: "message" }, cut(plain(one.error), 1000)) : null,
        one.again_in != null
          ? el("p", { class: "quiet" }, `It is tried again ${Number(one.again_in)} s later.`)
          : null,
        one.body == null ? null : fold("Body", () => bodyView(one.body)),
      ),
  );

export const deadLettersView = () =>
  asking(
    "Dead letters",
    "Events that no attempt could handle. Replaying puts one back to its handler, as if for the first time.",
    "rpc.explorer.dead_letters",
    (one, load) => {
      const told = el("span", { role: "status" });
      const replay = button(
        "Replay",
        async () => {
          replay.disabled = true;
          try {
            const count = await ask("rpc.explorer.replay", { store: one.store, id: one.id });
            announce(`${count} put back`);
            await load();
          } catch (error) {
            replay.disabled = false;
            told.textContent = plain(error.data?.parameters?.[0]?.reason ?? error.message);
          }
        },
        { "aria-label": `Replay ${one.name}` },
      );
      return el(
        "section",
        { class: "card" },
        el(
          "div",
          { class: "bar" },
          el("h2", {}, plain(one.name)),
          el("span", { class: "badge bad" }, plain(one.reason)),
          replay,
        ),
        el("p", { class: "message" }, cut(plain(one.error), 1000)),
        told,
        el(
          "p",
          { class: "quiet" },
          plain(
            `${when(one.died)} · ${one.handler ?? "all handlers"} · ${one.attempts} ${one.attempts === 1 ? "attempt" : "attempts"} · from ${one.emitter ?? "?"} · ${one.store} · ${one.id}`,
          ),
        ),
        one.traceback ? fold("Traceback", () => codeBlock(one.traceback, "Traceback")) : null,
        fold("Body", () => bodyView(one.body)),
      );
    },
  );
