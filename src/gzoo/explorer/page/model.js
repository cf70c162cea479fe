// Model against volunteers: is it right on average, and where does it differ by more than the noise of the votes?

import { h, s, count, fraction, percent, thumbnail } from "./dom.js";
import { isAbort } from "./api.js";
import { filter } from "./state.js";

const N_BINS = 10;

function reliability(found, answer, choose, chosen) {
  const [left, top, side] = [50, 8, 420];
  const x = (value) => left + value * side;
  const y = (value) => top + (1 - value) * side;
  const ticks = [0, 0.2, 0.4, 0.6, 0.8, 1];
  const most = Math.max(...found.groups.map((one) => one.n), 1);
  const bars = Math.max(...found.histogram, 1);
  const base = top + side + 66;
  return s("svg", { viewBox: `0 0 ${left + side + 18} ${base + 30}`, role: "img", "aria-label": `Reliability of ${answer}: voted against predicted fraction` },
    ticks.map((tick) => [
      s("line", { class: "net-line", x1: x(tick), x2: x(tick), y1: y(0), y2: y(1) }), s("line", { class: "net-line", x1: x(0), x2: x(1), y1: y(tick), y2: y(tick) }),
      s("text", { x: x(tick), y: y(0) + 17, "text-anchor": "middle" }, tick.toFixed(1)), s("text", { x: left - 8, y: y(tick) + 4, "text-anchor": "end" }, tick.toFixed(1))]),
    s("text", { transform: `translate(12 ${y(0.5)}) rotate(-90)`, "text-anchor": "middle" }, "volunteers: mean vote fraction"),
    s("line", { class: "diagonal", x1: x(0), y1: y(0), x2: x(1), y2: y(1) }),
    Array.from({ length: N_BINS }, (_, i) => s("rect", {
      class: `bin${i === chosen ? " chosen" : ""}`, x: x(i / N_BINS), width: side / N_BINS, y: y(1), height: side, onclick: () => choose(i === chosen ? null : i),
    })),
    found.groups.map((one) => [
      s("line", { class: "model-line", x1: x(one.predicted), x2: x(one.predicted), y1: y(Math.max(one.low, 0)), y2: y(Math.min(one.high, 1)), "pointer-events": "none" }),
      s("circle", { class: "model-fill", cx: x(one.predicted), cy: y(one.voted), r: 3.5 + 8 * Math.sqrt(one.n / most), "pointer-events": "none",
        stroke: one.bin === chosen ? "var(--ink)" : "none", "stroke-width": 2 },
      s("title", {}, `predicted ${fraction(one.predicted)}, voted ${fraction(one.voted)}, ${count(one.n)} galaxies`))]),
    found.histogram.map((n, i) => {
      const height = Math.sqrt(n / bars) * 34;
      const isChosen = chosen !== null && Math.floor((i * N_BINS) / 40) === chosen;
      return s("rect", { x: x(i / 40) + 0.5, width: side / 40 - 1, y: base - height, height, fill: isChosen ? "var(--model)" : "var(--all)" });
    }),
    s("text", { x: x(0.5), y: base + 20, "text-anchor": "middle" }, `model: predicted vote fraction of ${answer}`));
}

function residuals(found, chosen, openRow) {
  const [left, top, width, height] = [44, 12, 500, 250];
  const most = Math.max(...found.points.n, 2);
  const reach = Math.max(0.4, ...found.points.gap.map(Math.abs)) * 1.04;
  const x = (n) => left + (Math.sqrt(n) / Math.sqrt(most)) * width;
  const y = (gap) => top + height / 2 - (gap / reach) * (height / 2);
  const band = found.band;
  const clip = (v) => Math.min(v, reach);
  const edge = [...band.map(([n, half]) => `${x(n).toFixed(1)},${y(clip(half)).toFixed(1)}`), ...band.slice().reverse().map(([n, half]) => `${x(n).toFixed(1)},${y(-clip(half)).toFixed(1)}`)];
  const step = reach > 0.6 ? 0.4 : 0.2;
  const levels = [-2, -1, 0, 1, 2].map((i) => i * step).filter((one) => Math.abs(one) <= reach);
  const votes = [1, 2, 5, 10, 20, 40, 80, 160, 320].filter((one) => one <= most);
  return s("svg", { viewBox: `0 0 ${left + width + 10} ${top + height + 46}`, role: "img", "aria-label": "Volunteers minus model for each galaxy, against its votes" },
    s("polygon", { class: "band", points: edge.join(" ") }),
    levels.map((one) => [s("line", { class: one ? "net-line" : "diagonal", x1: left, x2: left + width, y1: y(one), y2: y(one) }),
      s("text", { x: left - 8, y: y(one) + 4, "text-anchor": "end" }, one > 0 ? `+${one.toFixed(1)}` : one.toFixed(1).replace("-", "−"))]),
    votes.map((one) => s("text", { x: x(one), y: top + height + 18, "text-anchor": "middle" }, String(one))),
    s("text", { x: left + width / 2, y: top + height + 40, "text-anchor": "middle" }, "votes on this question"),
    found.points.n.map((n, i) => s("circle", {
      class: `point${chosen !== null && found.points.bin[i] === chosen ? " chosen" : ""}`, cx: (x(n) + ((i * 7919) % 13) * 0.35 - 2.1).toFixed(1), cy: y(found.points.gap[i]).toFixed(1),
      r: chosen !== null && found.points.bin[i] === chosen ? 3.2 : 2, onclick: () => openRow(found.points.row[i]),
    })));
}

function asTable(title, heads, rows) {
  return h("details", { class: "table" }, h("summary", {}, `${title} as a table`),
    h("table", {}, h("thead", {}, h("tr", {}, heads.map((one) => h("th", { scope: "col" }, one)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map((one) => h("td", {}, one)))))));
}

export function open(main, app) {
  const { about } = app;
  main.classList.add("model-view");
  let waiting;

  function draw(found, state) {
    const question = about.questions.find((one) => one.name === found.question);
    const answer = question.answers.find((one) => one.answer === found.answer);
    const chosen = state.bin === "" ? null : Number(state.bin);
    const { scores } = found;
    const known = scores.questions ?? {};
    const gains = about.questions.map((one) => known[one.name]?.gain?.value ?? 0);
    const mostGain = Math.max(...gains, 1e-9);
    const follow = (changes) => ({ href: app.link(changes), onclick: (event) => app.follow(event, changes) });
    const list = about.questions.filter((one) => one.predicted).map((one) => {
      const gain = known[one.name]?.gain?.value;
      return h("a", { ...follow({ view: "model", question: one.name, answer: "", bin: "" }), "aria-current": one === question && "true" },
        h("span", {}, one.label), h("span", { class: "gauge", "aria-hidden": "true" }, h("i", { style: { width: `${Math.max((100 * (gain ?? 0)) / mostGain, 0)}%` } })),
        h("span", {}, gain === undefined || gain === null ? "" : gain.toFixed(2).replace("-", "−")));
    });
    const own = known[question.name];
    const said = { done: own?.description ?? "", running: "Scoring the predictions …", failed: [scores.message, scores.hint].filter(Boolean).join(" ") }[scores.state] ?? "";
    const strip = found.listed.map((one) => h("a", { class: "tile", ...follow({ view: "galaxy", id: one.id, of: "" }), title: one.id },
      h("div", { class: "frame" }, thumbnail(app, one.row, `Galaxy ${one.id}: ${one.k} of ${one.n} volunteers answered ${answer.label}, predicted ${fraction(one.model)}`)),
      h("span", { class: "caption", "aria-hidden": "true" },
        h("span", { class: "scale", style: { display: "block" } },
          h("i", { style: { left: `${100 * Math.min(one.model, one.k / one.n)}%`, width: `${100 * Math.abs(one.model - one.k / one.n)}%` } }),
          h("b", { style: { left: `${(100 * one.k) / one.n}%` } }), h("u", { style: { left: `${100 * one.model}%` } })),
        h("span", { class: "values" }, h("span", {}, `${one.k}/${one.n}`), h("span", {}, fraction(one.model))))));
    const openRow = async (row) => {
      const one = found.listed.find((other) => other.row === row);
      if (one) return app.go({ view: "galaxy", id: one.id });
      const { rows } = await app.get("row", new URLSearchParams({ row }));
      return app.go({ view: "galaxy", id: rows[0].id });
    };
    const choose = (bin) => app.go({ bin: bin === null ? "" : String(bin) });
    const middle = chosen === null ? 0.5 : (chosen + 0.5) / N_BINS;
    main.replaceChildren(
      h("aside", { "aria-label": "Questions" },
        h("p", { class: "heads" }, h("strong", {}, "Question"), h("span", { class: "muted" }, "gain, nats")),
        h("nav", { "aria-label": "Questions" }, list),
        h("p", {}, `Log-likelihood gain over the baseline, per galaxy. ${count(about.predictions.n_held_out)} galaxies that the model was not trained on.`)),
      h("section", {},
        h("h1", {}, `${question.label}: ${answer.label}`),
        h("nav", { class: "tabs", "aria-label": "Answers" }, question.answers.map((one, i) => h("a", {
          ...follow({ view: "model", question: question.name, answer: i ? one.answer : "", bin: "" }),
          "aria-current": one === answer && "true" }, one.label))),
        found.isUnfiltered ? h("p", { class: "note", role: "status" }, `Of ${count(found.n_galaxies)} held-out galaxies with votes on this question. The filter does not apply here: this is a copy of the page without a server.`) : "",
        h("p", { class: "verdict" }, said || `When the model predicts ${fraction(middle)}, do ${Math.round(middle * 100)}% of volunteers agree?`),
        found.n_galaxies ? h("div", { class: "plots" },
          h("figure", {}, reliability(found, answer.label, choose, chosen),
            h("p", { class: "small bins-title", "aria-hidden": "true" }, "galaxies with a prediction from"),
            h("nav", { class: "bins", "aria-label": "Bins of the predicted fraction" }, Array.from({ length: N_BINS }, (_, i) => {
              const label = `${(i / N_BINS).toFixed(1)} to ${((i + 1) / N_BINS).toFixed(1)}`;
              return found.groups.some((one) => one.bin === i)
                ? h("a", { ...follow({ bin: i === chosen ? "" : String(i) }), "aria-current": i === chosen && "true", "aria-label": `Predicted ${label}`, title: label }, (i / N_BINS).toFixed(1))
                : h("span");
            })),
            asTable("Reliability", ["bin", "galaxies", "predicted", "voted", "90% from", "to"], found.groups.map((one) => [
              `${(one.bin / N_BINS).toFixed(1)}–${((one.bin + 1) / N_BINS).toFixed(1)}`, count(one.n), fraction(one.predicted), fraction(one.voted), fraction(one.low), fraction(one.high)]))),
          h("figure", {},
            h("h2", { style: { "font-size": "13px", margin: "0 0 2px" } }, "Each galaxy: volunteers − model"), h("p", { class: "muted small" }, "shaded: 90% of what the noise of the votes alone allows"),
            residuals(found, chosen, openRow),
            h("dl", { class: "numbers" }, [
              ["galaxies", count(found.n_galaxies)], ["votes", count(found.n_total)], ["bias", found.bias === null ? "–" : `${found.bias > 0 ? "+" : "−"}${Math.abs(found.bias).toFixed(3)}`],
              ["inside the band", percent(found.inside ?? 0, 1)], own?.rmse !== undefined && own?.rmse !== null && ["noise-corrected RMSE", own.rmse.toFixed(3)],
              chosen !== null && ["in this bin", count(found.n_listed)],
            ].filter(Boolean).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))))) : h("p", { class: "empty" }, "No held-out galaxy with votes on this question meets the filter."),
        h("div", { class: "strip-title" },
          h("span", {}, h("strong", {}, chosen === null ? "Largest disagreements" : `Model predicts ${(chosen / N_BINS).toFixed(1)} – ${((chosen + 1) / N_BINS).toFixed(1)}`), " ",
            h("span", { class: "muted" }, chosen === null ? "in standard deviations of the votes" : "volunteers saw more first")),
          chosen === null ? "" : h("span", { class: "muted" }, "volunteers saw fewer last")),
        h("div", { class: "strip" }, strip),
        asTable("These galaxies", ["galaxy", "votes", "of", "predicted"], found.listed.map((one) => [one.id, String(one.k), String(one.n), fraction(one.model)]))));
    app.title(`${question.label}: ${answer.label}`);
    clearTimeout(waiting);
    if (scores.state === "running" || scores.state === "waiting") waiting = setTimeout(() => app.shown === "model" && view.update(app.state), 1500);
  }

  const view = {
    async update(state) {
      const query = filter(state);
      query.delete("sort");
      for (const name of ["question", "answer", "bin"]) if (state[name] !== "") query.set(name, state[name]);
      try {
        draw(await app.get("model", query), state);
      } catch (error) {
        if (isAbort(error)) return;
        main.replaceChildren(h("div", { class: "loading" }, h("p", {}, error.message), h("p", {}, error.hint || error.expected || "")));
      }
    },
    escape: () => app.leave(),
    close: () => clearTimeout(waiting),
  };
  return view;
}
