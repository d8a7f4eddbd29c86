// The one store: what the page knows and what was chosen. Whoever shows a part of it listens to it.

const state = {
  link: null, // what the address says: {kind, name, params}
  contract: null, // Contract, once it is read
  documents: "", // the texts that it was made of
  about: null, // what rpc.explorer.about tells; null where it tells nothing
  tokens: [], // where the service looks for tokens: {kind, name}
  credentials: {}, // what was typed for them, by `${kind} ${name}`
  headers: [], // more of them: {name, value}
  deadline: "", // seconds, as typed
  history: [], // the newest first
  batch: [], // {method, params, notify}
  language: "curl", // of code that is shown
  drafts: new Map(), // params that were typed, by method; without secrets
  theme: "", // "light", "dark", or "" for the system's
  remember: false,
};
const listeners = {};

export const get = (key) => state[key];

/** Change some of it, and tell those who listen. */
export function set(changes) {
  Object.assign(state, changes);
  for (const key of Object.keys(changes)) for (const listen of listeners[key] ?? []) listen(state[key]);
}

/** Call `listen` now and with every change, as long as `element` is on the page. */
export function watch(key, listen, element = null) {
  const all = (listeners[key] ??= new Set());
  let shown = false;
  const entry = (value) => {
    shown ||= element?.isConnected;
    if (shown && !element.isConnected) all.delete(entry);
    else listen(value);
  };
  all.add(entry);
  listen(state[key]);
}
