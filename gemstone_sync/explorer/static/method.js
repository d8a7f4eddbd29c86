// A method: what it does, what it takes and gives, and a panel to try it.
import { codeBlock, markdown } from "./markdown.js";
import { button, copy, cut, el, plain } from "./dom.js";
import { write } from "./json.js";
import { get } from "./store.js";
import { paramsOfExample, tryView } from "./tryit.js";
import { limitsOf, typeView } from "./types.js";

export function badgesOf(method) {
  return [
    method["x-private"] ? el("span", { class: "badge private" }, "private") : null,
    method.deprecated ? el("span", { class: "badge warn" }, "deprecated") : null,
    method["x-idempotent"]
      ? el("span", { class: "badge", title: "May be called again after a fault" }, "idempotent")
      : null,
    method["x-mcp"]
      ? el("span", { class: "badge", title: "Agents are offered it, by the Model Context Protocol" }, "tool")
      : null,
    method.result === undefined
      ? el("span", { class: "badge", title: "It gives no answer" }, "notification")
      : null,
  ];
}

export function methodView(method, params) {
  const trial = tryView(method, params);
  const timeout = Number(method["x-timeout-seconds"] ?? 0);
  return el(
    "article",
    { class: "method" },
    el(
      "header",
      {},
      el(
        "div",
        { class: "bar" },
        el("h1", { tabindex: "-1" }, plain(method.name)),
        button("Copy link", () => copy(trial.link()), {
          class: "quiet",
          title: "A link to this method with these parameters, without what is secret",
        }),
      ),
      el(
        "p",
        { class: "badges" },
        badgesOf(method),
        timeout ? el("span", { class: "badge", title: "Until the deadline" }, `${timeout} s at most`) : null,
      ),
      method.summary ? el("div", { class: "lead" }, markdown(method.summary)) : null,
      method.description ? markdown(method.description) : null,
    ),
    trial.element,
    el(
      "div",
      { class: "reference" },
      parameters(method),
      result(method),
      examples(method, trial),
      errors(method),
    ),
  );
}

function parameters(method) {
  const { types } = method;
  const rows = [
    ...method.params.map((each) => ({
      ...each,
      note: each["x-kind"] && `by ${each["x-kind"] === "named" ? "name" : "position"} only`,
    })),
    ...["x-rest", "x-named-rest"]
      .filter((key) => method[key])
      .map((key) => ({
        ...method[key],
        required: false,
        note: key === "x-rest" ? "any number more by position" : "any more names",
      })),
  ];
  if (!rows.length) return null;
  return el(
    "section",
    {},
    el("h2", {}, "Parameters"),
    el(
      "dl",
      { class: "params" },
      rows.map((each) => {
        const schema = types.resolve(each.schema);
        return el(
          "div",
          {},
          el(
            "dt",
            {},
            el("code", { class: "name" }, plain(each.name)),
            each.required ? el("span", { class: "required" }, "required") : null,
          ),
          el(
            "dd",
            {},
            typeView(each.schema, types),
            schema.default !== undefined
              ? el("span", { class: "limit" }, cut(plain(`default ${write(schema.default)}`), 300))
              : null,
            limitsOf(each.schema, types).map((text) => el("span", { class: "limit" }, plain(text))),
            each.note ? el("span", { class: "limit" }, each.note) : null,
            each.description ? markdown(each.description) : null,
          ),
        );
      }),
    ),
  );
}

function result(method) {
  if (method.result === undefined)
    return el(
      "section",
      {},
      el("h2", {}, "Result"),
      el("p", {}, "None, by design: it is for notifications."),
    );
  return el(
    "section",
    {},
    el("h2", {}, "Result"),
    typeView(method.result.schema ?? {}, method.types),
    method.result.description ? markdown(method.result.description) : null,
  );
}

function examples(method, trial) {
  if (!method.examples?.length) return null;
  return el(
    "section",
    {},
    el("h2", {}, "Examples"),
    method.examples.map((example) => {
      const params = paramsOfExample(example, method);
      const text = write(params, 1) + (example.result ? `\n→ ${write(example.result.value, 1)}` : "");
      return el(
        "div",
        { class: "example" },
        el(
          "div",
          { class: "bar" },
          el("h3", {}, plain(example.name ?? "example")),
          button("Fill in", () => trial.fill(params), {
            class: "quiet",
            "aria-label": `Fill in ${example.name ?? "the example"}`,
          }),
        ),
        cut(text, 3000, (part) => codeBlock(part, "Example")),
      );
    }),
  );
}

function errors(method) {
  const own = method["x-errors"] ?? method.errors ?? [];
  const always = get("contract").errorsAlways;
  const row = (error) =>
    el(
      "li",
      {},
      el("code", { class: "error-code" }, String(error.code)),
      " ",
      cut(plain(error.message), 300),
      error.name ? el("span", { class: "quiet" }, ` ${plain(error.name)}`) : null,
      error.data && typeof error.data === "object"
        ? el("div", {}, "data: ", typeView(error.data, method.types))
        : null,
    );
  return el(
    "section",
    {},
    el("h2", {}, "Errors"),
    own.length
      ? el("ul", { class: "plain" }, own.map(row))
      : el("p", { class: "quiet" }, "It declares none of its own."),
    always.length
      ? el(
          "details",
          {},
          el("summary", {}, "What any call may be answered with"),
          el("ul", { class: "plain" }, always.map(row)),
        )
      : null,
  );
}
