// Try a method: the form and the same params as JSON, sending, and the answer.
import { accessPanel } from "./access.js";
import { answerView, outcomeOf } from "./answer.js";
import { faultsOfParams } from "./check.js";
import { codeView } from "./code.js";
import { takesSecrets, withoutSecrets } from "./contract.js";
import { announce, atCtrlEnter, beginning, button, el, newId, plain, TOO_LONG } from "./dom.js";
import { makeForm } from "./form.js";
import { remember } from "./history.js";
import { parse, same, write } from "./json.js";
import { linkTo } from "./links.js";
import { post, requestOf } from "./send.js";
import { get, set } from "./store.js";

/** Make the panel for a method. `params` are those of a link, or undefined. */
export function tryView(method, params) {
  const contract = get("contract");
  let current = params;
  let unread = ""; // what is wrong with the JSON that is typed
  let sending = null;

  const form = makeForm(method, () => take(form.params(), "form"));
  const rawId = newId();
  const rawFault = el("p", { class: "fault", id: newId(), hidden: true });
  const raw = el("textarea", {
    id: rawId,
    class: "code",
    rows: "3",
    spellcheck: "false",
    autocomplete: "off",
    "aria-describedby": rawFault.id,
    on: {
      input: () => {
        try {
          unread = "";
          take(parse(raw.value), "raw");
        } catch (error) {
          unread = `This is no JSON: ${error.message}`;
        }
        tellUnread();
      },
    },
  });
  const tellUnread = () => {
    rawFault.textContent = unread;
    rawFault.hidden = !unread;
    raw.toggleAttribute("aria-invalid", false);
    if (unread) raw.setAttribute("aria-invalid", "true");
  };

  function showRaw() {
    const text = write(current, 2);
    raw.readOnly = text.length > TOO_LONG;
    raw.value = raw.readOnly ? beginning(text) : plain(text);
  }

  /** Take params from one of the two, and show them in the other. */
  function take(changed, from) {
    current = changed;
    if (from !== "raw") {
      showRaw();
      unread = "";
      tellUnread();
    }
    if (from !== "form") form.fill(current);
    anyway.hidden = true;
    form.clear();
    code.refresh();
    get("drafts").set(method.name, withoutSecrets(current, method));
  }

  const call = (notify = false) => ({ method: method.name, params: current, notify });
  const code = codeView(() => call(method.result === undefined));
  const answer = el("section", { class: "answers", "aria-label": "Answer" });

  /** Find what is wrong; tell it where it is. */
  function isFine() {
    if (unread) {
      raw.focus();
      announce(unread);
      return false;
    }
    const problems = form.problems();
    const faults = [
      ...problems,
      ...faultsOfParams(current, method).filter(
        (each) => !problems.some((one) => same(one.steps, each.steps)),
      ),
    ];
    form.show(faults);
    anyway.hidden = !faults.length;
    if (faults.length)
      announce(
        `${faults.length} ${faults.length === 1 ? "fault" : "faults"} in the parameters: nothing was sent`,
      );
    return !faults.length;
  }

  async function send(notify, checked = true) {
    if (sending || (checked ? !isFine() : unread)) return;
    anyway.hidden = true;
    sending = new AbortController();
    const sent = call(notify);
    for (const each of buttons) each.disabled = true;
    const cancel = button("Cancel", () => sending?.abort(), { class: "quiet" });
    answer.replaceChildren(el("p", { class: "waiting" }, "Waiting for the answer… ", cancel));
    announce("Sent");
    const reply = await post(requestOf(sent), { hasDeadline: true, signal: sending.signal });
    sending = null;
    for (const each of buttons) each.disabled = false;
    remember(sent, reply);
    answer.replaceChildren(answerView(reply, { contract, method, notify }));
    const faults = faultsTold(reply.content?.error);
    if (faults.length) form.show(faults);
    announce(outcomeOf(reply) + (reply.ms === undefined ? "" : ` after ${Math.round(reply.ms)} milliseconds`));
    if (answer.getBoundingClientRect().top > innerHeight - 80) answer.scrollIntoView({ block: "nearest" });
  }

  const onlyNotify = method.result === undefined;
  const sender = button(onlyNotify ? "Send notification" : "Send", () => send(onlyNotify), {
    class: "primary",
    "aria-keyshortcuts": "Control+Enter",
  });
  const notifier = onlyNotify
    ? null
    : button("Notify", () => send(true), { title: "Send it as a notification, which has no answer" });
  const adder = button("Add to batch", () => {
    if (!isFine()) return;
    set({ batch: [...get("batch"), call(onlyNotify)] });
    announce(`Added: the batch has ${get("batch").length}`);
  });
  const anyway = button("Send anyway", () => send(onlyNotify, false), {
    class: "quiet",
    hidden: true,
    title: "Let the service say what is wrong",
  });
  const buttons = [sender, notifier, adder, anyway].filter(Boolean);
  const example = method.examples?.[0];
  const element = el(
    "section",
    {
      class: "try",
      "aria-labelledby": "try-title",
      on: { keydown: atCtrlEnter(() => send(onlyNotify)) },
    },
    el(
      "div",
      { class: "bar" },
      el("h2", { id: "try-title" }, "Try it"),
      example
        ? button("Fill in the example", () => take(paramsOfExample(example, method), "example"), {
            class: "quiet",
          })
        : null,
    ),
    form.element,
    el(
      "details",
      { class: "panel", open: !takesSecrets(method) }, // where they would be read by whoever looks on
      el("summary", {}, "The same as JSON"),
      el("label", { for: rawId, class: "unseen" }, "Params as JSON"),
      raw,
      rawFault,
    ),
    accessPanel(Boolean(method["x-private"])),
    el(
      "div",
      { class: "actions" },
      sender,
      notifier,
      adder,
      anyway,
      el("span", { class: "quiet keys" }, el("kbd", {}, "Ctrl"), " ", el("kbd", {}, "Enter")),
    ),
    answer,
    code,
  );

  if (current === undefined) current = get("drafts").get(method.name);
  if (current !== undefined) form.fill(current);
  current ??= form.params();
  showRaw();
  return {
    element,
    fill: (given) => take(given, "example"),
    // Not in the address by itself: browsers write down where one was.
    link: () => location.href.split("#")[0] + linkTo("method", method.name, withoutSecrets(current, method)),
  };
}

/** The params of an example, by name where its names are parameters. */
export function paramsOfExample(example, method) {
  const given = example.params ?? [];
  const byName =
    method.paramStructure !== "by-position" && given.every((each) => Number.isNaN(Number(each.name)));
  return byName
    ? Object.fromEntries(given.map((each) => [each.name, each.value]))
    : given.map((each) => each.value);
}

/** Read where the service found which fault, from `data` of error -32602. */
export function faultsTold(error) {
  const told = error?.code === -32602 ? error.data?.parameters : null;
  if (!Array.isArray(told)) return [];
  return told.map(({ name, reason }) => {
    const [, path] = / - at `\$([^`]*)`$/.exec(String(reason)) ?? [];
    const steps = [...(path ?? "").matchAll(/\.([^.[\]]+)|\[(\d+)\]/g)].map(
      ([, key, index]) => key ?? Number(index),
    );
    return { steps: [String(name), ...steps], text: String(reason).replace(/ - at `\$[^`]*`$/, "") };
  });
}
