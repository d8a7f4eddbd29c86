// JSON that keeps numbers as they are written, as the service does: whole ones beyond 2^53 are BigInts,
// and what JavaScript would write otherwise (1.0, 1e3, 0.1 with thirty digits) is an `Exact`.

class Exact {
  constructor(text) {
    this.text = text;
  }
  valueOf() {
    return Number(this.text);
  }
  toString() {
    return this.text;
  }
}

/** @throws {SyntaxError} */
export function parse(text) {
  return JSON.parse(text, (key, value, context) => {
    const written = typeof value === "number" && context?.source;
    if (!written || written === String(value)) return value;
    if (!/^-?\d+$/.test(written)) return new Exact(written);
    return Number.isSafeInteger(value) ? value : BigInt(written);
  });
}

export function write(value, indent = 0) {
  return JSON.stringify(
    value,
    (key, one) => {
      if (typeof one !== "bigint" && !(one instanceof Exact)) return one;
      return JSON.rawJSON ? JSON.rawJSON(String(one)) : Number(one);
    },
    indent,
  );
}

/** Read a number as it is typed; what is none stays a text. */
export function numberOf(text, whole) {
  if (text.length > 5000) return text; // no service takes more digits
  const [, sign, before, after = "", power = ""] =
    /^\+?(-?)0*(\d*)(?:\.(\d*))?(e[+-]?\d+)?$/i.exec(text.trim()) ?? [];
  const point = text.includes(".");
  if (sign === undefined || !/^[+-]?\.?\d/.test(text.trim()) || (whole && (point || power))) return text;
  const found = parse(`${sign}${before || "0"}${point ? `.${after || "0"}` : ""}${power}`);
  return Number.isFinite(Number(found)) ? found : text;
}

export function kindOf(value) {
  if (value === null) return "null";
  if (Array.isArray(value)) return "array";
  return typeof value === "bigint" || value instanceof Exact ? "number" : typeof value;
}

export const isWhole = (value) => typeof value === "bigint" || Number.isInteger(value);

/** Tell whether two values are the same JSON. */
export function same(a, b) {
  if (a === b) return true;
  const kind = kindOf(a);
  if (kind !== kindOf(b)) return false;
  if (kind !== "array" && kind !== "object") return kind === "number" && String(a) === String(b);
  const keys = Object.keys(a);
  return (
    keys.length === Object.keys(b).length &&
    keys.every((key) => Object.hasOwn(b, key) && same(a[key], b[key]))
  );
}
