// The address is the state: back, forward, reload and a copied link give the same view.

const DEFAULTS = { q: "", sort: "", split: "", campaign: "", shape: "", z: "", cards: "", of: "", question: "", answer: "", bin: "" };
const KEPT = ["q", "sort", "split", "campaign", "shape", "z", "cards"];

// A site without a server has no other addresses than its own: the same strings follow a #.
export const isStatic = "static" in document.documentElement.dataset;
const PREFIX = isStatic ? "#" : "";

export function read(location) {
  const { pathname, search } = isStatic ? new URL(location.hash.slice(1) || "/", "http://site") : location;
  const [, view = "", ...rest] = pathname.split("/");
  const given = new URLSearchParams(search);
  const state = { view: view || "gallery", id: "", ...DEFAULTS };
  if (view === "galaxy") state.id = decode(rest.join("/"));
  for (const name of Object.keys(DEFAULTS)) state[name] = given.get(name) ?? "";
  return state;
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

export function write(state) {
  const path = state.view === "galaxy" ? `/galaxy/${encodeURIComponent(state.id)}` : `/${state.view}`;
  const names = { galaxy: [...KEPT, "of"], model: [...KEPT, "question", "answer", "bin"] }[state.view] ?? KEPT;
  const query = names.filter((name) => state[name] !== "").map((name) => `${name}=${encodeURIComponent(state[name])}`);
  return PREFIX + (query.length ? `${path}?${query.join("&")}` : path);
}

// Parameters that the server understands.
export function filter(state) {
  const query = new URLSearchParams();
  for (const name of ["q", "sort", "split", "campaign", "shape"]) if (state[name]) query.set(name, state[name]);
  return query;
}

export const list = (text) => text.split(",").filter(Boolean);
