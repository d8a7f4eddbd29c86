// The form of a method: a field for each parameter, made from its schema.
import { entries, list } from "./containers.js";
import { editorKind, isSimple, makeEditor } from "./editors.js";
import { isSecret, typeName } from "./contract.js";
import { button, el, newId, plain } from "./dom.js";
import { kindOf, write } from "./json.js";
import { markdown } from "./markdown.js";
import { limitsOf, typeText } from "./types.js";

/** The value of a field that is not sent. */
export const LEFT_OUT = Symbol("left out");

/**
 * Make a field: a label, what is wanted, an editor, and a place for what is wrong.
 * @param {object} way - `types`; `edited()`, called when somebody changes something; `required`;
 *   `bare`: without a label of its own; `removable`: called to remove it; `refs`: names of the types
 *   around it since somebody last opened one, so that a type which contains itself ends.
 */
export function makeField(name, given, way) {
  const { types } = way;
  const schema = types.resolve(given);
  const type = typeName(given);
  const id = newId();
  const [faultId, hintId] = [newId(), newId()];
  const kind = editorKind(schema);
  const fault = el("p", { class: "fault", id: faultId, hidden: true });
  const body = el("div", { class: "body" });
  const secret = way.secret || isSecret(name, schema, types);
  let editor = null;
  let included = way.required;
  let waits = []; // what was told while it was not open
  // What it was filled with, as long as nobody changes it: an editor may not be able to give it back
  // (a line of a text, a value of another type).
  let filled = LEFT_OUT;

  const edited = () => {
    filled = LEFT_OUT;
    include(true);
    way.edited();
  };
  const open = (byHand = true) => {
    if (editor) return;
    const refs = new Set(byHand ? [type] : [...way.refs, type]);
    editor = makeEditor(schema, {
      types,
      name: label(),
      id,
      describedBy: `${faultId} ${hintId}`,
      refs,
      edited,
      secret,
    });
    body.replaceChildren(editor.element);
    name_.htmlFor = id;
  };
  const put = (value) => {
    filled = value;
    editor.fill(value);
  };
  const include = (yes, fresh = false) => {
    if (included === yes) return;
    included = yes;
    if (box) box.checked = yes;
    element.classList.toggle("left-out", !yes);
    if (yes) open();
    if (!isSimple(kind)) body.hidden = !yes;
    if (yes && fresh && schema.default != null) put(schema.default);
  };
  const label = () => way.label ?? name;

  const name_ = el("label", { class: way.bare ? "unseen" : "name" }, plain(label()));
  const box = way.required
    ? null
    : el("input", {
        type: "checkbox",
        class: "include",
        "aria-label": `Send ${name}`,
        title: "Send it",
        on: {
          change: () => {
            filled = LEFT_OUT;
            include(box.checked, true);
            way.edited();
          },
        },
      });
  const isDefault = schema.default != null && !way.required; // null is what left out looks like
  const head = el(
    "div",
    { class: "head" },
    box,
    name_,
    way.bare
      ? null
      : [
          el("code", { class: "type" }, plain(typeText(given, types))),
          way.required ? el("span", { class: "required" }, "required") : null,
          schema.deprecated ? el("span", { class: "badge warn" }, "deprecated") : null,
          way.removable
            ? button("×", way.removable, { class: "quiet remove", "aria-label": `Remove ${name}` })
            : null,
        ],
  );
  const hints = [
    ...limitsOf(given, types).map((text) => el("span", { class: "limit" }, plain(text))),
    isDefault
      ? el("span", { class: "limit" }, plain(`default ${write(schema.default).slice(0, 120)}`))
      : null,
    way.note ? el("span", { class: "limit" }, way.note) : null,
  ].filter(Boolean);
  const description = way.description ?? (type ? "" : schema.description);
  const element = el(
    "div",
    { class: "field" },
    head,
    el(
      "div",
      { class: "hint", id: hintId, hidden: !hints.length && !description },
      description ? markdown(description) : null,
      hints,
    ),
    body,
    fault,
  );
  if (way.bare) element.classList.add("bare");

  if (way.required && type && way.refs.has(type) && kind === "object") {
    body.append(
      button(
        `Open ${plain(type)}`,
        () => {
          open();
          way.edited();
        },
        { class: "quiet" },
      ),
    );
  } else if (way.required || isSimple(kind)) open(false);
  if (!way.required) {
    element.classList.add("left-out");
    if (!isSimple(kind)) body.hidden = true;
  }

  const invalid = (yes) => {
    const target = document.getElementById(id) ?? body.querySelector("input, textarea, select");
    target?.toggleAttribute("aria-invalid", false);
    if (yes) target?.setAttribute("aria-invalid", "true");
  };
  return {
    element,
    value: () => (!included || !editor ? LEFT_OUT : filled !== LEFT_OUT ? filled : editor.value()),
    fill: (value) => {
      if (value === LEFT_OUT) {
        if (!way.required) include(false);
        return;
      }
      include(true);
      open();
      put(value);
    },
    place: (steps, text) => {
      if (steps.length && editor?.place?.(steps, text)) return;
      // A chooser passes on what concerns it all, too.
      if (!steps.length && kind === "union" && editor) return void editor.place(steps, text);
      waits.push(steps.length ? `${steps.join(".")} ${text}` : text);
      fault.textContent = plain(waits.join("; ").slice(0, 1000));
      fault.hidden = false;
      invalid(true);
    },
    clear: () => {
      if (waits.length) invalid(false);
      waits = [];
      fault.hidden = true;
      editor?.clear?.();
    },
    problems: (steps) => (included && editor?.problems?.(steps)) || [],
    rename: (to) => {
      name = to;
      name_.textContent = plain(to);
    },
    focus: () =>
      (body.querySelector("input, textarea, select, button") ?? head.querySelector("input"))?.focus(),
    isIncluded: () => included,
  };
}

/** Make the form of a method's parameters. `edited` is called when somebody changes something. */
export function makeForm(method, edited) {
  const { types } = method;
  const fields = new Map(
    method.params.map((each) => [
      each.name,
      makeField(each.name, each.schema, {
        types,
        edited,
        required: each.required,
        description: each.description,
        refs: new Set(),
        note: { positional: "by position only", named: "by name only" }[each["x-kind"]],
      }),
    ]),
  );
  const rest =
    method["x-rest"] &&
    list(
      { items: method["x-rest"].schema },
      { types, edited, name: method["x-rest"].name, id: newId(), refs: new Set() },
    );
  const named =
    method["x-named-rest"] &&
    entries(method["x-named-rest"].schema, {
      types,
      edited,
      name: method["x-named-rest"].name,
      refs: new Set(),
    });
  const wide = el("p", { class: "fault", role: "alert", hidden: true });
  const group = (title, part) =>
    el(
      "div",
      { class: "field", role: "group", "aria-label": title },
      el(
        "div",
        { class: "head" },
        el("span", { class: "name" }, plain(title)),
        el("span", { class: "quiet" }, "any number more"),
      ),
      part.element,
    );
  const element = el(
    "div",
    { class: "form" },
    [...fields.values()].map((each) => each.element),
    rest ? group(method["x-rest"].name, rest) : null,
    named ? group(method["x-named-rest"].name, named) : null,
    fields.size || rest || named ? null : el("p", { class: "quiet" }, "It takes no parameters."),
    wide,
  );

  const onlyNamed = (each) => each["x-kind"] === "named";
  const positions = method.params.filter((each) => !onlyNamed(each));
  const given = (each) => fields.get(each.name).value() !== LEFT_OUT;
  const byPosition = () =>
    method.paramStructure === "by-position" ||
    (rest?.value().length ?? 0) > 0 ||
    method.params.some((each) => each["x-kind"] === "positional" && given(each));

  return {
    element,
    params() {
      if (byPosition()) {
        const more = rest?.value() ?? [];
        const last = more.length ? positions.length - 1 : positions.findLastIndex(given);
        return [
          ...positions.slice(0, last + 1).map((each) => {
            const value = fields.get(each.name).value();
            return value === LEFT_OUT ? (types.resolve(each.schema).default ?? null) : value;
          }),
          ...more,
        ];
      }
      const values = [...fields].map(([name, field]) => [name, field.value()]);
      const more = (named?.fields() ?? []).map(([name, field]) => [name, field.value()]);
      more.push(...(named?.beyond() ?? []));
      return Object.fromEntries([...values, ...more].filter(([, value]) => value !== LEFT_OUT));
    },
    fill(params) {
      if (Array.isArray(params)) {
        for (const each of method.params) fields.get(each.name).fill(LEFT_OUT);
        positions.forEach((each, at) =>
          fields.get(each.name).fill(at < params.length ? params[at] : LEFT_OUT),
        );
        rest?.fill(params.slice(positions.length));
      } else if (kindOf(params) === "object") {
        for (const [name, field] of fields) field.fill(Object.hasOwn(params, name) ? params[name] : LEFT_OUT);
        rest?.fill([]);
        named?.fill(Object.entries(params).filter(([name]) => !fields.has(name)));
      }
    },
    /** Show faults where they are; those that have no field below the form. */
    show(faults) {
      this.clear();
      const without = [];
      for (const {
        steps: [first, ...steps],
        text,
      } of faults) {
        const extra = named?.fields().find(([name]) => name === first)?.[1];
        const field = fields.get(first) ?? extra;
        if (field) field.place(steps, text);
        else if (typeof first === "number" && rest?.place([first - positions.length, ...steps], text))
          continue;
        else without.push(first === undefined ? text : `${first} ${text}`);
      }
      wide.textContent = plain(without.join("; ").slice(0, 2000));
      wide.hidden = !without.length;
      element.querySelector("[aria-invalid=true]")?.focus();
    },
    clear() {
      for (const field of fields.values()) field.clear();
      rest?.clear();
      wide.hidden = true;
    },
    problems() {
      const found = [...fields].flatMap(([name, field]) => field.problems([name]));
      if (byPosition()) {
        for (const each of method.params.filter((one) => onlyNamed(one) && given(one))) {
          found.push({
            steps: [each.name],
            text: "can be given by name only: it is left out, since another one is given by position",
          });
        }
      }
      return found;
    },
    focus: () => element.querySelector("input, textarea, select, button")?.focus(),
  };
}
