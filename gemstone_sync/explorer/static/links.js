// Links within the page. What is chosen stands behind the `#`, which no server sees.
import { kindOf, parse, write } from "./json.js";

const LONGEST = 4000; // characters of params that a link takes

/** Make a link: `linkTo("method", "users.login", {name: "ada"})`. */
export function linkTo(kind, name = "", params = undefined) {
  const base = `#${kind}${name ? `/${encodeURIComponent(name)}` : ""}`;
  if (params === undefined || Object.keys(params).length === 0) return base;
  const text = encodeURIComponent(write(params));
  return text.length > LONGEST ? base : `${base}?params=${text}`;
}

/** Read the address: {kind, name, params}, params as text. */
export function readLink(hash = location.hash) {
  const [path, query = ""] = hash.replace(/^#/, "").split("?");
  const [kind, name = ""] = path.split("/");
  const decode = (text) => {
    try {
      return decodeURIComponent(text);
    } catch {
      return "";
    }
  };
  const params = query.startsWith("params=") ? decode(query.slice(7)) : undefined;
  return { kind, name: decode(name), params };
}

/** Read params that stand somewhere as text; undefined when they are none. */
export function readParams(text) {
  try {
    const found = text === undefined ? undefined : parse(text);
    return ["array", "object"].includes(kindOf(found)) ? found : undefined;
  } catch {
    return undefined;
  }
}
