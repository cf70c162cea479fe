// The expression box: one line that states the view, with colours, completion, and the place of an error.

import { h, number } from "./dom.js";

const WORDS = new Set(["and", "or", "not", "in", "contains", "is", "missing"]);
const TOKEN = /'(?:[^']|'')*'?|"(?:[^"]|"")*"?|`(?:[^`]|``)*`?|[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.-])|[\p{L}\p{N}_][\p{L}\p{N}_.-]*|\s+|./gu;
const PART = /[\p{L}\p{N}_.-]+$/u;
const MEANINGS = {
  fraction: "vote fraction", votes: "votes", asked: "total votes", model: "predicted", low: "lower end", high: "upper end",
  posterior: "posterior", gap: "model − volunteers", proportion: "proportion asked", number: "number", text: "text", other: "column",
};
const WAIT = 400; // milliseconds of rest before a typed expression is tried

export function expressionBox(app) {
  const ink = h("div", { class: "ink", "aria-hidden": "true" });
  const input = h("input", {
    type: "text", role: "combobox", spellcheck: "false", autocomplete: "off", autocapitalize: "off", "aria-label": "Filter expression",
    "aria-autocomplete": "list", "aria-expanded": "false", "aria-controls": "suggestions", placeholder: "all galaxies", maxlength: "2000",
  });
  const options = h("ul", { class: "suggestions", id: "suggestions", role: "listbox", "aria-label": "Names", hidden: true });
  const clear = h("button", { class: "text-button", onclick: () => { commit(""); input.focus(); } }, "clear");
  const problem = h("div", { class: "problem", id: "problem", role: "status" });
  const root = h("div", { class: "expression" },
    h("div", { class: "box" }, h("kbd", { "aria-hidden": "true" }, "/"), h("div", { class: "line" }, ink, input), clear), options, problem);
  let waiting;
  let pushed = false; // this edit has its entry in the history; the next key replaces it
  let chosen = -1;
  let listed = [];

  function paint(wrong = -1) {
    ink.replaceChildren();
    for (const { 0: token, index } of input.value.matchAll(TOKEN)) {
      const isName = /^[\p{L}_`"]/u.test(token);
      const kind = WORDS.has(token.toLowerCase()) ? "word" : isName ? "name" : "";
      ink.append(h("span", { class: `${kind}${index === wrong ? " here" : ""}` || null }, token));
    }
    ink.scrollLeft = input.scrollLeft;
    clear.hidden = !input.value;
  }

  function commit(text, { replace = false } = {}) {
    clearTimeout(waiting);
    input.value = text;
    paint();
    app.go({ q: text.trim() }, { replace });
  }

  // A wrong expression leaves the address and what is shown as they are.
  async function try_() {
    const text = input.value.trim();
    const wasPushed = pushed;
    if (text === app.state.q) return succeed();
    pushed = true;
    try {
      if (text) await app.get("check", new URLSearchParams({ q: text }));
    } catch (error) {
      pushed = wasPushed;
      // an unfinished name is no error while names are offered for it
      if (error.status === 400 && options.hidden) fail(error);
      return;
    }
    if (input.value.trim() === text) app.go({ q: text }, { replace: wasPushed });
  }

  async function suggest() {
    const before = input.value.slice(0, input.selectionStart);
    const part = PART.exec(before)?.[0] ?? "";
    if (part.length < 1 || /^[\d.]+$/.test(part) || input.selectionStart !== input.selectionEnd) return hide();
    const names = await app.namesForCompletion().catch(() => []);
    if (document.activeElement !== input) return hide();
    const wanted = part.toLowerCase();
    const score = ({ name }) => {
      const at = name.toLowerCase().indexOf(wanted);
      return at < 0 ? Infinity : at * 100 + name.length;
    };
    listed = names.map((one) => [score(one), one]).filter(([one]) => one < Infinity).sort((a, b) => a[0] - b[0])
      .slice(0, 8).map(([, one]) => one);
    if (!listed.length || (listed.length === 1 && listed[0].name === part)) return hide();
    chosen = -1;
    options.replaceChildren(...listed.map((one, i) => h("li", {
      role: "option", id: `suggestion-${i}`, "aria-selected": "false",
      onmousedown: (event) => { event.preventDefault(); take(i); },
    }, one.name, h("small", {}, MEANINGS[one.kind] ?? ""))));
    options.hidden = false;
    input.setAttribute("aria-expanded", "true");
  }

  function hide() {
    options.hidden = true;
    chosen = -1;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  }

  function mark(i) {
    chosen = (i + listed.length) % listed.length;
    [...options.children].forEach((one, j) => one.setAttribute("aria-selected", String(j === chosen)));
    input.setAttribute("aria-activedescendant", `suggestion-${chosen}`);
  }

  function take(i) {
    const at = input.selectionStart;
    const start = at - (PART.exec(input.value.slice(0, at))?.[0].length ?? 0);
    const name = listed[i].name;
    input.value = `${input.value.slice(0, start)}${name} ${input.value.slice(at).trimStart()}`;
    input.setSelectionRange(start + name.length + 1, start + name.length + 1);
    hide();
    paint();
  }

  input.addEventListener("input", () => {
    paint();
    suggest();
    clearTimeout(waiting);
    waiting = setTimeout(try_, WAIT);
  });
  input.addEventListener("scroll", () => { ink.scrollLeft = input.scrollLeft; });
  input.addEventListener("focus", () => { pushed = false; });
  input.addEventListener("blur", () => { hide(); clearTimeout(waiting); try_(); });
  input.addEventListener("keydown", (event) => {
    const isOpen = !options.hidden;
    if (isOpen && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
      event.preventDefault();
      mark(chosen < 0 && event.key === "ArrowUp" ? -1 : chosen + (event.key === "ArrowDown" ? 1 : -1));
    } else if (isOpen && (event.key === "Tab" || (event.key === "Enter" && chosen >= 0))) {
      event.preventDefault();
      take(Math.max(chosen, 0));
    } else if (event.key === "Enter") {
      hide();
      clearTimeout(waiting);
      try_().then(() => { pushed = false; });
    } else if (event.key === "Escape") {
      event.stopPropagation();
      if (isOpen) hide();
      else input.blur();
    }
  });

  function fail(error) {
    const typed = input.value.length - input.value.trimStart().length;
    const at = (error.position ?? -1) + typed;
    const more = error.hint || (error.expected && `Expected ${error.expected}`) || "";
    problem.replaceChildren(
      error.position >= 0 && input.value ? h("pre", { "aria-hidden": "true" }, `${" ".repeat(Math.min(at, 300))}▲`) : "",
      h("div", {}, error.message, " ", h("span", { class: "hint" }, more)));
    input.setAttribute("aria-invalid", "true");
    input.setAttribute("aria-describedby", "problem");
    paint(at);
  }

  function succeed(notes = []) {
    problem.replaceChildren(...notes.map((note) => h("div", { class: "hint" }, note)));
    input.removeAttribute("aria-invalid");
    input.removeAttribute("aria-describedby");
    paint();
  }

  return {
    root, fail, succeed,
    focus() { input.focus(); input.select(); },
    update(text) {
      if (document.activeElement === input && (input.value.trim() === text || input.getAttribute("aria-invalid"))) return;
      input.value = text;
      paint();
    },
  };
}

// Text of a conjunction without its conditions on some measures, and with others.
export function edited(conditions, without, added = []) {
  const isOut = (one) => without.includes(one.limits?.name);
  const first = conditions.findIndex(isOut); // others take its place, so that the sentence keeps its order
  const texts = conditions.flatMap((one, i) => (i === first ? added : isOut(one) ? [] : [one.text]));
  return [...texts, ...(first < 0 ? added : [])].join(" and ");
}

export function rangeText(spelling, low, high, ends) {
  const parts = [];
  if (low > ends[0]) parts.push(`${spelling} >= ${number(low)}`);
  if (high < ends[1]) parts.push(`${spelling} <= ${number(high)}`);
  return parts;
}

export function limitsOf(conditions, name) {
  const own = conditions.filter((one) => one.limits?.name === name).map((one) => one.limits);
  if (!own.length) return null;
  const lows = own.map((one) => one.low).filter((one) => one !== null);
  const highs = own.map((one) => one.high).filter((one) => one !== null);
  return { low: lows.length ? Math.max(...lows) : null, high: highs.length ? Math.min(...highs) : null };
}
