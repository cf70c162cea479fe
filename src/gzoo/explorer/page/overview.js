// The dataset as a whole: votes down the tree, where the galaxies are, splits, what was dropped, and how to cite it.

import { h, s, count, percent, plural, thumbnail } from "./dom.js";
import { isAbort } from "./api.js";
import { wideFlow } from "./flow.js";
import { filter } from "./state.js";
import { verticalTree } from "./tree.js";

const WORDS = ["no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"];

export function skyMap(found) {
  const [width, height] = [400, 200];
  const net = [];
  for (const longitude of [-120, -60, 0, 60, 120]) {
    net.push(s("ellipse", { class: "net", cx: width / 2, cy: height / 2, rx: (Math.abs(longitude) / 180) * (width / 2), ry: height / 2 }));
  }
  for (const latitude of [-60, -30, 0, 30, 60]) {
    let theta = (latitude * Math.PI) / 180;
    for (let i = 0; i < 20; i++) theta -= (2 * theta + Math.sin(2 * theta) - Math.PI * Math.sin((latitude * Math.PI) / 180)) / (2 + 2 * Math.cos(2 * theta));
    const [x, y] = [(Math.cos(theta) * width) / 2, (Math.sin(theta) * height) / 2];
    net.push(s("line", { class: "net", x1: width / 2 - x, x2: width / 2 + x, y1: height / 2 - y, y2: height / 2 - y }));
  }
  const stars = [];
  const dots = (points, size, opacity) => stars.push(s("path", { class: "stars", "stroke-width": size, opacity, d: points.map(([x, y]) => `M${x.toFixed(1)} ${y.toFixed(1)}h0`).join("") }));
  if (found.points) {
    const points = [];
    for (let i = 0; i < found.points.length; i += 2) points.push([((found.points[i] + 1) * width) / 2, (0.5 - found.points[i + 1]) * height]);
    dots(points, found.n > 2000 ? 1.2 : found.n > 300 ? 1.9 : 2.6, 0.85);
  } else {
    found.levels.forEach((cells, i) => dots(cells.map((one) => [
      (((one % found.width) + 0.5) / found.width) * width, ((Math.floor(one / found.width) + 0.5) / found.height) * height]), 1.25, 0.3 + 0.23 * i));
  }
  return s("svg", { class: "sky-map", viewBox: `-1 -1 ${width + 2} ${height + 2}`, role: "img",
    "aria-label": `Sky map of ${plural(found.n, "galaxy", "galaxies")} in the Mollweide projection, right ascension 0 in the middle` },
  s("ellipse", { class: "globe", cx: width / 2, cy: height / 2, rx: width / 2, ry: height / 2 }), net, stars);
}

function volunteersPlot(found) {
  const [width, height] = [340, 62];
  const { counts } = found;
  const first = counts.findIndex((one) => one > 0);
  const used = counts.slice(Math.max(first, 0));
  const most = Math.max(...used, 1);
  const step = width / used.length;
  return h("figure", {},
    s("svg", { viewBox: `0 0 ${width} ${height}`, class: "sky-map", role: "img",
      "aria-label": `Volunteers per galaxy: ${found.low} to ${found.high}, median ${found.median}` },
    used.map((one, i) => s("rect", { x: i * step + 0.5, width: Math.max(step - 1, 0.5), y: height * (1 - one / most), height: (height * one) / most, fill: "var(--volunteers)" },
      s("title", {}, `${(i + first) * found.width} to ${(i + first + 1) * found.width - 1}: ${count(one)} galaxies`)))),
    h("figcaption", { class: "axis" }, h("span", {}, String(Math.max(first, 0) * found.width)), h("span", {}, String(counts.length * found.width - 1))));
}

export function open(main, app) {
  const { about } = app;
  main.classList.add("overview");
  const totals = new Map(about.questions.flatMap((one) => one.answers.map((answer) => [answer.index, answer.total])));
  const roots = about.questions.filter((one) => !one.parents.length);
  const rootTotal = Math.max(...roots.map((one) => one.total), 1);
  const n = roots.reduce((sum, one) => sum + one.total, 0);
  const nQuestions = about.questions.length;

  function draw(found, sky, state) {
    app.title("Overview");
    const questions = about.parts.length ? about.questions.filter((one) => one.part === (chosenPart ?? about.parts[0])) : about.questions;
    const toGallery = (question, answer) => {
      const changes = { view: "gallery", q: `${answer.name} > 0.5 and ${question.asked} >= ${about.min_votes}`, sort: `-${answer.name}` };
      return { href: app.link(changes), onclick: (event) => app.follow(event, changes) };
    };
    const columns = 1 + Math.max(0, ...questions.map((one) => one.depth));
    const room = main.clientWidth - (innerWidth > 1180 ? 420 : innerWidth > 900 ? 330 : 0) - 50;
    const width = Math.min(Math.max(Math.floor((room + 40) / columns) - 40, 150), 184);
    const flow = questions.length ? wideFlow(questions, {
      width, gap: Math.min(Math.max(Math.floor((room - columns * width) / Math.max(columns - 1, 1)), 34), 60), rowHeight: 42, between: 26, pale: true, ribbon: 44,
      weight: (answer) => totals.get(answer) / (about.parts.length ? Math.max(...questions.map((one) => one.total), 1) : rootTotal),
      total: (one) => count(one.total),
      choice(question, answer) {
        const row = found.examples[answer.column];
        return h("a", { class: "choice example", ...toGallery(question, answer) },
          h("span", { class: "mini" }, row === undefined ? "" : thumbnail(app, row, "")),
          h("span", {}, h("span", { class: "words" }, h("span", {}, answer.label), h("span", {}, percent(answer.total, question.total))),
            h("span", { class: "gauge", "aria-hidden": "true", style: { display: "block" } }, h("i", { style: { width: `${(100 * answer.total) / Math.max(question.total, 1)}%` } }))));
      },
    }) : "";
    const tall = verticalTree(questions, {
      weight: (answer) => totals.get(answer) / Math.max(...questions.map((one) => one.total), 1),
      row: (question, answer) => h("a", { class: "answer", ...toGallery(question, answer) },
        h("span", { class: "mini" }, found.examples[answer.column] === undefined ? "" : thumbnail(app, found.examples[answer.column], "")),
        h("span", { class: "answer-name" }, answer.label),
        h("span", { class: "gauge", "aria-hidden": "true" }, h("i", { style: { width: `${(100 * answer.total) / Math.max(question.total, 1)}%` } })),
        h("span", { class: "percent" }, percent(answer.total, question.total))),
      heading: (question) => h("h3", { class: "heading" }, h("span", { class: "heading-name" }, question.label), h("span", { class: "total" }, count(question.total))),
    });
    const tabs = about.parts.length ? h("nav", { class: "tabs", "aria-label": "Campaigns" }, about.parts.map((one) => h("a", {
      href: "#", "aria-current": one === (chosenPart ?? about.parts[0]) && "true", onclick: (event) => { event.preventDefault(); chosenPart = one; draw(found, sky, state); },
    }, one))) : "";
    const splits = Object.entries(found.splits).filter(([, number]) => number);
    const order = ["train", "validation", "test", "border"];
    const dropped = Object.entries(found.dropped.reasons);
    const nDropped = dropped.reduce((sum, [, number]) => sum + number, 0);
    main.replaceChildren(
      h("section", {},
        h("h1", {}, !nQuestions ? plural(about.n, "galaxy", "galaxies") : `${count(n)} classifications flow down ${WORDS[nQuestions] ?? nQuestions} ${nQuestions === 1 ? "question" : "questions"} about ${plural(about.n, "galaxy", "galaxies")}`),
        h("p", { class: "lead" }, !nQuestions ? "This dataset contains labels, but no votes." : "Ribbon width is votes. Choose an answer to see its galaxies."), tabs,
        h("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Votes down the decision tree" }, flow), h("div", { class: "tall" }, tall.root)),
      h("aside", { "aria-label": "About the dataset" },
        h("h2", {}, "Where they are", h("small", {}, sky.n ? "right ascension 0° in the middle" : "no positions are known")), sky.n ? skyMap(sky) : "",
        sky.n < about.n && sky.n ? h("p", { class: "small" }, `${count(sky.n)} of ${count(about.n)} galaxies are shown.`) : "",
        nQuestions > 0 && h("h2", {}, "Volunteers per galaxy", h("small", {}, `median ${found.volunteers.median}`)), nQuestions ? volunteersPlot(found.volunteers) : "",
        h("h2", {}, "Splits", h("small", {}, `scheme ${found.split_scheme}`)),
        h("div", { class: "split-bar", "aria-hidden": "true" }, splits.map(([name, number]) => h("i", { class: `of-${Math.max(order.indexOf(name), 0)}`, style: { "flex-grow": String(number) } }))),
        h("ul", { class: "split-key" }, splits.map(([name, number]) => h("li", {}, h("i", { class: `swatch of-${Math.max(order.indexOf(name), 0)}`, "aria-hidden": "true" }), name, " ", h("strong", {}, count(number))))),
        h("h2", {}, "Dropped", h("small", {}, found.dropped.known ? (nDropped ? `${count(nDropped)} of ${count(nDropped + about.n)}` : `none of ${count(about.n)}`) : "not recorded")),
        dropped.length ? h("ul", { class: "small bullets" }, dropped.map(([reason, number]) => h("li", {}, `${reason}: ${count(number)}`))) : "",
        found.not_collected.length ? [h("h2", {}, "Without votes", h("small", {}, plural(found.not_collected.length, "question"))),
          h("details", { class: "small table", open: found.not_collected.length < 12 }, h("summary", {}, "questions"), h("p", {}, found.not_collected.join(", ")))] : "",
        h("h2", {}, `About ${about.title}`),
        h("p", { class: "small" }, about.is_simulated ? "Simulated: no telescope and no volunteer was involved." : found.description),
        !about.is_simulated && found.surveys.length ? h("p", { class: "small" }, `Images: ${found.surveys.join("; ")}.`) : "",
        found.licence ? h("p", { class: "small" }, `Licence: ${found.licence}.`) : "",
        found.citation.length ? [h("h2", {}, "Cite"), h("ul", { class: "small cites" }, found.citation.map((one) => h("li", {}, one)))] : ""));
  }
  let chosenPart = null;

  return {
    async update(state) {
      try {
        const [found, sky] = await Promise.all([app.get("overview", new URLSearchParams()), app.get("sky", filter(state))]);
        draw(found, sky, state);
      } catch (error) {
        if (!isAbort(error)) main.replaceChildren(h("p", { class: "loading" }, error.message));
      }
    },
    escape: () => app.leave(),
  };
}
