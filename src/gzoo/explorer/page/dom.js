// Elements, numbers and words. Text always enters as text nodes: an identifier may contain markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "style") for (const [key, one] of Object.entries(value)) node.style.setProperty(key, one);
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((one) => one !== null && one !== undefined && one !== false));
  return node;
}

export const h = (tag, props, ...children) => fill(document.createElement(tag), props, children);
export const s = (tag, props, ...children) => fill(document.createElementNS(SVG, tag), props, children);

export const count = (n) => n.toLocaleString("en");
export const percent = (part, whole) => (whole ? `${Math.round((100 * part) / whole)}%` : "–");
export const fraction = (x) => (x === null || x === undefined ? "–" : x.toFixed(2));
export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

export function number(x) {
  if (Number.isInteger(x)) return Math.abs(x) < 10000 ? String(x) : count(x);
  return String(Number(x.toPrecision(4)));
}

export function announce(text) {
  document.getElementById("live").textContent = text;
}

// Where an image is: of a site without a server, both sizes are one file.
export function address(app, kind, row) {
  return app.about.images ? `image/${row}${app.about.images[row]}` : `/${kind}/${row}?v=${app.about.version}`;
}

export function thumbnail(app, row, alt, props = {}) {
  if (!app.about.has_images) return h("span", { class: "absent" }, alt);
  const image = h("img", {
    src: address(app, "thumbnail", row), alt, loading: "lazy", decoding: "async", draggable: "false", ...props,
  });
  image.addEventListener("error", () => {
    image.replaceWith(h("span", { class: "absent" }, "The image cannot be shown."));
    app.checkServer();
  });
  return image;
}
