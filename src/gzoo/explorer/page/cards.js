// Histogram cards: one for each condition, and what was added. Drag to choose a range, double click to clear it.

import { h, s, count, number } from "./dom.js";
import { edited, limitsOf, rangeText } from "./expression.js";
import { list } from "./state.js";

const WIDTH = 200;
const HEIGHT = 46;
const OF_MODEL = /\.(model|low|high|posterior|gap|proportion)$/;

export function histogramCards(app, getView) {
  const root = h("div", { class: "cards" });
  const chips = h("div", { class: "chips" });
  const cards = new Map();
  const splits = switches("split", "split");
  const campaigns = switches("campaign", "campaign");
  const add = h("select", { "aria-label": "Add a histogram", onchange: () => {
    if (add.value) app.go({ cards: [...new Set([...list(app.state.cards), add.value])].join(",") });
    add.value = "";
  } }, h("option", { value: "" }, "add a histogram"));
  for (const one of app.about.questions) {
    const endings = one.predicted ? [["", ""], [".model", ": model"], [".gap", ": model − volunteers"]] : [["", ""]];
    add.append(h("optgroup", { label: one.label },
      h("option", { value: one.asked }, "total votes"),
      one.answers.map((answer) => endings.map(([end, text]) => h("option", { value: spelled(answer.name, end) }, `${answer.label}${text}`)))));
  }
  add.append(h("optgroup", { label: "Columns" }, app.about.columns.map((name) => h("option", { value: name }, name))));
  const adding = h("div", { class: "card add" }, h("span", { "aria-hidden": "true" }, "add"), add);
  root.append(splits.node, campaigns.node, adding);


  function switches(what, title) {
    const node = h("section", { class: "card", "aria-label": title, hidden: true });
    return {
      node,
      update(counts) {
        const names = Object.keys(counts);
        node.hidden = names.length < 2;
        const chosen = list(app.state[what]);
        node.classList.toggle("active", chosen.length > 0);
        node.replaceChildren(h("header", {}, h("h3", {}, title), h("span", { class: "range" }, chosen.length ? chosen.join(", ") : "all")),
          h("div", { class: "switches" }, names.map((name) => h("button", {
            "aria-pressed": String(chosen.includes(name)), title: name,
            onclick: (event) => {
              const next = chosen.includes(name) ? chosen.filter((one) => one !== name) : [...chosen, name];
              app.go({ [what]: next.length === names.length ? "" : next.join(",") });
              const label = event.currentTarget.title;
              setTimeout(() => [...node.querySelectorAll("button")].find((one) => one.title === label)?.focus());
            },
          }, h("span", {}, name), h("span", {}, count(counts[name]))))));
      },
    };
  }

  return {
    root, chips,
    update(view) {
      const shown = new Set(view.cards.map((one) => one.name));
      for (const [name, card] of cards) if (!shown.has(name)) { card.root.remove(); cards.delete(name); }
      for (const one of view.cards) {
        if (!cards.has(one.name)) cards.set(one.name, histogramCard(app, one, getView));
        cards.get(one.name).update(one, limitsOf(view.conditions, one.name), view.count);
      }
      splits.update(view.splits);
      campaigns.update(view.campaigns);
      // a card that is there stays where it is: moving it would end a drag
      for (const { root: node } of cards.values()) if (!node.parentNode) root.insertBefore(node, splits.node);
      chips.replaceChildren(...view.conditions.map((one) => h("button", {
        "aria-label": `Remove ${one.text}`,
        onclick: () => app.go({ q: view.conditions.filter((other) => other !== one).map((other) => other.text).join(" and ") }),
      }, `${one.text} ×`)));
    },
  };
}

const spelled = (name, end) => (name.endsWith("`") ? `${name.slice(0, -1)}${end}\`` : name + end);

function histogramCard(app, first, getView) {
  const bars = s("g");
  const brush = s("g");
  const svg = s("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" }, bars, brush);
  const range = h("span", { class: "range" });
  const close = h("button", { class: "close", "aria-label": `Remove the histogram of ${first.spelling}`, onclick: () => remove() }, "×");
  const step = Number.isInteger(first.high) && first.high > 1 ? 1 : 0.01;
  const slider = (end) => h("input", {
    type: "range", min: first.low, max: first.high, step, "aria-label": `${first.spelling} ${end}`,
    oninput: () => set(...ends(), { replace: true }), onchange: () => set(...ends()),
  });
  const from = slider("from");
  const to = slider("to");
  const plot = h("div", { class: "plot", role: "group", "aria-label": first.spelling }, svg, from, to);
  const [low, high] = [h("span"), h("span")];
  const root = h("section", { class: `card${OF_MODEL.test(first.name) ? " of-model" : ""}`, "aria-label": first.spelling },
    h("header", {}, h("h3", { title: first.name }, first.spelling), range, close), plot, h("div", { class: "axis" }, low, high));
  let data = first;
  let moving = false;

  const ends = () => [Number(from.value), Number(to.value)].sort((a, b) => a - b);
  const shown = (x) => (step === 1 ? number(x) : x.toFixed(Math.abs(data.high - data.low) > 20 ? 1 : 2));
  const round = (x) => (step === 1 ? Math.round(x) : Number(x.toFixed(Math.abs(data.high - data.low) > 20 ? 1 : 2)));

  function set(a, b, options = {}) {
    const text = edited(getView().conditions, [data.name], rangeText(data.spelling, a, b, [data.low, data.high]));
    const cards = new Set(list(app.state.cards));
    cards.add(data.spelling); // a card stays while its brush is cleared
    app.go({ q: text, cards: [...cards].join(",") }, options);
  }
  function remove() {
    app.go({ q: edited(getView().conditions, [data.name]), cards: list(app.state.cards).filter((one) => one !== data.spelling).join(",") });
  }

  let start = 0;
  let was = [0, 0];
  let mode = "new";
  let begun = false;
  const valueAt = (event) => {
    const box = plot.getBoundingClientRect();
    const x = Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
    return data.low + x * (data.high - data.low);
  };
  plot.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    plot.setPointerCapture(event.pointerId);
    start = valueAt(event);
    was = ends();
    const near = (data.high - data.low) * 0.035;
    const isOpen = was[0] <= data.low || was[1] >= data.high;
    const isWhole = was[0] <= data.low && was[1] >= data.high;
    mode = isWhole ? "new" : Math.abs(start - was[0]) < near ? "from" : Math.abs(start - was[1]) < near ? "to"
      : start > was[0] && start < was[1] && !isOpen ? "move" : "new"; // an open range has no room to move
    moving = true;
    begun = false;
  });
  plot.addEventListener("pointermove", (event) => {
    if (!moving) return;
    const x = valueAt(event);
    if (!begun && Math.abs(x - start) < (data.high - data.low) * 0.01) return;
    const shift = Math.min(Math.max(x - start, data.low - was[0]), data.high - was[1]);
    const next = { new: [start, x], from: [x, was[1]], to: [was[0], x], move: [was[0] + shift, was[1] + shift] }[mode];
    next.sort((a, b) => a - b);
    set(round(next[0]), round(next[1]), { replace: begun });
    begun = true;
  });
  const stop = () => { moving = false; };
  plot.addEventListener("pointerup", stop);
  plot.addEventListener("pointercancel", stop);
  plot.addEventListener("dblclick", () => set(data.low, data.high));

  return {
    root,
    update(next, limits) {
      data = next;
      const a = limits?.low ?? data.low;
      const b = limits?.high ?? data.high;
      const most = Math.max(...data.all, 1);
      const width = WIDTH / data.all.length;
      const tall = (n) => Math.sqrt(n / most) * HEIGHT; // many zeros would flatten everything else
      if (bars.childElementCount !== 2 * data.all.length) {
        bars.replaceChildren(...["everything", "chosen"].flatMap((kind) => data.all.map((_, i) =>
          s("rect", { class: kind, x: i * width + 0.4, width: width - 0.8 }))));
      }
      [...bars.children].forEach((one, i) => {
        const height = tall(i < data.all.length ? data.all[i] : data.selected[i - data.all.length]);
        one.setAttribute("y", HEIGHT - height);
        one.setAttribute("height", height);
      });
      const inside = (i) => !limits || ((i + 1) / data.all.length > (a - data.low) / (data.high - data.low) + 1e-9 && i / data.all.length < (b - data.low) / (data.high - data.low));
      [...bars.children].slice(data.all.length).forEach((one, i) => one.classList.toggle("outside", !inside(i)));
      from.value = a;
      to.value = b;
      root.classList.toggle("active", Boolean(limits));
      const x = (value) => (WIDTH * (Math.min(Math.max(value, data.low), data.high) - data.low)) / (data.high - data.low);
      brush.replaceChildren();
      if (limits) {
        brush.append(s("rect", { class: "brush", x: x(a), width: Math.max(x(b) - x(a), 0), y: 0, height: HEIGHT }));
        for (const one of [a, b]) {
          brush.append(s("line", { class: "edge", x1: x(one), x2: x(one), y1: 0, y2: HEIGHT, "vector-effect": "non-scaling-stroke" }),
            s("rect", { class: "handle", x: x(one) - 2.6, width: 5.2, y: 15, height: 14, rx: 2.4, "vector-effect": "non-scaling-stroke" }));
        }
      }
      range.textContent = limits ? `${shown(a)} – ${shown(b)}` : "all";
      low.textContent = number(data.low);
      high.textContent = number(data.high);
      const sum = data.selected.reduce((one, other) => one + other, 0);
      plot.setAttribute("aria-label", `${data.spelling}: ${count(sum)} galaxies from ${number(data.low)} to ${number(data.high)}` +
        `${data.n_missing ? `, ${count(data.n_missing)} without a value` : ""}`);
    },
  };
}
