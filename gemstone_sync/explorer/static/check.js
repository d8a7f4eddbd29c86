// Hold a value against a schema, as the service will. A fault is {steps, text}: where in the value,
// as a list of keys and indexes, and what is wrong.
import { isWhole, kindOf, same, write } from "./json.js";
import { typeText } from "./types.js";

const MOST = 100;
const DEEPEST = 60;

const FORMATS = {
  "date-time": [
    /^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:?\d\d)$/,
    "a date and time with a zone, as 2026-01-31T12:00:00Z",
  ],
  date: [/^\d{4}-\d\d-\d\d$/, "a date, as 2026-01-31"],
  time: [/^\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:?\d\d)?$/, "a time, as 12:00:00"],
  duration: [/^[+-]?P(?=.)(\d+W)?(\d+D)?(T(?=.)(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?$/i, "a duration, as PT1H30M"],
  uuid: [/^[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}$/i, "a UUID"],
  decimal: [/^[+-]?(\d+(\.\d*)?|\.\d+)(e[+-]?\d+)?$/i, "a decimal number"],
};
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

/** List what is wrong with a value. */
export function faultsOf(value, schema, types) {
  const faults = [];
  look(value, schema, types, [], faults);
  return faults;
}

function look(value, given, types, steps, faults) {
  if (faults.length >= MOST || steps.length > DEEPEST) return;
  const schema = types.resolve(given);
  const add = (text) => faults.push({ steps, text });
  if (schema === false) return void add("nothing is taken here");
  const options = schema.anyOf ?? schema.oneOf;
  if (options) return void lookAtOptions(value, options, schema, types, steps, faults);
  if (schema.enum && !schema.enum.some((one) => same(one, value))) {
    return void add(
      `must be one of ${schema.enum
        .slice(0, 8)
        .map((one) => write(one))
        .join(", ")
        .slice(0, 300)}`,
    );
  }
  if ("const" in schema && !same(schema.const, value))
    return void add(`must be ${write(schema.const)}`);
  if (schema.type && ![schema.type].flat().some((type) => isOf(value, type))) {
    return void add(
      `must be ${typeText({ type: schema.type, format: schema.format, items: schema.items }, types)}`,
    );
  }
  const kind = kindOf(value);
  if (kind === "number") lookAtNumber(value, schema, add);
  if (kind === "string") lookAtText(value, schema, add);
  if (kind === "array") lookAtList(value, schema, types, steps, faults, add);
  if (kind === "object") lookAtObject(value, schema, types, steps, faults, add);
}

function isOf(value, type) {
  const kind = kindOf(value);
  return type === kind || (type === "integer" && kind === "number" && isWhole(value));
}

/** Of several choices: the faults of the one that comes nearest. */
function lookAtOptions(value, options, schema, types, steps, faults) {
  const tried = options.map((option) => {
    const found = [];
    look(value, option, types, steps, found);
    return found;
  });
  if (tried.some((found) => !found.length)) return;
  const near = tried[nearest(value, options, schema, types)];
  if (near) faults.push(...near);
  else faults.push({ steps, text: `must be ${typeText({ anyOf: options }, types)}` });
}

/** The number of the choice that a value is meant for; -1 when it may be any. */
export function nearest(value, options, schema, types) {
  const kind = kindOf(value);
  const fits = options.map((option) => {
    const found = types.resolve(option);
    if (found.enum) return found.enum.some((one) => same(one, value));
    return !found.type || [found.type].flat().some((type) => isOf(value, type));
  });
  const key = schema.discriminator?.propertyName;
  if (kind === "object") {
    const tagged = options.findIndex((option) => {
      const { properties = {} } = types.resolve(option);
      const tags = Object.entries(properties).filter(
        ([name, each]) =>
          (name === key || !key) && (types.resolve(each).enum || "const" in types.resolve(each)),
      );
      return tags.some(([name, each]) => {
        const tag = types.resolve(each);
        return Object.hasOwn(value, name) && (tag.enum ?? [tag.const]).some((one) => same(one, value[name]));
      });
    });
    if (tagged >= 0) return tagged;
  }
  const candidates = fits.flatMap((one, at) => (one ? [at] : []));
  if (candidates.length < 2) return candidates[0] ?? -1;
  const exact = candidates.find((at) => !faultsOf(value, options[at], types).length);
  return exact ?? candidates[0];
}

function lookAtNumber(value, schema, add) {
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf } = schema;
  if (minimum != null && value < minimum) add(`must be ${minimum} or more`);
  if (maximum != null && value > maximum) add(`must be ${maximum} or less`);
  if (exclusiveMinimum != null && value <= exclusiveMinimum) add(`must be more than ${exclusiveMinimum}`);
  if (exclusiveMaximum != null && value >= exclusiveMaximum) add(`must be less than ${exclusiveMaximum}`);
  if (multipleOf && isWhole(value) && Number.isInteger(multipleOf) && BigInt(value) % BigInt(multipleOf)) {
    add(`must be a multiple of ${multipleOf}`);
  }
}

function lookAtText(value, schema, add) {
  const length = value.length > 100_000 ? value.length : [...value].length;
  if (schema.minLength > length) add(`must have ${schema.minLength} characters or more`);
  if (schema.maxLength < length) add(`must have ${schema.maxLength} characters or less`);
  if (schema.pattern && value.length < 200) {
    let pattern = null;
    try {
      pattern = new RegExp(schema.pattern, "u");
    } catch {
      /* Python's own: the service will tell */
    }
    if (pattern && isQuick(schema.pattern, value.length) && !pattern.test(value))
      add(`must match ${schema.pattern.slice(0, 200)}`);
  }
  if (schema.contentEncoding === "base64" && !BASE64.test(value)) add("must be base64");
  const [format, told] = (Object.hasOwn(FORMATS, schema.format ?? "") && FORMATS[schema.format]) || [];
  if (format && !format.test(value)) add(`must be ${told}`);
}

const STEPS = 1_000_000;

// Each repetition may be tried with each number of times, beside each of the others; a group that is
// repeated multiplies them without end. Where that is too much the service will tell.
function isQuick(pattern, length) {
  if (/\)[*+?{]/.test(pattern)) return false;
  let steps = length + 1;
  for (const [mark, low, most] of pattern.matchAll(/[*+]|\?|\{(\d+)(,\d*)?\}/g)) {
    if (mark === "?") steps *= 2;
    else if (low === undefined || most === ",") steps *= length + 1;
    else if (most) steps *= Math.min(length, most.slice(1) - low) + 1;
  }
  return steps <= STEPS;
}

function lookAtList(value, schema, types, steps, faults, add) {
  if (schema.minItems > value.length) add(`must have ${schema.minItems} items or more`);
  if (schema.maxItems < value.length) add(`must have ${schema.maxItems} items or less`);
  value.forEach((one, at) =>
    look(one, schema.prefixItems?.[at] ?? schema.items, types, [...steps, at], faults),
  );
}

function lookAtObject(value, schema, types, steps, faults, add) {
  const properties = schema.properties ?? {};
  for (const name of schema.required ?? []) {
    if (!Object.hasOwn(value, name)) faults.push({ steps: [...steps, name], text: "is missing" });
  }
  const keys = Object.keys(value);
  if (schema.minProperties > keys.length) add(`must have ${schema.minProperties} entries or more`);
  if (schema.maxProperties < keys.length) add(`must have ${schema.maxProperties} entries or less`);
  for (const key of keys) {
    const known = Object.hasOwn(properties, key);
    if (!known && schema.additionalProperties === false) {
      faults.push({ steps: [...steps, key], text: "is not expected" });
      continue;
    }
    if (!known && schema.propertyNames)
      look(key, { type: "string", ...types.resolve(schema.propertyNames) }, types, [...steps, key], faults);
    look(value[key], known ? properties[key] : schema.additionalProperties, types, [...steps, key], faults);
  }
}

/** The params of a method as one schema of an object. */
export function schemaOf(method) {
  return {
    type: "object",
    properties: Object.fromEntries(method.params.map((each) => [each.name, each.schema])),
    required: method.params.filter((each) => each.required).map((each) => each.name),
    additionalProperties: method["x-named-rest"]?.schema ?? false,
  };
}

/** List what is wrong with the params of a method, by position or by name. */
export function faultsOfParams(params, method) {
  if (!Array.isArray(params)) {
    if (kindOf(params) !== "object") return [{ steps: [], text: "params are a list or an object" }];
    return faultsOf(params, schemaOf(method), method.types);
  }
  const positions = method.params.filter((each) => each["x-kind"] !== "named");
  const faults = [];
  params.forEach((value, at) => {
    const schema = positions[at]?.schema ?? method["x-rest"]?.schema;
    const name = positions[at]?.name ?? at;
    if (schema === undefined)
      faults.push({
        steps: [],
        text: `takes ${positions.length} parameters by position, not ${params.length}`,
      });
    else look(value, schema, method.types, [name], faults);
  });
  for (const each of positions.slice(params.length)) {
    if (each.required) faults.push({ steps: [each.name], text: "is missing" });
  }
  return faults;
}
