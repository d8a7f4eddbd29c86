// Keep things on this computer: only if somebody asks for it, and until they say forget.
import { announce } from "./dom.js";
import { kindOf } from "./json.js";
import { below } from "./send.js";
import { get, set, watch } from "./store.js";

const isText = (one) => typeof one === "string";
const isList = (one, of) => Array.isArray(one) && one.every((each) => kindOf(each) === "object" && of(each));
const isCall = ({ method, params, outcome, time, ms }) =>
  [method, params, outcome].every(isText) && [time, ms].every(Number.isFinite);

// Somebody may have changed what is kept, or another version kept it: what is not as we keep it is not taken.
const KEPT = {
  credentials: (one) => kindOf(one) === "object" && Object.values(one).every(isText),
  headers: (one) => isList(one, ({ name, value }) => isText(name) && isText(value)),
  deadline: isText,
  history: (one) => isList(one, isCall),
  theme: isText,
  language: isText,
};
const key = `gemstone explorer ${below("docs")}`; // of the origin's services this one

/** Take what was kept, and keep what changes from now on if that was asked for. */
export function startKeeping() {
  try {
    const kept = JSON.parse(localStorage.getItem(key));
    if (kept) {
      const taken = Object.entries(KEPT).filter(([name, fits]) => Object.hasOwn(kept, name) && fits(kept[name]));
      set({ ...Object.fromEntries(taken.map(([name]) => [name, kept[name]])), remember: true });
    }
  } catch {
    /* no storage, or nothing of ours */
  }
  for (const name of Object.keys(KEPT)) watch(name, keep);
  // Forgotten in another tab: or this one would bring it back.
  addEventListener("storage", (event) => {
    if (event.newValue === null && (event.key === key || event.key === null)) set({ remember: false });
  });
}

function keep() {
  if (!get("remember")) return;
  try {
    const kept = Object.keys(KEPT).map((name) => [name, get(name)]);
    localStorage.setItem(key, JSON.stringify(Object.fromEntries(kept)));
  } catch {
    announce("The browser does not let this page keep anything");
  }
}

export function setRemember(yes) {
  set({ remember: yes });
  if (yes) keep();
  else {
    try {
      localStorage.removeItem(key);
    } catch {
      /* there is none */
    }
    announce("Forgotten");
  }
}
