// One editor for each kind of value. An editor is {element, value(), fill(value), place(steps, text),
// clear(), problems(steps)}; the last three where it holds fields, or may hold what is no value.
// Those of values with values in them are in `containers`.
import { list, object, union } from "./containers.js";
import { beginning, button, cut, el, plain, revealButton, TOO_LONG } from "./dom.js";
import { numberOf, parse, same, write } from "./json.js";

/** Tell which editor a schema wants. */
export function editorKind(schema) {
  if (schema === false) return "json";
  if (schema.anyOf || schema.oneOf || Array.isArray(schema.type)) return "union";
  if ("const" in schema || schema.enum?.length === 1) return "fixed";
  if (schema.enum) return "choice";
  if (schema.type === "object") return "object";
  if (schema.type === "array") return schema.prefixItems || schema.items !== undefined ? "list" : "json";
  const simple = {
    __proto__: null,
    boolean: "switch",
    integer: "number",
    number: "number",
    string: "text",
    null: "fixed",
  };
  return simple[schema.type] ?? "json";
}

export const isSimple = (kind) => !["union", "object", "list"].includes(kind);

/** Make the editor of a schema; `way` is what `makeField` gets. */
export function makeEditor(schema, way) {
  const makers = { union, fixed, choice, object, list, json, switch: toggle, number, text };
  return makers[editorKind(schema)](schema, way);
}

function input(way, props) {
  const made = el(props.rows ? "textarea" : "input", {
    id: way.id,
    "aria-describedby": way.describedBy,
    spellcheck: "false",
    autocomplete: "off",
    ...props,
    on: { input: () => way.edited() },
  });
  return made;
}

/** Let a field show the beginning of what is too long to be edited; browsers need seconds for each key. */
function mayBeLong(made, holder, way) {
  let whole = null;
  const put = (value) => {
    whole = value.length > TOO_LONG ? value : null;
    made.value = whole === null ? value : beginning(value);
    made.readOnly = whole !== null;
    if (whole === null) empty.remove();
    else made.after(empty);
  };
  const empty = button(
    "Empty",
    () => {
      put("");
      way.edited();
      made.focus();
    },
    { class: "quiet", "aria-label": `Empty ${way.name}` },
  );
  holder.append(made);
  return { put, value: () => whole ?? made.value };
}

function text(schema, way) {
  const holder = el("div", { class: "row" });
  const secret = way.secret;
  const made = input(way, {
    ...(secret ? { type: "password" } : { rows: "1" }),
    placeholder: typeof schema.default === "string" ? schema.default.slice(0, 100) : null,
  });
  const field = mayBeLong(made, holder, way);
  const put = (value) => {
    field.put(value);
    way.edited();
  };
  if (secret) {
    holder.append(revealButton(made, way.name));
  }
  const now = {
    "date-time": () => new Date().toISOString(),
    date: () => new Date().toISOString().slice(0, 10),
    time: () => new Date().toISOString().slice(11, 19),
    uuid: () => {
      const bytes = crypto.getRandomValues(new Uint8Array(16));
      bytes[6] = (bytes[6] & 15) | 64;
      bytes[8] = (bytes[8] & 63) | 128;
      const digits = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
      return digits.replace(/(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
    },
  };
  if (Object.hasOwn(now, schema.format ?? "")) {
    const label = { "date-time": "Now", date: "Today", time: "Now", uuid: "New" }[schema.format];
    holder.append(
      button(label, () => put(now[schema.format]()), {
        class: "quiet",
        "aria-label": `${label}: ${way.name}`,
      }),
    );
  }
  if (schema.contentEncoding === "base64") holder.append(...bytesButtons(way.name, field.value, put));
  return {
    element: holder,
    value: field.value,
    fill: (value) => field.put(typeof value === "string" ? value : write(value)),
  };
}

function base64Of(bytes) {
  let found = "";
  for (let at = 0; at < bytes.length; at += 30_000)
    found += String.fromCharCode(...bytes.subarray(at, at + 30_000));
  return btoa(found);
}

function bytesButtons(name, value, put) {
  const file = el("input", {
    type: "file",
    hidden: true,
    on: {
      change: async () => {
        if (file.files[0]) put(base64Of(new Uint8Array(await file.files[0].arrayBuffer())));
        file.value = ""; // or the same one would be no change
      },
    },
  });
  return [
    button("Encode", () => put(base64Of(new TextEncoder().encode(value()))), {
      class: "quiet",
      title: "Take what stands here as text, and write it in base64",
      "aria-label": `Encode ${name} in base64`,
    }),
    button("File…", () => file.click(), { class: "quiet", "aria-label": `Take ${name} from a file` }),
    file,
  ];
}

function number(schema, way) {
  const made = input(way, {
    type: "text",
    inputmode: schema.type === "integer" ? "numeric" : "decimal",
    placeholder: schema.default == null ? null : String(schema.default),
  });
  return {
    element: made,
    value: () => numberOf(made.value, schema.type === "integer"),
    fill: (value) => {
      made.value = typeof value === "string" ? value : write(value);
    },
  };
}

function toggle(schema, way) {
  const made = el(
    "select",
    { id: way.id, "aria-describedby": way.describedBy, on: { change: () => way.edited() } },
    el("option", {}, "false"),
    el("option", {}, "true"),
  );
  return {
    element: made,
    value: () => made.value === "true",
    fill: (value) => {
      made.value = String(value === true);
    },
  };
}

function choice(schema, way) {
  const made = el(
    "select",
    { id: way.id, "aria-describedby": way.describedBy, on: { change: () => way.edited() } },
    schema.enum.map((one, at) => {
      const told = typeof one === "string" ? one : write(one);
      return el("option", { value: String(at) }, plain(told.length > 120 ? `${told.slice(0, 120)}…` : told));
    }),
  );
  return {
    element: made,
    value: () => schema.enum[made.value],
    fill: (value) => {
      made.value = String(
        Math.max(
          0,
          schema.enum.findIndex((one) => same(one, value)),
        ),
      );
    },
  };
}

function fixed(schema, way) {
  const only = schema.type === "null" ? null : schema.enum ? schema.enum[0] : schema.const;
  const shown = el("output", { id: way.id }, cut(plain(write(only)), 200));
  return { element: shown, value: () => only, fill: () => {} };
}

/** What may be anything: JSON. */
function json(schema, way) {
  const made = input(way, { rows: "1", placeholder: 'JSON: "a text", 12, [1, 2], {…}', class: "code" });
  const holder = el("div", { class: "row" });
  const field = mayBeLong(made, holder, way);
  field.put("null");
  const read = () => {
    try {
      return { value: parse(field.value()) };
    } catch {
      return { value: field.value(), wrong: true };
    }
  };
  return {
    element: holder,
    value: () => read().value,
    fill: (value) => field.put(plain(write(value, 1))),
    problems: (steps) => (read().wrong ? [{ steps, text: "is no JSON: texts stand in double quotes" }] : []),
  };
}
