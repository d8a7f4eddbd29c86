// An answer: what it is, how long it took, and its value as a tree and as it came.
import { button, copy, copyButton, cut, el, fold, plain } from "./dom.js";
import { kindOf, write } from "./json.js";
import { codeBlock } from "./markdown.js";
import { typeView } from "./types.js";

const ITEMS = 100; // of a list that are shown at once
const CHARACTERS = 2000; // of a text

/** Make the tree of a value. */
export function tree(value, key = null, depth = 0) {
  const name = key === null ? null : [el("span", { class: "key" }, plain(cutKey(String(key)))), ": "];
  const kind = kindOf(value);
  if (kind !== "array" && kind !== "object") {
    const text = write(value);
    return el(
      "div",
      { class: "leaf" },
      name,
      cut(text, CHARACTERS, (part) => el("span", { class: `value ${kind}` }, plain(part))),
    );
  }
  const keys = Object.keys(value);
  const count = kind === "array" ? `[${keys.length}]` : `{${keys.length}}`;
  if (!keys.length)
    return el("div", { class: "leaf" }, name, el("span", { class: "value" }, kind === "array" ? "[]" : "{}"));
  const children = (from) => {
    const shown = keys.slice(from, from + ITEMS).map((each) => tree(value[each], each, depth + 1));
    const left = keys.length - from - ITEMS;
    if (left <= 0) return shown;
    const more = button(
      `${left.toLocaleString("en")} more`,
      () => more.replaceWith(...children(from + ITEMS)),
      { class: "quiet" },
    );
    return [...shown, more];
  };
  return fold(
    el("span", {}, name, el("span", { class: "count" }, count)),
    () => el("div", { class: "branch" }, children(0)),
    { class: "node", open: depth < 2 && keys.length <= 30 },
  );
}

const cutKey = (key) => (key.length > 300 ? `${key.slice(0, 300)}…` : key);

/** Make a value as it can be read: a tree, or the text, with copying. */
export function valueView(value, text, what) {
  const holder = el("div", { class: "value-view" });
  const show = (raw) => {
    for (const [each, is] of [
      [asTree, !raw],
      [asText, raw],
    ])
      each.setAttribute("aria-pressed", String(is));
    holder.replaceChildren(raw ? rawView(text()) : treeView(value));
  };
  const asTree = button("Tree", () => show(false), { class: "tab" });
  const asText = button("Raw", () => show(true), { class: "tab" });
  show(false);
  return el(
    "div",
    {},
    el("div", { class: "toolbar" }, asTree, asText, copyButton(text, "Copy", what)),
    holder,
  );
}

function treeView(value) {
  try {
    return el("div", { class: "tree" }, tree(value));
  } catch (error) {
    return el("p", { class: "quiet" }, `It cannot be shown as a tree: ${error.message}`);
  }
}

function rawView(text) {
  return el(
    "div",
    {},
    cut(text, 100_000, (part) => codeBlock(part, "Raw answer")),
  );
}

const indented = (value) => {
  try {
    return write(value, 2);
  } catch {
    return "(nested too deeply)";
  }
};

/** Show the reply to one call. `contract` and `method` tell which errors were declared. */
export function answerView(reply, { contract, method, notify = false } = {}) {
  if (reply.failed)
    return el(
      "div",
      { class: "answer bad" },
      el("p", { class: "outcome" }, el("strong", {}, reply.ms === undefined ? "Not sent" : "No answer"), facts(reply)),
      el("p", {}, plain(reply.failed)),
    );
  const content = reply.content;
  if (content === undefined) {
    const fine = reply.status === 204;
    return el(
      "div",
      { class: `answer ${fine ? "good" : "bad"}` },
      el("p", { class: "outcome" }, el("strong", {}, fine ? "Taken" : "No JSON"), facts(reply)),
      fine
        ? el(
            "p",
            { class: "quiet" },
            notify
              ? "A notification has no answer: a fault would be in the service's log only."
              : "There is no content.",
          )
        : rawView(reply.text),
    );
  }
  const error = kindOf(content) === "object" && content.error != null ? content.error : null;
  if (!error) {
    const result = kindOf(content) === "object" && "result" in content ? content.result : content;
    return el(
      "div",
      { class: "answer good" },
      el("p", { class: "outcome" }, el("strong", {}, "Result"), facts(reply)),
      valueView(result, () => indented(result), "the result"),
      fold("The whole reply", () => rawView(indented(content)), { class: "quiet-fold" }),
    );
  }
  return el(
    "div",
    { class: "answer bad" },
    el("p", { class: "outcome" }, el("strong", {}, plain(`Error ${write(error.code) ?? ""}`)), facts(reply)),
    el("p", { class: "message" }, cut(plain(String(error.message ?? "")), CHARACTERS)),
    declared(error, contract, method),
    error.data?.error_id
      ? el(
          "p",
          {},
          "Error id ",
          el("code", {}, plain(String(error.data.error_id).slice(0, 200))),
          " ",
          copyButton(String(error.data.error_id), "Copy", "the error id"),
          el("span", { class: "quiet" }, " the service's log has it with the traceback"),
        )
      : null,
    error.data === undefined ? null : valueView(error.data, () => indented(error.data), "the data"),
    fold("The whole reply", () => rawView(indented(content)), { class: "quiet-fold" }),
  );
}

function declared(error, contract, method) {
  if (!contract || !method) return null;
  const own = method["x-errors"] ?? method.errors ?? [];
  const found = own.find((each) => each.code === error.code);
  const always = contract.errorsAlways.find((each) => each.code === error.code);
  if (found)
    return el(
      "p",
      { class: "declared" },
      "Declared by the method as ",
      el("strong", {}, plain(found.name ?? found.message)),
      found.data ? [" with ", typeView(found.data, method.types)] : null,
    );
  if (always)
    return el(
      "p",
      { class: "declared" },
      "Any call may be answered so: ",
      el("strong", {}, plain(always.name ?? always.message)),
    );
  return el("p", { class: "declared" }, "The method does not declare this error.");
}

function facts(reply) {
  const ms = reply.ms < 10 ? reply.ms.toFixed(1) : Math.round(reply.ms ?? 0).toLocaleString("en");
  return el(
    "span",
    { class: "facts" },
    reply.ms === undefined ? null : el("span", {}, `${ms} ms`),
    reply.status ? el("span", {}, plain(`HTTP ${reply.status} ${reply.statusText}`.trim())) : null,
    reply.requestId
      ? el(
          "span",
          {},
          "request ",
          el("code", {}, plain(reply.requestId.slice(0, 100))),
          " ",
          button("Copy", () => copy(reply.requestId), {
            class: "quiet",
            "aria-label": "Copy the request id",
          }),
        )
      : null,
  );
}

/** Tell a reply in a few words. */
export function outcomeOf(reply) {
  if (reply.failed) return reply.ms === undefined ? "not sent" : "no answer";
  if (reply.content?.error != null) return `error ${write(reply.content.error.code) ?? ""}`;
  return reply.content === undefined ? `HTTP ${reply.status}` : "result";
}
