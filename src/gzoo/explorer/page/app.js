// Header, navigation, keys and dialogs; each view is a module of its own.

import { get, isAbort, label, Refused } from "./api.js";
import { h, s, announce, plural } from "./dom.js";
import { showHelp, showSave } from "./dialogs.js";
import { filter, isStatic, read, write } from "./state.js";
import * as gallery from "./gallery.js";
import * as galaxy from "./galaxy.js";
import * as overview from "./overview.js";
import * as model from "./model.js";
import * as map from "./map.js";

const VIEWS = { gallery, galaxy, overview, model, map };
const TITLES = { gallery: "Gallery", overview: "Overview", model: "Model against volunteers", map: "Map" };

const EVERYTHING = { view: "gallery", q: "", sort: "", split: "", campaign: "", shape: "", cards: "", z: "" };

export const app = {
  about: null,
  state: read(location),
  pins: new Map(),
  names: null,
  labels: new Map(), // row -> class that was given while looking
  running: 0,
  lettersOff: localStorage.getItem("gzoo-letters") === "off",

  // Changes of the address: `replace` while something moves, otherwise a new entry of the history.
  go(changes, { replace = false, keep = null } = {}) {
    const next = { ...this.state, ...changes };
    if (next.view !== "model") Object.assign(next, { question: "", answer: "", bin: "" });
    if (next.view !== "galaxy") Object.assign(next, { id: "", of: "" });
    const address = write(next);
    if (address !== write(this.state)) {
      if (!replace) this.remember();
      // an entry knows the view that it was opened from, so that Esc can go back to it
      const kept = replace ? history.state : { from: this.state.view };
      history[replace ? "replaceState" : "pushState"](keep ?? kept, "", address);
    }
    this.state = next;
    this.show();
  },

  link(changes) {
    return write({ ...this.state, ...changes });
  },

  // Back to the grid as it was, or to the start of it.
  leave() {
    if (history.state?.from === "gallery") history.back();
    else this.go({ view: "gallery" });
  },

  // What an entry of the history keeps beside its address: where one was.
  remember() {
    history.replaceState({ ...history.state, ...(this.view?.place?.() ?? {}) }, "");
  },

  async get(what, query = filter(this.state), options = {}) {
    const main = document.getElementById("main");
    main.setAttribute("aria-busy", String((this.running += 1) > 0));
    try {
      return await get(what, query, options);
    } catch (error) {
      if (error instanceof Refused && (error.status === 409 || error.status === 0)) this.warn(error);
      throw error;
    } finally {
      main.setAttribute("aria-busy", String((this.running -= 1) > 0));
    }
  },

  namesForCompletion() {
    this.names ??= this.get("names", new URLSearchParams()).then((found) => found.names);
    return this.names;
  },

  warn(error) {
    document.getElementById("banner").textContent = [error.message, error.hint].filter(Boolean).join(" ");
  },

  takeLabels({ labels }) {
    this.labels = new Map(Object.entries(labels).map(([row, name]) => [Number(row), name]));
  },

  // Shift+1 to Shift+9 give the galaxies in view a class, Shift+0 takes it away.
  async label(key) {
    const { labelling } = this.about;
    const rows = this.view.inView?.() ?? [];
    const name = key ? labelling.classes[key - 1] : "";
    if (!rows.length || name === undefined) return;
    try {
      this.takeLabels(await label(labelling, rows, name));
    } catch (error) {
      return this.warn(error instanceof Refused ? error : { message: "The labels were not written.", hint: "The server does not answer." });
    }
    announce(`${plural(rows.length, "galaxy", "galaxies")}: ${name || "label removed"}`);
    this.view.labelled?.();
    this.drawHeader();
  },

  // An image failed: the dataset may have changed, or the server may have ended.
  checkServer() {
    clearTimeout(this.checking);
    this.checking = setTimeout(() => this.get("rows", new URLSearchParams({ n: "1" }), { kind: "check" }).catch(() => {}), 200);
  },

  show() {
    const { state } = this;
    const chosen = VIEWS[state.view] && this.has(state.view) ? state.view : "gallery";
    document.body.classList.toggle("whole", state.z === "whole");
    delete document.body.dataset.sheet;
    if (this.shown !== chosen) {
      this.view?.close?.();
      const main = document.getElementById("main");
      main.replaceChildren();
      main.className = "";
      this.shown = chosen;
      this.view = VIEWS[chosen].open(main, this);
      if (!main.firstChild) main.append(h("p", { class: "loading" }, "Loading …")); // until the view draws over it
    }
    this.view.update(state);
    this.drawHeader();
  },

  has(view) {
    return (view !== "model" || this.about.predictions) && (view !== "map" || this.about.map);
  },

  title(text) {
    document.title = `${text} · ${this.about.name} · gzoo`;
  },

  drawHeader() {
    const { about, state } = this;
    const views = Object.entries(TITLES).filter(([name]) => this.has(name));
    const link = (name, text) =>
      h("a", {
        href: this.link({ view: name }), "aria-current": state.view === name && "page",
        onclick: (event) => this.follow(event, { view: name }),
      }, name === "model" ? ["Model", h("span", { class: "rest" }, " against volunteers")] : text);
    document.getElementById("header").replaceChildren(
      h("a", { class: "brand", href: this.link(EVERYTHING), "aria-label": "gzoo, all galaxies",
        onclick: (event) => this.follow(event, EVERYTHING) },
        logo(), "gzoo"),
      h("span", { class: "dataset", title: about.folder }, about.name,
        about.is_simulated ? h("small", { class: "simulated" }, "simulated", h("span", {}, " images and votes")) : h("small", {}, about.title),
        about.labelling && h("small", { class: "labelled" }, `${plural(this.labels.size, "label")} in ${about.labelling.file}`)),
      h("nav", { class: "views", "aria-label": "Views" }, views.map(([name, text]) => link(name, text))),
      h("div", { class: "tools" },
        h("button", { class: "save", onclick: () => showSave(this) }, "Save rows"),
        h("button", { "aria-label": "Light or dark", title: "Light or dark", onclick: turnTheme }, "◐"),
        h("button", { "aria-label": "Help and keys", title: "Help and keys", onclick: () => showHelp(this) }, "?")),
    );
  },

  follow(event, changes) {
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
    event.preventDefault();
    this.go(changes);
    if (changes.view) scrollTo(0, 0);
  },
};

function logo() {
  return s("svg", { viewBox: "0 0 32 32", "aria-hidden": "true" },
    s("g", { transform: "rotate(-28 16 16)" },
      s("ellipse", { cx: 16, cy: 16, rx: 14, ry: 7, fill: "none", stroke: "var(--volunteers)", "stroke-width": 3 }),
      s("circle", { cx: 16, cy: 16, r: 4, fill: "var(--model)" })));
}

function turnTheme() {
  const root = document.documentElement;
  const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = isDark ? "light" : "dark";
  localStorage.setItem("gzoo-theme", root.dataset.theme);
  announce(isDark ? "Light colours" : "Dark colours");
}

const KEYS = {
  "/": () => app.view.expression?.focus(),
  t: () => app.view.focusTree?.(),
  z: () => app.go({ z: app.state.z ? "" : "whole" }, { replace: true }),
  s: () => showSave(app),
  m: () => app.view.pin?.(),
  j: () => app.view.turn?.(1),
  k: () => app.view.turn?.(-1),
  1: () => app.go({ view: "gallery" }),
  2: () => app.go({ view: "overview" }),
  3: () => app.has("model") && app.go({ view: "model" }),
  4: () => app.has("map") && app.go({ view: "map" }),
  "?": () => showHelp(app),
};

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !app.about) return;
  const inField = event.target.closest("input:not([type=range]), select, textarea, dialog");
  if (event.key === "Escape" && !inField) {
    if (document.body.dataset.sheet) delete document.body.dataset.sheet;
    else app.view.escape?.();
    return;
  }
  if (event.shiftKey && /^Digit\d$/.test(event.code) && app.about.labelling && !inField && !app.lettersOff) {
    event.preventDefault();
    app.label(Number(event.code.slice(5)));
    return;
  }
  if (inField || (app.lettersOff && event.key !== "?")) return;
  const act = Object.hasOwn(KEYS, event.key) && KEYS[event.key];
  if (act) {
    event.preventDefault();
    act();
  }
});

addEventListener("popstate", () => {
  app.state = read(location);
  app.show();
});
history.scrollRestoration = "manual";
document.querySelector(".skip").addEventListener("click", (event) => {
  if (!isStatic) return;
  event.preventDefault(); // what follows the # is the view
  document.getElementById("main").focus();
});
let settling;
addEventListener("scroll", () => {
  clearTimeout(settling);
  settling = setTimeout(() => app.about && app.remember(), 150);
}, { passive: true });

try {
  app.about = await get("about");
  if (app.about.labelling) app.takeLabels(await get("labels"));
  app.show();
} catch (error) {
  if (!isAbort(error)) app.warn(error);
}
