// Several calls in one request.
import { answerView } from "./answer.js";
import { announce, atCtrlEnter, button, el, oneAtATime, pageView, plain } from "./dom.js";
import { remember } from "./history.js";
import { post, requestOf } from "./send.js";
import { get, set, watch } from "./store.js";

export function batchView() {
  const list = el("ol", { class: "batch" });
  const answers = el("section", { class: "answers", "aria-label": "Answers" });
  const actions = el("div", { class: "actions" });
  const page = pageView(
    "Batch",
    null,
    "Calls that go in one request and are answered in one. “Add to batch” at a method puts one here.",
    list,
    actions,
    answers,
  );
  page.addEventListener(
    "keydown",
    atCtrlEnter(() => send()),
  );
  const change = (at, changes) =>
    set({ batch: get("batch").map((one, index) => (index === at ? { ...one, ...changes } : one)) });

  const send = oneAtATime(async () => {
    const batch = get("batch");
    if (!batch.length) return;
    answers.replaceChildren(el("p", { class: "waiting" }, "Waiting for the answers…"));
    const reply = await post(
      batch.map((call, at) => requestOf(call, at + 1)),
      { hasDeadline: true },
    );
    const contract = get("contract");
    const all = Array.isArray(reply.content) ? reply.content : null;
    if (!all && reply.status !== 204) {
      answers.replaceChildren(answerView(reply, { contract }));
      announce("The batch was refused");
      return;
    }
    const views = batch.map((call, at) => {
      const content = all?.find((one) => one?.id === at + 1);
      const own = call.notify
        ? { ...reply, content: undefined, status: 204, statusText: "" }
        : { ...reply, content };
      remember(call, own);
      return el(
        "section",
        {},
        el("h2", {}, `${at + 1}. `, plain(call.method)),
        content || call.notify
          ? answerView(own, { contract, method: contract.method(call.method), notify: call.notify })
          : el("p", { class: "fault" }, "It was not answered."),
      );
    });
    // Faults of what was not even read have no id.
    const others = (all ?? [])
      .filter((one) => one?.id == null)
      .map((content) => answerView({ ...reply, content }, { contract }));
    answers.replaceChildren(...views, ...others);
    announce(`${batch.length} sent, ${all?.length ?? 0} answered`);
  });

  watch(
    "batch",
    (batch) => {
      list.replaceChildren(
        ...batch.map((call, at) =>
          el(
            "li",
            {},
            el(
              "div",
              { class: "entry" },
              el("strong", {}, plain(call.method)),
              el("code", { class: "quiet clip" }, plain(get("contract").textOf(call).slice(0, 200))),
              el(
                "label",
                { class: "check" },
                el("input", {
                  type: "checkbox",
                  checked: Boolean(call.notify),
                  on: { change: (event) => change(at, { notify: event.target.checked }) },
                }),
                " notification",
              ),
              button(
                "×",
                () => {
                  set({ batch: get("batch").filter((_, index) => index !== at) });
                  page.querySelector("h1").focus();
                },
                { class: "quiet remove", "aria-label": `Remove ${call.method} from the batch` },
              ),
            ),
          ),
        ),
      );
      const most = get("about")?.max_batch_size;
      actions.replaceChildren(
        ...(batch.length
          ? [
              button(`Send ${batch.length}`, send, { class: "primary" }),
              button("Empty it", () => set({ batch: [] }), { class: "quiet" }),
              most && batch.length > most
                ? el("span", { class: "fault" }, `The service takes ${most} at most.`)
                : "",
            ]
          : [el("p", {}, "It is empty.")]),
      );
    },
    page,
  );
  return page;
}
