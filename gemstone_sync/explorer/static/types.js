// Types in words, and as something to unfold.
import { typeName } from "./contract.js";
import { cut, el, fold, plain } from "./dom.js";
import { write } from "./json.js";
import { markdown } from "./markdown.js";

const WORDS = {
  __proto__: null,
  string: "text",
  integer: "whole number",
  number: "number",
  boolean: "true or false",
  null: "null",
  object: "object",
  array: "list",
};
const FORMATS = {
  "date-time": "date and time",
  date: "date",
  time: "time",
  duration: "duration",
  uuid: "UUID",
  decimal: "decimal number",
};
const LONGEST = 160;

const short = (text, most = LONGEST) => (text.length > most ? `${text.slice(0, most)}…` : text);

/** Tell in a line which values a schema takes. */
export function typeText(schema, types, depth = 0) {
  const name = typeName(schema);
  if (name) return short(name, 80);
  const found = types.resolve(schema);
  if (found === false) return "nothing";
  if (depth > 4) return "…";
  const inner = (each) => typeText(each, types, depth + 1);
  const options = found.anyOf ?? found.oneOf;
  if (options) return short(options.map(inner).join(" or "));
  if (found.enum)
    return short(
      found.enum
        .slice(0, 9)
        .map((one) => write(one))
        .join(" | ") + (found.enum.length > 9 ? " | …" : ""),
    );
  if ("const" in found) return short(write(found.const));
  if (Array.isArray(found.type)) return found.type.map((type) => WORDS[type] ?? type).join(" or ");
  if (found.type === "array") {
    if (found.prefixItems) return short(`(${found.prefixItems.map(inner).join(", ")})`);
    return found.items === undefined ? "list" : short(`list of ${inner(found.items)}`);
  }
  if (found.type === "object") {
    const rest = found.additionalProperties;
    if (!found.properties && rest && typeof rest === "object") return short(`map to ${inner(rest)}`);
    return short(found.title ?? "object", 80);
  }
  if (found.contentEncoding === "base64") return "bytes";
  if (Object.hasOwn(FORMATS, found.format ?? "")) return FORMATS[found.format];
  return WORDS[found.type] ?? (found.type ? short(String(found.type), 40) : "anything");
}

/** Tell the limits of a schema, one text for each. */
export function limitsOf(schema, types) {
  const found = types.resolve(schema);
  const told = [];
  const range = (low, high, unit) => {
    const unitOf = (number) => (number === 1 ? unit.replace(/s$/, "") : unit);
    if (low != null && high != null) told.push(`${low} to ${high}${unitOf(high)}`);
    else if (low != null) told.push(`${low}${unitOf(low)} or more`);
    else if (high != null) told.push(`${high}${unitOf(high)} or less`);
  };
  range(found.minimum, found.maximum, "");
  if (found.exclusiveMinimum != null) told.push(`more than ${found.exclusiveMinimum}`);
  if (found.exclusiveMaximum != null) told.push(`less than ${found.exclusiveMaximum}`);
  if (found.multipleOf != null) told.push(`multiple of ${found.multipleOf}`);
  range(found.minLength, found.maxLength, " characters");
  if (!found.prefixItems) range(found.minItems, found.maxItems, " items");
  if (found.pattern) told.push(`matches ${short(String(found.pattern), 120)}`);
  return told;
}

/** Show a type: its words, and what is in it to unfold. */
export function typeView(schema, types) {
  const text = el("code", { class: "type" }, plain(typeText(schema, types)));
  const parts = partsOf(schema, types);
  if (!parts.length) return text;
  return fold(text, () => parts.map((part) => part()), { class: "typeview" });
}

function partsOf(schema, types) {
  const found = types.resolve(schema);
  const parts = [];
  if (typeName(schema) && found.description) parts.push(() => el("div", {}, markdown(found.description)));
  if (found.enum?.length > 9 || (found.enum && typeName(schema))) {
    parts.push(() =>
      el(
        "div",
        {},
        cut(found.enum.map((one) => plain(write(one))).join(" | "), 2000, (part) =>
          el("code", {}, part),
        ),
      ),
    );
  }
  if (found.properties) parts.push(() => properties(found, types));
  const options = found.anyOf ?? found.oneOf ?? [];
  const inside = [...options, ...(found.prefixItems ?? []), found.items, found.additionalProperties].filter(
    (each) => each && typeof each === "object" && partsOfAny(each, types),
  );
  if (inside.length)
    parts.push(() =>
      el(
        "ul",
        { class: "plain" },
        inside.map((each) => el("li", {}, typeView(each, types))),
      ),
    );
  return parts;
}

// Only looks at the first level: types may contain themselves.
function partsOfAny(schema, types) {
  const found = types.resolve(schema);
  return Boolean(
    found.properties ||
    found.anyOf ||
    found.oneOf ||
    found.enum ||
    found.items ||
    found.prefixItems ||
    (found.additionalProperties && typeof found.additionalProperties === "object"),
  );
}

function properties(found, types) {
  const required = new Set(found.required);
  return el(
    "ul",
    { class: "plain" },
    Object.entries(found.properties).map(([name, schema]) => {
      const { description } = types.resolve(schema);
      return el(
        "li",
        {},
        el("code", { class: "name" }, plain(short(name, 200))),
        " ",
        typeView(schema, types),
        required.has(name) ? null : el("span", { class: "quiet" }, " optional"),
        limitsOf(schema, types).map((text) => el("span", { class: "limit" }, plain(text))),
        description && !typeName(schema) ? el("div", { class: "quiet" }, markdown(description)) : null,
      );
    }),
  );
}
