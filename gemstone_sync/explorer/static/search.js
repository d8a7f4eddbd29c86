// Search in methods and events: names, summaries and names of parameters.

/** Make what is searched in, once. */
export function indexOf(contract) {
  const entry = (item, kind, params) => ({
    item,
    kind,
    name: item.name.toLowerCase(),
    summary: (item.summary ?? "").slice(0, 500).toLowerCase(),
    params: params.join(" ").toLowerCase(),
  });
  return [
    ...contract.methods.map((each) =>
      entry(
        each,
        "method",
        each.params.map((one) => one.name),
      ),
    ),
    ...contract.events.map((each) =>
      entry(each, each.action, Object.keys(each.types.resolve(each.schema).properties ?? {})),
    ),
  ];
}

// The lower the better; 9 for a word that is nowhere.
function rank(entry, word) {
  const at = entry.name.indexOf(word);
  if (at === 0) return entry.name.length === word.length ? 0 : 1;
  if (at > 0) return "._".includes(entry.name[at - 1]) ? 2 : 3;
  if (entry.summary.includes(word)) return 4;
  return entry.params.includes(word) ? 5 : 9;
}

/** Find the entries in which each word of the query is somewhere, the best first. */
export function find(entries, query) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  const found = [];
  for (const entry of entries) {
    let worst = 0;
    for (const word of words) {
      worst = Math.max(worst, rank(entry, word));
      if (worst === 9) break;
    }
    if (worst < 9) found.push({ entry, worst });
  }
  return found.sort((a, b) => a.worst - b.worst).map(({ entry }) => entry);
}
