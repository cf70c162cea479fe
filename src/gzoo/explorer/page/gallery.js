// The gallery: an endless grid of images, with the tree, the expression and the histograms that choose them.

import { h, announce, count, number, thumbnail } from "./dom.js";
import { isAbort } from "./api.js";
import { histogramCards } from "./cards.js";
import { edited, expressionBox } from "./expression.js";
import { shapeNote } from "./map.js";
import { filter } from "./state.js";
import { filterTree } from "./tree.js";

const PAGE = 60; // rows in one request
const SMALLEST = 150; // pixels of a tile
const MAX_HEIGHT = 12e6; // browsers do not lay out taller elements
const CAPTION = 26;

export function caption(tile) {
  const value = [];
  if (tile.k !== undefined) {
    const bar = h("span", { class: "bar", "aria-hidden": "true" });
    if (tile.n) bar.append(h("i", { style: { width: `${(100 * tile.k) / tile.n}%` } }));
    if (tile.model !== undefined) bar.append(h("b", { style: { left: `${100 * tile.model}%` } }));
    value.push(tile.label ? h("span", { class: "label" }, tile.label) : bar,
      tile.label ? h("span", { style: { "margin-left": "auto" } }) : "",
      h("span", {}, String(tile.k), h("span", { class: "of" }, `/${tile.n}`)));
  }
  if (tile.value !== undefined) value.push(h("span", { style: { "margin-left": "auto" } }, tile.value === null ? "–" : typeof tile.value === "number" ? number(tile.value) + (tile.unit ?? "") : tile.value));
  return h("span", { class: "caption" }, value);
}

export function alt(app, tile, what = "") {
  const saw = tile.k === undefined ? "" : `: ${tile.k} of ${tile.n} volunteers ${what || (tile.label ? `answered ${tile.label}` : "agree")}`;
  return `Galaxy ${tile.id}${saw}`;
}

export function open(main, app) {
  const { about } = app;
  let view = null;
  let loaded = ""; // query of what is shown
  let tiles = new Map(); // place in the order -> tile
  let asked = new Set();
  let current = 0;
  let columns = 1;
  let size = SMALLEST;
  let gap = 12;
  let restoring = history.state?.top ?? null;

  const expression = expressionBox(app);
  const tree = filterTree(about, { choose });
  const cards = histogramCards(app, () => view);
  const number_ = h("strong", {}, "–");
  const of = h("span", {}, ` of ${count(about.n)}`);
  const counter = h("p", { class: "count" }, number_, of);
  const sorting = sortBox();
  const shape = shapeNote(app);
  const note = h("p", { class: "note", hidden: true });
  const window_ = h("ul", { class: "window", role: "list", "aria-label": "Galaxies" });
  const grid = h("div", { class: "grid" }, window_);
  const dock = h("div", { class: "dock" }, [["tree", "Tree"], ["cards", "Histograms"], ["sort", "Sort"]].map(([name, text]) =>
    h("button", { "aria-expanded": "false", onclick: () => sheet(name) }, text)));
  const sheetCount = h("p", { class: "count" });
  const sheetHead = h("div", { class: "sheet-head" }, sheetCount, h("button", { class: "text-button", onclick: () => sheet(null) }, "done"));
  const panel = h("aside", { class: "tree-panel", "aria-label": "Decision tree" }, tree.root);
  const content = h("div", { class: "content" },
    h("div", { class: "topbar" }, expression.root, counter, sorting.root),
    cards.chips, cards.root, shape.node, note, grid);
  main.classList.add("gallery");
  main.classList.toggle("without-tree", !about.questions.length);
  main.append(panel, content, sheetHead, dock, pins());

  function sheet(name) {
    const isOpen = document.body.dataset.sheet === name;
    if (!name || isOpen) delete document.body.dataset.sheet;
    else document.body.dataset.sheet = name;
    [...dock.children].forEach((one, i) => one.setAttribute("aria-expanded", String(document.body.dataset.sheet === ["tree", "cards", "sort"][i])));
    tree.update(view);
  }

  function choose(question, answer) {
    const conditions = view?.conditions ?? [];
    const isChosen = conditions.some((one) => one.limits?.name === answer.measure && one.limits.low !== null);
    const asked_ = `${question.name}.asked`;
    if (!isChosen) {
      const others = question.answers.map((one) => one.measure);
      app.go({ q: edited(conditions, question.multiple ? [answer.measure, asked_] : [...others, asked_],
        [`${answer.name} > 0.5`, `${question.asked} >= ${about.min_votes}`]) });
    } else {
      app.go({ q: edited(conditions, [answer.measure, asked_]) });
    }
  }

  function sortBox() {
    const select = h("select", { id: "sort", onchange: () => app.go({ sort: select.value }) });
    const group = (label, ...options) => h("optgroup", { label }, options);
    const pair = (name, label) => [["-", "most"], ["", "least"]].map(([sign, word]) => h("option", { value: sign + name }, `${word} ${label ?? name} first`));
    select.append(h("option", { value: "" }, "order of the dataset"));
    if (about.predictions) select.append(h("option", { value: "-disagreement" }, "largest disagreement first"));
    for (const question of about.questions) {
      select.append(group(question.label, question.answers.map((answer) => pair(answer.name)), pair(question.asked)));
      if (question.predicted) select.append(group(`${question.label}: model`, question.answers.map((answer) => pair(`${answer.name}.model`))));
    }
    select.append(group("Columns", about.columns.map((name) => pair(name))));
    const turn = h("button", { class: "text-button", "aria-label": "Reverse the order", title: "Reverse the order", onclick: () => {
      const { sort } = app.state;
      if (sort) app.go({ sort: sort.startsWith("-") ? sort.slice(1) : `-${sort}` });
    } }, "⇅");
    return {
      root: h("div", { class: "sorting" }, h("label", { for: "sort", class: "unseen" }, "Order"), select, turn),
      update(sort) {
        if (![...select.options].some((one) => one.value === sort)) {
          select.prepend(h("option", { value: sort }, sort.startsWith("-") ? `most ${sort.slice(1)} first` : `least ${sort} first`));
        }
        select.value = sort;
        turn.hidden = !sort;
      },
    };
  }

  // ------------------------------------------------------------------------------------------------
  // The grid: only the tiles near the window exist

  function measure() {
    gap = innerWidth < 720 ? 8 : 12;
    const width = grid.clientWidth;
    columns = Math.max(Math.floor((width + gap) / (SMALLEST + gap)), 1);
    size = (width - gap * (columns - 1)) / columns;
    window_.style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`;
  }
  const rowHeight = () => size + CAPTION + gap;
  const nListed = () => Math.min(view?.count ?? 0, Math.floor(MAX_HEIGHT / rowHeight()) * columns);

  function layout() {
    if (!view) return;
    measure();
    const n = nListed();
    grid.style.height = `${Math.ceil(n / columns) * rowHeight()}px`;
    note.hidden = n === view.count;
    note.textContent = n === view.count ? "" : `The first ${count(n)} are listed. Filter or sort to see others.`;
    draw();
  }

  let drawn = "";
  let wantsFocus = false; // until the tile that had the focus is there again
  function draw(force = false) {
    if (!view) return;
    const top = grid.getBoundingClientRect().top;
    const first = Math.max(Math.floor((-top - innerHeight * 0.6) / rowHeight()), 0);
    const last = Math.ceil((-top + innerHeight * 1.7) / rowHeight());
    const n = nListed();
    const from = Math.min(first * columns, Math.max(n - 1, 0));
    const to = Math.min(last * columns, n);
    for (let i = Math.floor(from / PAGE); i * PAGE < to; i++) ask(i);
    const key = `${from}-${to}-${columns}-${loaded}`;
    if (key === drawn && !force) return;
    drawn = key;
    const hadFocus = window_.contains(document.activeElement);
    window_.style.top = `${Math.floor(from / columns) * rowHeight()}px`;
    const kept = new Map([...window_.children].map((one) => [Number(one.dataset.place), one]));
    const wanted = [];
    for (let i = from; i < to; i++) {
      const old = kept.get(i);
      wanted.push(old && old.dataset.row === String(tiles.get(i)?.row) && old.dataset.query === loaded ? old : item(i));
    }
    window_.replaceChildren(...wanted);
    if (hadFocus || wantsFocus) focusTile(false);
  }

  function item(i) {
    const tile = tiles.get(i);
    const node = h("li", { "data-place": i, "data-row": tile?.row, "data-query": loaded, "aria-setsize": view.count, "aria-posinset": i + 1 });
    if (!tile) {
      node.append(h("div", { class: "tile" }, h("div", { class: "frame" }), h("span", { class: "caption" })));
      return node;
    }
    const link = h("a", {
      class: `tile${app.pins.has(tile.row) ? " pinned" : ""}`, href: app.link({ view: "galaxy", id: tile.id }), tabindex: i === current ? "0" : "-1",
      title: tile.id,
      onclick: (event) => { current = i; app.follow(event, { view: "galaxy", id: tile.id }); },
      onfocus: () => { if (current !== i) { current = i; [...window_.querySelectorAll("a")].forEach((one) => { one.tabIndex = one === link ? 0 : -1; }); } },
    }, h("div", { class: "frame" }, thumbnail(app, tile.row, alt(app, tile, sentence())), mark(tile)), caption(tile));
    node.append(link);
    return node;
  }

  const mark = (tile) => app.labels.has(tile.row) && h("span", { class: "given" }, app.labels.get(tile.row));

  function sentence() {
    const name = app.state.sort.replace(/^-/, "");
    for (const question of about.questions) {
      for (const answer of question.answers) if (answer.name === name) return `answered ${answer.label} to ${question.label.toLowerCase()}`;
    }
    return "";
  }

  async function ask(page) {
    if (asked.has(page)) return;
    asked.add(page);
    const query = filter(app.state);
    query.set("from", page * PAGE);
    query.set("n", PAGE);
    const of_ = loaded;
    try {
      const { rows } = await app.get("rows", query, { kind: `rows-${page}` });
      if (of_ !== loaded) return;
      rows.forEach((one, i) => tiles.set(page * PAGE + i, one));
      draw(true);
    } catch (error) {
      asked.delete(page);
      if (!isAbort(error) && error.status) app.warn(error);
    }
  }

  function focusTile(mayScroll = true) {
    const node = [...window_.children].find((one) => Number(one.dataset.place) === current);
    const link = node?.querySelector("a");
    link?.focus({ preventScroll: !mayScroll });
    if (link) wantsFocus = false;
  }

  function moveTo(i) {
    current = Math.min(Math.max(i, 0), nListed() - 1);
    const y = grid.getBoundingClientRect().top + scrollY + Math.floor(current / columns) * rowHeight();
    const head = content.querySelector(".topbar").getBoundingClientRect().bottom;
    const bottom = innerHeight - 8;
    if (y - scrollY < head) scrollTo(0, y - head - 6);
    else if (y + rowHeight() - scrollY > bottom) scrollTo(0, y + rowHeight() - bottom);
    draw();
    [...window_.querySelectorAll("a")].forEach((one) => { one.tabIndex = Number(one.parentNode.dataset.place) === current ? 0 : -1; });
    focusTile(false);
  }

  window_.addEventListener("keydown", (event) => {
    const page = Math.max(Math.floor((innerHeight - 220) / rowHeight()), 1) * columns;
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns, PageDown: page, PageUp: -page };
    if (event.key in steps || event.key === "Home" || event.key === "End") {
      event.preventDefault();
      moveTo(event.key === "Home" ? 0 : event.key === "End" ? nListed() - 1 : current + steps[event.key]);
    }
  });

  function pins() {
    const strip = h("div", { class: "pins", role: "region", "aria-label": "Comparison" });
    const draw_ = () => {
      strip.hidden = !app.pins.size;
      strip.replaceChildren(...[...app.pins.values()].map((tile) => h("a", {
        class: "tile", href: app.link({ view: "galaxy", id: tile.id }), title: tile.id, onclick: (event) => app.follow(event, { view: "galaxy", id: tile.id }),
      }, h("div", { class: "frame" }, thumbnail(app, tile.row, alt(app, tile))), caption(tile))),
      h("button", { class: "text-button", onclick: () => { app.pins.clear(); draw_(); draw(true); } }, "clear"));
    };
    draw_();
    strip.draw = draw_;
    return strip;
  }

  // ------------------------------------------------------------------------------------------------

  async function update(state) {
    expression.update(state.q);
    sorting.update(state.sort);
    shape.update(state);
    app.title("Gallery");
    const query = filter(state);
    query.set("n", PAGE);
    query.set("cards", state.cards);
    const key = String(query);
    if (key === loaded) return layout();
    try {
      const found = await app.get("view", query);
      view = found;
      loaded = key;
      tiles = new Map(found.rows.map((one, i) => [i, one]));
      asked = new Set([0]);
      expression.succeed(found.notes);
      number_.textContent = count(found.count);
      sheetCount.replaceChildren(h("strong", {}, count(found.count)), ` of ${count(about.n)}`);
      announce(`${count(found.count)} of ${count(about.n)} galaxies`);
      tree.update(found);
      cards.update(found);
      const kept = restoring;
      restoring = null;
      current = kept?.current ?? 0;
      layout();
      if (kept) {
        wantsFocus = kept.focused;
        scrollTo(0, kept.scroll);
        draw(true);
      } else if (scrollY > grid.getBoundingClientRect().top + scrollY) {
        scrollTo(0, 0);
        draw(true);
      }
      if (!found.count) window_.replaceChildren(h("li", { class: "empty" }, "No galaxy meets this condition."));
    } catch (error) {
      if (isAbort(error)) return;
      if (error.status === 400) expression.fail(error);
      else if (error.status !== 409 && error.status !== 0) app.warn(error);
    }
  }

  const onScroll = () => draw();
  const onResize = () => layout();
  addEventListener("scroll", onScroll, { passive: true });
  addEventListener("resize", onResize);
  const onPop = (event) => { restoring = event.state?.top ?? null; };
  addEventListener("popstate", onPop, { capture: true });

  return {
    update, expression,
    place: () => ({ top: { scroll: scrollY, current, focused: window_.contains(document.activeElement) } }),
    focusTree() {
      if (innerWidth < 720) sheet("tree");
      tree.focus();
    },
    turn: (step) => { if (view?.count) moveTo(document.activeElement.closest?.(".window") ? current + step : current); },
    pin() {
      const tile = tiles.get(current);
      if (!tile) return;
      if (app.pins.has(tile.row)) app.pins.delete(tile.row);
      else app.pins.set(tile.row, tile);
      main.querySelector(".pins").draw();
      drawn = "";
      window_.replaceChildren();
      draw(true);
      focusTile(false);
    },
    // The galaxy that has the focus, or else those that are seen whole.
    inView() {
      const focused = document.activeElement.closest?.(".window li");
      const head = content.querySelector(".topbar").getBoundingClientRect().bottom;
      const seen = [...window_.children].filter((one) => {
        const { top, bottom } = one.getBoundingClientRect();
        return top >= head - 1 && bottom <= innerHeight + gap;
      });
      return (focused ? [focused] : seen).map((one) => tiles.get(Number(one.dataset.place))?.row).filter((row) => row !== undefined);
    },
    labelled() {
      const wasFocused = window_.contains(document.activeElement);
      drawn = "";
      window_.replaceChildren();
      draw(true);
      if (wasFocused) focusTile(false);
    },
    close() {
      removeEventListener("scroll", onScroll);
      removeEventListener("resize", onResize);
      removeEventListener("popstate", onPop, { capture: true });
    },
  };
}
