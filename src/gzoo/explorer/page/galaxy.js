// One galaxy: its image, its votes down the tree, and the model beside them.

import { address, h, s, count, fraction, thumbnail } from "./dom.js";
import { isAbort } from "./api.js";
import { wideFlow } from "./flow.js";
import { filter } from "./state.js";
import { verticalTree } from "./tree.js";

// Plain links: nothing is requested from these sites unless somebody follows one.
const VIEWERS = [
  ["Legacy Survey", (ra, dec) => `https://www.legacysurvey.org/viewer?ra=${ra}&dec=${dec}&zoom=14&layer=ls-dr10`],
  ["SDSS", (ra, dec) => `https://skyserver.sdss.org/dr18/VisualTools/navi?ra=${ra}&dec=${dec}&scale=0.2`],
  ["Aladin", (ra, dec) => `https://aladin.cds.unistra.fr/AladinLite/?target=${ra}%20${dec}&fov=0.05`],
  ["SIMBAD", (ra, dec) => `https://simbad.cds.unistra.fr/simbad/sim-coo?Coord=${ra}%20${dec}&Radius=10&Radius.unit=arcsec`],
];

function bars(found, question, answer) {
  const i = answer.index;
  const n = found.totals[question.index];
  const { model } = found;
  const node = h("span", { class: "measure", "aria-hidden": "true", style: { display: "block" } },
    h("span", { class: "gauge", style: { display: "block" } }, n ? h("i", { style: { width: `${(100 * found.counts[i]) / n}%` } }) : ""));
  const line = (kind, low, high) => low !== null && low !== undefined && node.append(h("span", { class: `span ${kind}`, style: { left: `${100 * low}%`, width: `${100 * Math.max(high - low, 0)}%` } }));
  const dot = (kind, x) => x !== null && x !== undefined && node.append(h("span", { class: `dot ${kind}`, style: { left: `${100 * x}%` } }));
  if (n) line("votes", found.low[i], found.high[i]);
  if (model) {
    line("by-model", model.low?.[i], model.high?.[i]);
    dot("by-model", model.fraction[i]);
    if (model.posterior) {
      line("by-both", model.posterior_low[i], model.posterior_high[i]);
      dot("by-both", model.posterior[i]);
    }
  }
  return node;
}

function spoken(found, question, answer) {
  const i = answer.index;
  const n = found.totals[question.index];
  const parts = [`${answer.label}: ${found.counts[i]} of ${n} votes`];
  const { model } = found;
  if (model && model.fraction[i] !== null) {
    parts.push(`model ${fraction(model.fraction[i])}${model.low ? `, 90% interval ${fraction(model.low[i])} to ${fraction(model.high[i])}` : ""}`);
    if (model.posterior) parts.push(`posterior ${fraction(model.posterior[i])}, ${fraction(model.posterior_low[i])} to ${fraction(model.posterior_high[i])}`);
  }
  return parts.join("; ");
}

function legend(found) {
  const model = found.model && [
    h("span", { class: "key" }, s("svg", { width: 30, height: 10, "aria-hidden": "true" },
      s("line", { x1: 0, x2: 30, y1: 5, y2: 5, class: "model-line" }), s("circle", { cx: 15, cy: 5, r: 3.5, class: "model-fill" })),
    found.model.low ? "model, 90% interval" : "model"),
    found.model.posterior && h("span", { class: "key" }, s("svg", { width: 30, height: 10, "aria-hidden": "true" },
      s("line", { x1: 0, x2: 30, y1: 5, y2: 5, stroke: "var(--muted)", "stroke-width": 1.5 }),
      s("circle", { cx: 15, cy: 5, r: 3, fill: "var(--page)", stroke: "var(--ink)", "stroke-width": 1.5 })), "both together (posterior), 90% interval")];
  return [h("span", { class: "key" }, s("svg", { width: 30, height: 10, "aria-hidden": "true" },
    s("rect", { x: 0, y: 1, width: 22, height: 8, rx: 2, fill: "var(--volunteers)" }), s("line", { x1: 14, x2: 30, y1: 5, y2: 5, stroke: "var(--ink)", "stroke-width": 1.5 })),
  "volunteers, with the 90% range that their number allows"), model];
}

const N_NEIGHBOURS = 12;

// The galaxies most like one of them, by the features of an encoder; they are searched for after the galaxy is drawn.
function neighbours(app, row) {
  const list = h("ul", { class: "strip", role: "list", "aria-label": "Nearest neighbours" });
  const remark = h("p", { class: "small" }, "Searching …");
  app.get("neighbours", new URLSearchParams({ row, n: N_NEIGHBOURS })).then(({ rows }) => {
    remark.textContent = rows.length ? "" : "This galaxy is not among the embeddings.";
    list.replaceChildren(...rows.map((one) => h("li", {}, h("a", {
      class: "tile", href: app.link({ view: "galaxy", id: one.id, of: one.campaign }), title: one.id,
      onclick: (event) => app.follow(event, { view: "galaxy", id: one.id, of: one.campaign }),
    }, h("div", { class: "frame" }, thumbnail(app, one.row, `Galaxy ${one.id}, similarity ${fraction(one.similarity)}`)),
    h("span", { class: "values", "aria-hidden": "true" }, fraction(one.similarity))))));
  }).catch((error) => { if (!isAbort(error)) remark.textContent = error.message; });
  return h("section", { class: "neighbours", "aria-label": "Nearest neighbours" },
    h("h2", {}, "Nearest neighbours", h("small", {}, "cosine similarity of their features")), remark, list);
}

export function open(main, app) {
  const { about } = app;
  let found = null;
  main.classList.add("galaxy");

  function draw(state) {
    app.title(found.id);
    const from = found.model ? (found.model.is_seen ? "used to train the model" : "unseen by the model") : "";
    const volunteers = Math.max(...about.questions.filter((one) => !one.parents.length).map((one) => found.totals[one.index]), 0);
    const hasPosition = found.ra !== null && found.dec !== null;
    const fact = (name, ...value) => [h("dt", {}, name), h("dd", {}, value)];
    const open_ = (one) => ({
      href: app.link({ view: "galaxy", id: one.id, of: one.campaign ?? "" }),
      onclick: (event) => app.follow(event, { view: "galaxy", id: one.id, of: one.campaign ?? "" }),
    });
    const image = about.has_images
      ? h("img", { src: address(app, "image", found.row), alt: `Galaxy ${found.id}`, onerror: (event) => {
        event.target.replaceWith(h("span", { class: "absent" }, "The image cannot be shown."));
        app.checkServer();
      } })
      : h("span", { class: "absent" }, "This dataset does not contain images.");
    const facts = h("dl", { class: "facts" },
      hasPosition && fact("Position", `${found.ra.toFixed(5)}° ${found.dec < 0 ? "−" : "+"}${Math.abs(found.dec).toFixed(5)}°`),
      app.labels.has(found.row) && fact("Label", app.labels.get(found.row)),
      fact("Split", [found.split, from].filter(Boolean).join(", ")),
      fact("Volunteers", count(volunteers)),
      about.campaigns.length > 1 && fact("Campaign", found.campaign),
      Object.entries(found.columns).map(([name, value]) => fact(name, String(value))),
      hasPosition && !about.is_simulated && fact("Sky viewers", VIEWERS.map(([name, viewer]) =>
        h("a", { href: viewer(found.ra, found.dec), target: "_blank", rel: "noopener noreferrer" }, name))));
    const same = found.same.length > 0 && [h("h2", {}, "The same galaxy elsewhere in this dataset"),
      h("ul", { class: "small" }, found.same.map((one) => h("li", {}, h("a", open_(one), one.id), ` in ${one.campaign}, ${one.arcsec} arcsec`)))];
    const answers = new Map(about.questions.flatMap((question) => question.answers.map((answer) => [answer.index, [question, answer]])));
    const differences = found.differences?.length > 0 && [h("h2", {}, "Where they differ most"),
      h("table", { class: "differences" },
        h("thead", { class: "unseen" }, h("tr", {}, ["Answer", "Volunteers", "Model"].map((one) => h("th", { scope: "col" }, one)))),
        h("tbody", {}, found.differences.map((one) => {
          const [question, answer] = answers.get(one.answer);
          return h("tr", {}, h("th", { scope: "row" }, `${question.label}: ${answer.label}`),
            h("td", { class: "volunteers" }, `${one.k} of ${one.n}`), h("td", { class: "model" }, fraction(one.model)));
        })))];
    const step = (one, text, label) => one
      ? h("a", { ...open_(one), "aria-label": `${label} galaxy` }, text) : h("span", { class: "muted" }, text);
    const turn = h("nav", { class: "turn", "aria-label": "Galaxies of the list" }, step(found.previous, "← previous", "Previous"),
      h("span", {}, found.place ? `${count(found.place)} of ${count(found.n)}` : "not in the list"), step(found.next, "next →", "Next"));

    const parts = new Set(about.questions.filter((one) => found.totals[one.index] > 0).map((one) => one.part));
    const shown = about.parts.length ? about.questions.filter((one) => parts.has(one.part)) : about.questions;
    const roots = shown.filter((one) => !one.parents.length);
    const rootTotal = Math.max(...roots.map((one) => found.totals[one.index]), 1);
    const isGrey = (one) => found.totals[one.index] < about.min_votes;
    const weight = (answer) => found.counts[answer] / rootTotal;
    const columns = 1 + Math.max(...shown.map((one) => one.depth), 0);
    const room = main.clientWidth - (innerWidth > 1180 ? 456 : innerWidth > 900 ? 340 : 0) - 50;
    const width = Math.min(Math.max(Math.floor((room + 50) / columns) - 50, 140), 180);
    const flow = wideFlow(shown, {
      width, gap: Math.min(Math.max(Math.floor((room - columns * width) / Math.max(columns - 1, 1)), 40), 76), rowHeight: found.model?.posterior ? 44 : 40, between: 26, isGrey, weight,
      total: (one) => count(found.totals[one.index]),
      choice: (question, answer) => h("div", { class: "choice", style: { height: found.model?.posterior ? "44px" : "40px" } },
        h("span", { class: "unseen" }, spoken(found, question, answer)),
        h("span", { class: "words", "aria-hidden": "true" }, h("span", {}, answer.label), h("span", {}, String(found.counts[answer.index]))),
        bars(found, question, answer)),
    });
    const tall = verticalTree(shown, {
      weight,
      row: (question, answer) => h("div", { class: "answer" },
        h("span", { class: "unseen" }, spoken(found, question, answer)),
        h("span", { class: "answer-name", "aria-hidden": "true" }, answer.label), bars(found, question, answer),
        h("span", { class: "percent", "aria-hidden": "true" }, String(found.counts[answer.index]))),
      heading: (question) => h("h3", { class: "heading" }, h("span", { class: "heading-name" }, question.label), h("span", { class: "total" }, count(found.totals[question.index]))),
    });
    for (const [name, entry] of tall.nodes) entry.item.classList.toggle("grey", isGrey(shown.find((one) => one.name === name)));

    main.replaceChildren(
      h("aside", { "aria-label": "Galaxy" },
        h("div", { class: "picture" }, h("div", { class: "portrait" }, image)),
        h("div", { class: "about" }, h("h1", {}, found.id), facts, differences, same)),
      h("section", { class: "detail", "aria-label": "Votes" },
        h("div", { class: "bar-top" }, legend(found), turn),
        h("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Votes down the decision tree" }, flow),
        h("div", { class: "tall" }, tall.root),
        about.map && neighbours(app, found.row)));
    if (document.activeElement === document.body) main.focus({ preventScroll: true });
    for (const one of [found.previous, found.next]) if (one && about.has_images) new Image().src = address(app, "image", one.row);
    requestAnimationFrame(tall.draw);
  }

  return {
    async update(state) {
      const query = filter(state);
      query.set("id", state.id);
      if (state.of) query.set("of", state.of);
      try {
        found = await app.get("galaxy", query);
        draw(state);
      } catch (error) {
        if (isAbort(error)) return;
        main.replaceChildren(h("div", { class: "loading" }, h("h1", {}, error.message), h("p", {}, error.hint || error.expected || "")));
      }
    },
    turn(step) {
      const next = step > 0 ? found?.next : found?.previous;
      if (next) app.go({ view: "galaxy", id: next.id }, { replace: true });
    },
    pin() {
      const question = about.questions.find((one) => !one.parents.length);
      if (!found) return;
      if (app.pins.has(found.row)) app.pins.delete(found.row);
      else app.pins.set(found.row, { row: found.row, id: found.id, k: found.counts[question.answers[0].index], n: found.totals[question.index], label: question.answers[0].label });
    },
    inView: () => (found ? [found.row] : []),
    labelled: () => draw(app.state),
    escape: () => app.leave(),
  };
}

