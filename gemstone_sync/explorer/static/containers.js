// Editors of values that hold values: a field for each, made by `form`.
import { nearest } from "./check.js";
import { typeName } from "./contract.js";
import { button, el, plain } from "./dom.js";
import { LEFT_OUT, makeField } from "./form.js";
import { kindOf } from "./json.js";
import { typeText } from "./types.js";

// Of what has more than this a form shows the first; the others stay as they are.
const MOST_ITEMS = 500;
const MOST_ENTRIES = 200;

const beyondView = () => el("p", { class: "quiet" });
const tellBeyond = (place, beyond) => {
  place.textContent = beyond.length ? `${beyond.length} more: the JSON below has them.` : "";
};

/** One of several schemas, by a chooser. */
export function union(schema, way) {
  const { anyOf, oneOf, type, ...beside } = schema;
  const options = anyOf ?? oneOf ?? type.map((each) => ({ ...beside, type: each }));
  const holder = el("div", { class: "union" });
  const chooser = el(
    "select",
    { id: way.id, "aria-describedby": way.describedBy, class: "chooser" },
    options.map((option, at) => el("option", { value: String(at) }, plain(typeText(option, way.types)))),
  );
  let field = null;
  const choose = (at, refs) => {
    chooser.value = String(at);
    field = makeField(way.name, options[at], {
      ...way,
      refs,
      required: true,
      bare: true,
      secret: way.secret,
    });
    holder.replaceChildren(chooser, field.element);
  };
  chooser.addEventListener("change", () => {
    choose(Number(chooser.value), new Set());
    way.edited();
  });
  // Not the one that would open itself again and again.
  const first = options.findIndex((option) => !way.refs.has(typeName(option)));
  choose(Math.max(0, first), way.refs);
  return {
    element: holder,
    value: () => field.value(),
    fill: (value) => {
      const at = nearest(value, options, schema, way.types);
      choose(at < 0 ? 0 : at, new Set());
      field.fill(value);
    },
    place: (steps, text) => field.place(steps, text),
    clear: () => field.clear(),
    problems: (steps) => field.problems(steps),
  };
}

/** Named values, and entries where others may come. */
export function object(schema, way) {
  const holder = el("div", { class: "nested" });
  const required = new Set(schema.required);
  const properties = Object.entries(schema.properties ?? {});
  const fields = new Map(
    properties.map(([name, each]) => [
      name,
      makeField(name, each, { ...way, required: required.has(name), bare: false, removable: null }),
    ]),
  );
  holder.append(...[...fields.values()].map((field) => field.element));
  const more = schema.additionalProperties ?? (fields.size ? false : {});
  const rows = more === false ? null : entries(more, way);
  if (rows) holder.append(rows.element);
  const all = () => [...fields, ...(rows?.fields() ?? [])];
  return {
    element: holder,
    value: () =>
      Object.fromEntries(
        [...all().map(([name, field]) => [name, field.value()]), ...(rows?.beyond() ?? [])].filter(
          ([, one]) => one !== LEFT_OUT,
        ),
      ),
    fill: (value) => {
      const given = kindOf(value) === "object" ? value : {};
      for (const [name, field] of fields) field.fill(Object.hasOwn(given, name) ? given[name] : LEFT_OUT);
      rows?.fill(Object.entries(given).filter(([name]) => !fields.has(name)));
    },
    place: ([step, ...steps], text) => {
      const found = all().find(([name]) => name === step);
      found?.[1].place(steps, text);
      return Boolean(found);
    },
    clear: () => all().forEach(([, field]) => field.clear()),
    problems: (steps) => all().flatMap(([name, field]) => field.problems([...steps, name])),
  };
}

/** Rows of a key and a value each. */
export function entries(schema, way) {
  const list = el("div", { class: "items" });
  const place = beyondView();
  let rows = [];
  let beyond = []; // [key, value]
  const add = (key, focus) => {
    const name = el("input", {
      type: "text",
      value: key,
      "aria-label": `Key in ${way.name}`,
      placeholder: "key",
      class: "key",
      autocomplete: "off",
      spellcheck: "false",
      on: { input: () => way.edited() },
    });
    const typed = name.value; // without the ends of lines that a key may have
    const row = { name, key: () => (name.value === typed ? key : name.value) };
    row.field = makeField("value", schema, {
      ...way,
      refs: new Set(),
      required: true,
      bare: true,
      removable: null,
      label: `Value in ${way.name}`,
    });
    row.element = el(
      "div",
      { class: "entry" },
      name,
      row.field.element,
      button(
        "×",
        () => {
          rows = rows.filter((each) => each !== row);
          row.element.remove();
          adder.focus();
          way.edited();
        },
        { class: "quiet remove", "aria-label": `Remove this entry of ${way.name}` },
      ),
    );
    rows.push(row);
    list.append(row.element);
    if (focus) name.focus();
    return row;
  };
  const adder = button(
    "Add an entry",
    () => {
      add("", true);
      way.edited();
    },
    { class: "quiet", "aria-label": `Add an entry to ${way.name}` },
  );
  return {
    element: el("div", {}, list, place, adder),
    fields: () => rows.map((row) => [row.key(), row.field]),
    beyond: () => beyond,
    fill: (given) => {
      rows = [];
      list.replaceChildren();
      beyond = given.slice(MOST_ENTRIES);
      tellBeyond(place, beyond);
      for (const [key, value] of given.slice(0, MOST_ENTRIES)) add(key).field.fill(value);
    },
  };
}

/** Items of one kind, any number; or of a kind each, as many as there are kinds. */
export function list(schema, way) {
  const holder = el("div", { class: "items" });
  const kinds = schema.prefixItems;
  const fixedLength = kinds && !(typeof schema.items === "object" && schema.items);
  const told = beyondView();
  let fields = [];
  let beyond = [];
  const number = () => fields.forEach((field, at) => field.rename(`${way.name} ${at + 1}`));
  const remove = (field) => {
    fields = fields.filter((each) => each !== field);
    field.element.remove();
    number();
    adder.focus();
    way.edited();
  };
  const add = (focus) => {
    const inPlace = kinds?.[fields.length];
    const field = makeField(`${way.name} ${fields.length + 1}`, inPlace ?? schema.items ?? {}, {
      ...way,
      refs: inPlace ? way.refs : new Set(),
      required: true,
      bare: false,
      removable: inPlace ? null : () => remove(field),
    });
    fields.push(field);
    holder.append(field.element);
    if (focus) field.focus();
    return field;
  };
  const adder = button(
    "Add an item",
    () => {
      add(true);
      way.edited();
    },
    { class: "quiet", id: fixedLength ? null : way.id, "aria-label": `Add an item to ${way.name}` },
  );
  const fill = (value) => {
    fields = [];
    holder.replaceChildren();
    kinds?.forEach(() => add());
    const given = Array.isArray(value) ? value.slice(0, MOST_ITEMS) : [];
    beyond = Array.isArray(value) ? value.slice(MOST_ITEMS) : [];
    tellBeyond(told, beyond);
    given.forEach((one, at) => (fields[at] ?? add()).fill(one));
  };
  fill([]);
  for (let at = fields.length; at < Math.min(schema.minItems ?? 0, 20) && !fixedLength; at++) add();
  return {
    element: el("div", {}, holder, told, fixedLength ? null : adder),
    value: () => [
      ...fields.map((field) => field.value()).map((one) => (one === LEFT_OUT ? null : one)),
      ...beyond,
    ],
    fill,
    place: ([step, ...steps], text) => {
      fields[step]?.place(steps, text);
      return Boolean(fields[step]);
    },
    clear: () => fields.forEach((field) => field.clear()),
    problems: (steps) => fields.flatMap((field, at) => field.problems([...steps, at])),
  };
}
