// The decision tree as a wide flow: blocks of answers in columns by depth, ribbons between them.

import { h, s } from "./dom.js";

const HEAD = 26;

// `ribbon` is the width in pixels of all votes on a root question.
export function wideFlow(questions, { width, gap, rowHeight, between = 30, choice, total, weight, isGrey = () => false, pale = false, ribbon = 26 }) {
  const owner = new Map(questions.flatMap((one) => one.answers.map((answer, i) => [answer.index, { question: one, i }])));
  const layers = [];
  for (const one of questions) (layers[one.depth] ??= []).push(one);
  const columns = layers.filter(Boolean);
  const heightOf = (one) => HEAD + rowHeight * one.answers.length;
  const heightOfLayer = (layer) => layer.reduce((sum, one) => sum + heightOf(one) + between, -between);
  const height = Math.max(...columns.map(heightOfLayer), 0);
  const place = new Map();
  columns.forEach((layer, i) => {
    const aim = (one) => {
      const known = one.parents.filter((parent) => place.has(owner.get(parent)?.question.name));
      return known.length ? known.reduce((sum, parent) => sum + answerY(parent), 0) / known.length : 0;
    };
    const sorted = i ? layer.map((one, j) => [aim(one), j, one]).sort((a, b) => a[0] - b[0] || a[1] - b[1]).map((one) => one[2]) : layer;
    let y = (height - heightOfLayer(sorted)) / 2;
    for (const one of sorted) {
      place.set(one.name, { x: i * (width + gap), y });
      y += heightOf(one) + between;
    }
  });
  function answerY(index) {
    const { question, i } = owner.get(index);
    return place.get(question.name).y + HEAD + rowHeight * (i + 0.5);
  }

  const ribbons = [];
  for (const one of questions) {
    const incoming = one.parents.filter((parent) => owner.has(parent));
    const sizes = incoming.map((parent) => Math.max(ribbon * weight(parent), 0.8));
    const target = place.get(one.name);
    let y = target.y + HEAD / 2 - sizes.reduce((a, b) => a + b, 0) / 2;
    incoming.map((parent, i) => [answerY(parent), parent, sizes[i]]).sort((a, b) => a[0] - b[0]).forEach(([from, parent, size]) => {
      const x1 = place.get(owner.get(parent).question.name).x + width + 5;
      const x2 = target.x - 8;
      const middle = (x1 + x2) / 2;
      const to = y + size / 2;
      ribbons.push(s("path", {
        class: `ribbon${isGrey(one) ? " grey" : ""}`, "stroke-width": size.toFixed(1), d: `M${x1},${from}C${middle},${from} ${middle},${to} ${x2},${to}`,
      }));
      y += size;
    });
  }
  const full = columns.length * (width + gap) - gap;
  return h("div", { class: `flow${pale ? " pale" : ""}`, style: { width: `${full}px`, height: `${height}px` } },
    s("svg", { width: full, height, "aria-hidden": "true" }, ribbons),
    questions.map((one) => {
      const { x, y } = place.get(one.name);
      return h("section", { class: `block${isGrey(one) ? " grey" : ""}`, style: { left: `${x}px`, top: `${y}px`, width: `${width}px` } },
        h("h3", { title: one.name }, h("b", {}, one.label), h("span", {}, total(one))),
        one.answers.map((answer) => choice(one, answer)));
    }));
}
