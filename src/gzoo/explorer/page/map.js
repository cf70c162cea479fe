// The map: every galaxy at its place among the features of an encoder. A shape drawn around some of them filters all views.

import { h, announce, count, percent, plural, thumbnail } from "./dom.js";
import { getBytes, isAbort } from "./api.js";
import { alt, caption } from "./gallery.js";
import { filter } from "./state.js";

const UNKNOWN = 65535;
const STEPS = 1000; // of a shape in the address
const MAX_CORNERS = 100;
const NEAR = 9; // pixels within which the pointer finds a galaxy
const LISTED = 12;

export const corners = (text) => {
  const numbers = text.split(".").map(Number);
  const found = [];
  for (let i = 0; i + 1 < numbers.length; i += 2) found.push([numbers[i] / STEPS, numbers[i + 1] / STEPS]);
  return found;
};
const written = (points) => points.map(([x, y]) => `${Math.round(x * STEPS)}.${Math.round(y * STEPS)}`).join(".");

let places = null; // of all galaxies, loaded once: x, y, x, y, ...

export function open(main, app) {
  const { about } = app;
  main.classList.add("map-view");
  const canvas = h("canvas", { role: "img", "aria-label": "Map of the galaxies" });
  const shapeCanvas = h("canvas", { "aria-hidden": "true" });
  const peek = h("div", { class: "peek", hidden: true, "aria-hidden": "true" });
  const frame = h("div", { class: "map" }, canvas, shapeCanvas, peek);
  const counter = h("p", { class: "count" });
  const problem = h("p", { class: "problem", role: "status" });
  const strip = h("ul", { class: "strip", role: "list", "aria-label": "Galaxies" });
  const toGallery = h("a", { class: "button" }, "Show them in the gallery");
  const clear = h("button", { class: "button", onclick: () => app.go({ shape: "" }) }, "Remove the shape");
  const ends = Object.fromEntries([["left", 0], ["right", STEPS], ["bottom", 0], ["top", STEPS]].map(([name, value]) => [name, h("input", {
    type: "range", min: 0, max: STEPS, step: 10, value, id: `map-${name}`, oninput: () => rectangle({ replace: true }), onchange: () => rectangle(),
  })]));
  main.append(
    h("section", { "aria-label": "Map" }, frame,
      h("p", { class: "small" }, `${about.map.axes}. Draw a shape around galaxies to see only these, in all views; choose a point to open its galaxy.`)),
    h("aside", { "aria-label": "Galaxies of the map" }, h("h1", {}, "Map"), counter, problem,
      h("div", { class: "links" }, toGallery, clear),
      h("fieldset", { class: "ends" }, h("legend", {}, "Rectangle"),
        Object.entries(ends).map(([name, input]) => [h("label", { for: input.id }, name), input])),
      strip));

  let chosen = null; // a bit for each galaxy
  let shape = []; // corners, from 0 to 1
  let drawing = null;
  let loaded = null;
  let index = null; // galaxy at each pixel, for the pointer

  // ------------------------------------------------------------------------------------------------
  // Drawing: points are counted in pixels, because a million of them are as quick to draw as a thousand

  function colour(name) {
    const probe = h("span", { style: { color: `var(--${name})` } });
    frame.append(probe);
    const [r, g, b] = getComputedStyle(probe).color.match(/[\d.]+/g).map(Number);
    probe.remove();
    return [r, g, b];
  }

  function draw() {
    const size = frame.clientWidth;
    if (!places || !size) return;
    const scale = Math.min(devicePixelRatio || 1, 2);
    const width = Math.round(size * scale);
    for (const one of [canvas, shapeCanvas]) if (one.width !== width) { one.width = width; one.height = width; }
    const context = canvas.getContext("2d");
    if (!context) return;
    const n = places.length / 2;
    const half = n > 50_000 ? 0 : n > 5_000 ? 1 : Math.round(1.5 * scale);
    const everything = new Uint16Array(width * width);
    const met = new Uint16Array(width * width);
    index = new Int32Array(width * width).fill(-1);
    const isMet = (i) => !chosen || (chosen[i >> 3] >> (7 - (i & 7))) & 1;
    for (let i = 0; i < n; i++) {
      if (places[2 * i] === UNKNOWN) continue;
      const x = Math.round((places[2 * i] / (UNKNOWN - 1)) * (width - 1));
      const y = Math.round((1 - places[2 * i + 1] / (UNKNOWN - 1)) * (width - 1));
      const target = isMet(i) ? met : everything;
      if (isMet(i)) index[y * width + x] = i;
      for (let v = Math.max(y - half, 0); v <= Math.min(y + half, width - 1); v++) {
        for (let u = Math.max(x - half, 0); u <= Math.min(x + half, width - 1); u++) target[v * width + u] += 1;
      }
    }
    const image = context.createImageData(width, width);
    const [faint, bright] = [colour("sky-muted"), [243, 233, 207]];
    for (let i = 0; i < met.length; i++) {
      const k = met[i];
      const rest = everything[i];
      if (!k && !rest) continue;
      image.data.set(k ? bright : faint, 4 * i);
      image.data[4 * i + 3] = k ? 255 * (1 - 0.45 ** k) : 255 * (1 - 0.7 ** rest);
    }
    context.putImageData(image, 0, 0);
    drawShape();
  }

  function drawShape() {
    const context = shapeCanvas.getContext("2d");
    if (!context) return;
    const { width } = shapeCanvas;
    context.clearRect(0, 0, width, width);
    const points = drawing ?? shape;
    if (points.length < 2) return;
    context.beginPath();
    points.forEach(([x, y], i) => context[i ? "lineTo" : "moveTo"](x * width, (1 - y) * width));
    context.closePath();
    const [r, g, b] = colour("sky-volunteers");
    context.fillStyle = `rgb(${r} ${g} ${b} / .16)`;
    context.strokeStyle = `rgb(${r} ${g} ${b})`;
    context.lineWidth = Math.max(width / 400, 1.5);
    context.fill("evenodd");
    context.stroke();
  }

  // ------------------------------------------------------------------------------------------------
  // The pointer: drag draws a shape, hovering shows a galaxy, a click opens it

  const at = (event) => {
    const box = frame.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, 1 - (event.clientY - box.top) / box.height].map((one) => Math.min(Math.max(one, 0), 1));
  };

  function nearest([x, y]) {
    const { width } = canvas;
    const [px, py] = [Math.round(x * (width - 1)), Math.round((1 - y) * (width - 1))];
    const reach = Math.round((NEAR * width) / Math.max(frame.clientWidth, 1));
    let best = null;
    let least = Infinity;
    for (let v = py - reach; v <= py + reach; v++) {
      for (let u = px - reach; u <= px + reach; u++) {
        if (u < 0 || v < 0 || u >= width || v >= width) continue;
        const i = index?.[v * width + u] ?? -1;
        const away = (u - px) ** 2 + (v - py) ** 2;
        if (i >= 0 && away < least) [best, least] = [i, away];
      }
    }
    return best;
  }

  let shown = null;
  async function show(event) {
    const row = nearest(at(event));
    peek.hidden = row === null;
    if (row === null || row === shown) { if (row === null) shown = null; return; }
    shown = row;
    const box = frame.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    peek.style.left = `${x > box.width / 2 ? x - 164 : x + 14}px`;
    peek.style.top = `${Math.min(Math.max(y - 60, 4), box.height - 184)}px`;
    peek.replaceChildren(h("div", { class: "frame" }, thumbnail(app, row, "")));
  }

  async function openGalaxy(row) {
    const { rows } = await app.get("row", new URLSearchParams({ row }));
    app.go({ view: "galaxy", id: rows[0].id });
    scrollTo(0, 0);
  }

  frame.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    frame.setPointerCapture(event.pointerId);
    drawing = [at(event)];
    peek.hidden = true;
  });
  frame.addEventListener("pointermove", (event) => {
    if (!drawing) return show(event);
    const next = at(event);
    const [x, y] = drawing.at(-1);
    if (Math.hypot(next[0] - x, next[1] - y) * frame.clientWidth > 3) drawing.push(next);
    drawShape();
  });
  frame.addEventListener("pointerup", (event) => {
    const points = drawing ?? [];
    drawing = null;
    if (points.length < 3) {
      drawShape();
      const row = nearest(at(event));
      if (row !== null) openGalaxy(row).catch(() => {});
      return;
    }
    const every = Math.ceil(points.length / MAX_CORNERS);
    app.go({ shape: written(points.filter((_, i) => i % every === 0)) });
  });
  frame.addEventListener("pointercancel", () => { drawing = null; drawShape(); });
  frame.addEventListener("pointerleave", () => { peek.hidden = true; shown = null; });

  function rectangle(options = {}) {
    const [left, right] = [ends.left, ends.right].map((one) => Number(one.value)).sort((a, b) => a - b);
    const [bottom, top] = [ends.bottom, ends.top].map((one) => Number(one.value)).sort((a, b) => a - b);
    const isAll = left === 0 && right === STEPS && bottom === 0 && top === STEPS;
    app.go({ shape: isAll ? "" : [left, bottom, right, bottom, right, top, left, top].join(".") }, options);
  }

  // Sliders show a rectangle; of another shape, the rectangle around it.
  function setEnds() {
    if (Object.values(ends).includes(document.activeElement)) return;
    const xs = shape.length ? shape.map(([x]) => x * STEPS) : [0, STEPS];
    const ys = shape.length ? shape.map(([, y]) => y * STEPS) : [0, STEPS];
    [ends.left.value, ends.right.value] = [Math.min(...xs), Math.max(...xs)];
    [ends.bottom.value, ends.top.value] = [Math.min(...ys), Math.max(...ys)];
  }

  async function update(state) {
    app.title("Map");
    shape = state.shape ? corners(state.shape) : [];
    clear.hidden = !state.shape;
    setEnds();
    drawShape();
    const to = { view: "gallery" };
    toGallery.href = app.link(to);
    toGallery.onclick = (event) => app.follow(event, to);
    const query = filter(state);
    query.set("n", LISTED);
    const key = String(query);
    if (key === loaded) return draw();
    try {
      places ??= new Uint16Array(await getBytes("map/places", new URLSearchParams({ v: about.map.version }), { kind: "places" }));
      const [found, bits] = await Promise.all([app.get("view", query), getBytes("map/chosen", filter(state))]);
      loaded = key;
      chosen = new Uint8Array(bits);
      problem.textContent = "";
      counter.replaceChildren(h("strong", {}, count(found.count)), ` of ${count(about.n)} galaxies`,
        about.map.n < about.n ? ` (${count(about.map.n)} are on the map)` : "");
      canvas.setAttribute("aria-label", `Map of ${plural(about.map.n, "galaxy", "galaxies")}: ${percent(found.count, about.n)} are chosen`);
      announce(`${count(found.count)} of ${count(about.n)} galaxies`);
      strip.replaceChildren(...found.rows.map((tile) => h("li", {}, h("a", {
        class: "tile", href: app.link({ view: "galaxy", id: tile.id }), title: tile.id, onclick: (event) => app.follow(event, { view: "galaxy", id: tile.id }),
      }, h("div", { class: "frame" }, thumbnail(app, tile.row, alt(app, tile))), caption(tile)))));
      draw();
    } catch (error) {
      if (isAbort(error)) return;
      if (error.status === 400) problem.textContent = [error.message, error.hint].filter(Boolean).join(" ");
      else if (error.status !== 409 && error.status !== 0) app.warn(error);
    }
  }

  const onResize = () => draw();
  addEventListener("resize", onResize);
  return { update, escape: () => app.leave(), close: () => removeEventListener("resize", onResize) };
}

// What a view shows while a shape on the map is part of the filter.
export function shapeNote(app) {
  const node = h("p", { class: "note", hidden: true });
  const to = { view: "map" };
  return {
    node,
    update(state) {
      node.hidden = !state.shape;
      node.replaceChildren(...(state.shape ? ["Only galaxies inside ",
        h("a", { href: app.link(to), onclick: (event) => app.follow(event, to) }, "a shape on the map"), ". ",
        h("button", { class: "text-button", onclick: () => app.go({ shape: "" }) }, "remove it")] : []));
    },
  };
}
