// A small Markdown, and the little of reStructuredText that docstrings have. It makes elements and
// text nodes only; a link goes to http, https or mailto, and nothing else comes of any text.
import { cut, el, plain } from "./dom.js";

// Bounded, so that no text takes long.
const INLINE = new RegExp(
  [
    "(`{1,2})([^`]{1,500})\\1(?:_{1,2})?", // code, and links of reStructuredText
    "\\*\\*([^*\\n]{1,500})\\*\\*",
    "\\*([^*\\s][^*\\n]{0,500})\\*",
    "\\[([^\\]\\n]{1,300})\\]\\(([^)\\s]{1,2000})\\)",
    "(https?://[^\\s<>\"'`)\\]]{1,2000})",
  ].join("|"),
  "g",
);
const SAFE = /^(https?:\/\/|mailto:)/i;
const LONGEST = 20_000; // characters that are shown at once
const BEYOND = 200_000; // what is longer nobody wrote to be read

function link(text, address) {
  if (!SAFE.test(address)) return document.createTextNode(plain(`[${text}](${address})`));
  return el("a", { href: address, rel: "noopener noreferrer", target: "_blank" }, plain(text));
}

function inline(text) {
  const found = [];
  let at = 0;
  for (const match of text.matchAll(INLINE)) {
    found.push(plain(text.slice(at, match.index)));
    const [whole, , code, strong, emphasis, label, address, bare] = match;
    if (code) found.push(el("code", {}, plain(code)));
    else if (strong) found.push(el("strong", {}, plain(strong)));
    else if (emphasis) found.push(el("em", {}, plain(emphasis)));
    else if (label) found.push(link(label, address));
    else if (bare) {
      const end = /[.,;:!?]+$/.exec(bare)?.[0] ?? "";
      const target = bare.slice(0, bare.length - end.length);
      found.push(link(target, target), end);
    }
    at = match.index + whole.length;
  }
  return [...found, plain(text.slice(at))];
}

/** Make the elements of a text. */
export function markdown(text) {
  return cut(text ?? "", LONGEST, (part) =>
    part.length > BEYOND ? codeBlock(part, "Text") : el("div", { class: "markdown" }, blocks(part.split("\n"))),
  );
}

function blocks(lines) {
  const found = [];
  let paragraph = [];
  const flush = () => {
    if (paragraph.length) found.push(el("p", {}, inline(paragraph.join("\n"))));
    paragraph = [];
  };
  for (let at = 0; at < lines.length; at++) {
    const line = lines[at];
    const [, fence] = /^\s*(```+|~~~+)/.exec(line) ?? [];
    const [, mark] = /^\s*([-*+]|\d{1,9}[.)])\s/.exec(line) ?? [];
    const [, title] = /^#{1,6}\s+(.*)/.exec(line) ?? [];
    if (fence || (/^( {4}|>>> )/.test(line) && !paragraph.length)) {
      flush();
      const code = [];
      if (fence) {
        while (++at < lines.length && !lines[at].trim().startsWith(fence)) code.push(lines[at]);
      } else {
        const inside = line.startsWith(" ") ? /^( {4}|$)/ : /\S/;
        for (; at < lines.length && inside.test(lines[at]); at++) code.push(lines[at].replace(/^ {4}/, ""));
        at -= 1;
      }
      found.push(codeBlock(code.join("\n").trimEnd()));
    } else if (title) {
      flush();
      found.push(el("p", { class: "title" }, inline(title)));
    } else if (mark) {
      flush();
      const items = [];
      const ordered = /\d/.test(mark);
      for (; at < lines.length && lines[at].trim(); at++) {
        const item = /^\s*(?:[-*+]|\d{1,9}[.)])\s+(.*)/.exec(lines[at]);
        if (item) items.push([item[1]]);
        else if (/^\s/.test(lines[at])) items.at(-1).push(lines[at].trim());
        else break;
      }
      at -= 1;
      found.push(
        el(
          ordered ? "ol" : "ul",
          {},
          items.map((item) => el("li", {}, inline(item.join("\n")))),
        ),
      );
    } else if (!line.trim()) flush();
    else paragraph.push(line.trim().replace(/::$/, ":"));
  }
  flush();
  return found;
}

/** Make a block of code, which may be scrolled by keyboard too. */
export function codeBlock(text, label = "Code") {
  return el("pre", { tabindex: "0", role: "group", "aria-label": label }, el("code", {}, plain(text)));
}
