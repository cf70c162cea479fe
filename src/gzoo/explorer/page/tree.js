// The decision tree as a vertical flow: questions below the answers that lead to them, ribbons at the left.

import { h, s, count, percent } from "./dom.js";

const RIBBON = 15; // pixels of the votes of all galaxies on a root question
const LANE = 11;
const FOLDED_DEPTH = 3;

// Depth first; a question that several answers lead to follows the last of them.
export function inOrder(questions) {
  const owner = new Map(questions.flatMap((one) => one.answers.map((answer) => [answer.index, one])));
  const placed = new Set();
  const order = [];
  const children = (one) => {
    const own = one.answers.map((answer) => answer.index);
    return questions.filter((other) => other.parents.some((parent) => own.includes(parent)))
      .sort((a, b) => Math.max(...a.parents.map((p) => own.indexOf(p))) - Math.max(...b.parents.map((p) => own.indexOf(p))) ||
        a.parents.length - b.parents.length);
  };
  const place = (one) => {
    if (placed.has(one.name)) return;
    placed.add(one.name);
    order.push(one);
    for (const child of children(one)) {
      if (child.parents.every((parent) => !owner.has(parent) || placed.has(owner.get(parent).name))) place(child);
    }
  };
  questions.filter((one) => !one.parents.some((parent) => owner.has(parent))).forEach(place);
  questions.forEach(place);
  return { order, owner };
}

// `row(question, answer)` and `heading(question, toggle)` return elements; `weight(answer, question)` is 0 to 1.
export function verticalTree(questions, { row, heading, weight, parts = [], open = () => true }) {
  const { order, owner } = inOrder(questions);
  const leads = new Map(); // answer -> questions that follow it
  for (const one of order) for (const parent of one.parents) if (owner.has(parent)) leads.set(parent, [...(leads.get(parent) ?? []), one]);
  const place = new Map(order.map((one, i) => [one.name, i]));
  const lanes = new Map(); // answer -> lane of its trunk within its question, 0 is the innermost
  const gutter = [];
  for (const one of order) {
    const trunks = one.answers.filter((answer) => leads.has(answer.index))
      .sort((a, b) => Math.max(...leads.get(a.index).map((q) => place.get(q.name))) - Math.max(...leads.get(b.index).map((q) => place.get(q.name))));
    trunks.forEach((answer, i) => lanes.set(answer.index, i));
    const width = one.depth ? 8 : LANE;
    gutter[one.depth] = Math.max(gutter[one.depth] ?? 12, trunks.length * width + (one.depth ? 5 : 6));
  }
  const left = [];
  gutter.reduce((sum, one, depth) => (left[depth] = sum + one), 0);

  const svg = s("svg", { "aria-hidden": "true", width: "1", height: "1" });
  const nodes = new Map();
  const list = h("ol", { "aria-label": "Decision tree" });
  let part = null;
  for (const one of order) {
    if (parts.length && one.part !== part) {
      part = one.part;
      list.append(h("li", { class: "part" }, part));
    }
    const rows = new Map(one.answers.map((answer) => [answer.index, row(one, answer)]));
    const answers = h("ul", {}, [...rows.values()].map((node) => h("li", {}, node)));
    const item = h("li", { class: "question", style: { "padding-left": `${left[one.depth]}px` } });
    const entry = { question: one, item, rows, answers, isOpen: true };
    entry.toggle = (isOpen) => {
      entry.isOpen = isOpen;
      item.classList.toggle("open", isOpen);
      answers.hidden = !isOpen;
      entry.head.setAttribute?.("aria-expanded", String(isOpen));
      draw();
    };
    entry.head = heading(one, entry);
    item.append(entry.head, answers);
    nodes.set(one.name, entry);
    list.append(item);
    entry.isOpen = open(one);
    item.classList.toggle("open", entry.isOpen);
    answers.hidden = !entry.isOpen;
  }
  const root = h("div", { class: "tree" }, svg, list);
  let lit = new Set();

  function draw() {
    const top = root.getBoundingClientRect().top;
    const middle = (node) => {
      const box = node.getBoundingClientRect();
      return box.top - top + box.height / 2;
    };
    const paths = [];
    for (const one of order) {
      const entry = nodes.get(one.name);
      for (const parent of one.parents) {
        const above = owner.has(parent) && nodes.get(owner.get(parent).name);
        if (!above) continue;
        const depth = above.question.depth;
        const lane = lanes.get(parent);
        const x = left[depth] - 5 - (lane + 0.5) * (depth ? 7 : LANE);
        const from = middle(above.isOpen ? above.rows.get(parent) : above.head);
        const to = middle(entry.head);
        const start = left[depth] - 3;
        const end = left[one.depth] - 4;
        const width = Math.max(RIBBON * weight(parent, one), 1.2);
        const r = Math.max(Math.min(6, start - x, (to - from) / 2), 0);
        paths.push(s("path", {
          class: `ribbon${lit.has(one.name) ? " lit" : ""}`, "stroke-width": width.toFixed(1),
          d: `M${start},${from.toFixed(1)}H${x + r}Q${x},${from.toFixed(1)} ${x},${(from + r).toFixed(1)}V${(to - r).toFixed(1)}Q${x},${to.toFixed(1)} ${x + r},${to.toFixed(1)}H${end}`,
        }));
      }
    }
    svg.replaceChildren(...paths);
  }

  new ResizeObserver(draw).observe(root);

  return {
    root, nodes, draw,
    // Lights the way to the questions of chosen answers.
    light(answers) {
      lit = new Set();
      const climb = (one) => {
        if (lit.has(one.name)) return;
        lit.add(one.name);
        one.parents.filter((parent) => owner.has(parent)).forEach((parent) => climb(owner.get(parent)));
      };
      answers.filter((answer) => owner.has(answer)).forEach((answer) => climb(owner.get(answer)));
      draw();
    },
  };
}

// The tree of the gallery: its answers are buttons that filter.
export function filterTree(about, { choose }) {
  const rootTotal = Math.max(...about.questions.filter((one) => !one.parents.length).map((one) => one.total), 1);
  const totalOf = new Map(about.questions.flatMap((one) => one.answers.map((answer) => [answer.index, answer.total])));
  const gauges = new Map();
  const headings = new Map();

  const tree = verticalTree(about.questions, {
    parts: about.parts,
    weight: (answer) => totalOf.get(answer) / rootTotal,
    open: (one) => one.depth < FOLDED_DEPTH && !(about.parts.length && one.depth > 1),
    row(question, answer) {
      const bar = h("i");
      const tick = h("b");
      const text = h("span", { class: "percent" });
      const button = h("button", { class: "answer", "aria-pressed": "false", onclick: () => choose(question, answer) },
        h("span", { class: "answer-name" }, answer.label), h("span", { class: "gauge", "aria-hidden": "true" }, bar, tick), text);
      tick.style.left = `${(100 * answer.total) / Math.max(question.total, 1)}%`;
      gauges.set(answer.index, { bar, text, button });
      return button;
    },
    heading(question, entry) {
      const total = h("span", { class: "total" });
      const stack = h("span", { class: "stack", "aria-hidden": "true", hidden: true });
      const button = h("button", {
        class: "heading", "aria-expanded": "true", title: question.name,
        onclick: () => { entry.toggle(!entry.isOpen); update(latest); },
      }, h("span", { class: "heading-name" }, question.label), h("span", { class: "chevron", "aria-hidden": "true" }, "›"), stack, total);
      headings.set(question.name, { total, stack });
      return button;
    },
  });
  for (const entry of tree.nodes.values()) entry.head.setAttribute("aria-expanded", String(entry.isOpen));
  tree.root.append(h("p", { class: "legend" }, "bar: the chosen galaxies · tick: all galaxies · number: votes"));

  tree.root.addEventListener("keydown", (event) => {
    const buttons = [...tree.root.querySelectorAll("button")].filter((one) => one.offsetParent);
    const at = buttons.indexOf(document.activeElement);
    if (at < 0) return;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      buttons[at + (event.key === "ArrowDown" ? 1 : -1)]?.focus();
    } else if (event.key === "ArrowRight" || event.key === "ArrowLeft") {
      const entry = [...tree.nodes.values()].find((one) => one.item.contains(document.activeElement));
      event.preventDefault();
      entry.head.focus();
      entry.toggle(event.key === "ArrowRight");
      update(latest);
    }
  });

  let latest = null;
  function update(view) {
    if (!view) return;
    latest = view;
    const chosen = new Set(view.conditions.filter((one) => one.limits?.low !== null && one.limits).map((one) => one.limits.name));
    const lit = [];
    for (const question of about.questions) {
      const n = view.totals[question.index];
      const { total, stack } = headings.get(question.name);
      const entry = tree.nodes.get(question.name);
      total.textContent = count(n);
      entry.item.classList.toggle("grey", n < about.min_votes);
      stack.hidden = entry.isOpen;
      if (!entry.isOpen) {
        stack.replaceChildren(...question.answers.map((answer, i) => h("i", {
          style: { "flex-grow": String(view.counts[answer.index] || 0), opacity: String([1, 0.62, 0.8, 0.45, 0.7, 0.35][i % 6]) },
        })));
      }
      for (const answer of question.answers) {
        const { bar, text, button } = gauges.get(answer.index);
        const k = view.counts[answer.index];
        bar.style.width = n ? `${(100 * k) / n}%` : "0";
        text.textContent = percent(k, n);
        const isChosen = chosen.has(answer.measure);
        button.setAttribute("aria-pressed", String(isChosen));
        button.title = `${count(k)} of ${count(n)} votes; of all galaxies ${percent(answer.total, question.total)}`;
        if (isChosen) lit.push(answer.index);
      }
    }
    tree.light(lit);
  }
  return { root: tree.root, update, focus: () => tree.root.querySelector("button")?.focus() };
}
