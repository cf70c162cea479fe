// Help with the list of keys, and saving the rows that are shown.

import { h, announce, count } from "./dom.js";
import { filter, isStatic } from "./state.js";

const KEYS = [
  ["/", "expression box; Esc leaves it"],
  ["t", "decision tree; arrows move, Enter chooses, Right and Left open and close a question"],
  ["← ↑ → ↓ Home End", "move in the grid"],
  ["Enter Esc", "open the galaxy, and back to the grid"],
  ["j k", "next and previous galaxy"],
  ["z", "whole image or its centre"],
  ["m", "keep the galaxy in a strip to compare"],
  ["s", "save rows"],
  ["1 2 3 4", "gallery, overview, model against volunteers, map"],
  ["?", "this list"],
];

function labelKeys({ about: { labelling } }) {
  if (!labelling) return [];
  return [
    ...labelling.classes.map((name, i) => [`Shift+${i + 1}`, `label the galaxy that has the focus, or else all in view: ${name}`]),
    ["Shift+0", "take the label away"],
  ];
}

function open(title, ...content) {
  const dialog = h("dialog", { "aria-labelledby": "dialog-title" },
    h("h2", { id: "dialog-title" }, title), content,
    h("div", { class: "closing" }, h("button", { class: "button", onclick: () => dialog.close() }, "Close")));
  dialog.addEventListener("close", () => dialog.remove());
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

export function showHelp(app) {
  const letters = h("input", {
    type: "checkbox", id: "letters", ...(app.lettersOff ? {} : { checked: true }),
    onchange: (event) => {
      app.lettersOff = !event.target.checked;
      localStorage.setItem("gzoo-letters", app.lettersOff ? "off" : "on");
    },
  });
  open("Help",
    h("p", {}, "Write a condition, choose answers in the tree, or drag on a histogram: all three edit one expression. " +
      "Blue is volunteers, orange is the model."),
    h("pre", {}, "bar.yes > 0.6 and bar.asked >= 10\nnot (ra < 180 or summary is missing)\nbar.yes.model > 0.5 and bar.yes < 0.2"),
    h("div", { class: "rows" }, [...KEYS, ...labelKeys(app)].map(([keys, text]) => [
      h("span", {}, keys.split(" ").map((key) => [h("kbd", {}, key), " "])), h("span", {}, text)])),
    h("p", {}, letters, " ", h("label", { for: "letters" }, "Single letters act as keys")));
}

export async function showSave(app) {
  if (document.querySelector("dialog")) return;
  const query = filter(app.state);
  let command;
  let unsaid;
  let n;
  try {
    [{ command, unsaid }, { count: n }] = await Promise.all([
      app.get("select", query),
      app.get("view", new URLSearchParams([...query, ["n", "1"]]), { kind: "save" }),
    ]);
  } catch {
    return;
  }
  const text = String(query);
  const blob = async (format) => URL.createObjectURL(new Blob([await (await import("./static.js")).table(query, format)], { type: "text/plain" }));
  const files = isStatic ? { csv: await blob("csv"), txt: await blob("txt") } : null;
  const link = (format, label) => files && !files[format] ? "" : h("a", { href: files?.[format] ?? `/download/galaxies.${format}${text ? `?${text}` : ""}`, download: `galaxies.${format}` }, label);
  const copy = h("button", { class: "button", onclick: async () => {
    await navigator.clipboard.writeText(command);
    announce("Copied");
    copy.textContent = "Copied";
  } }, "Copy");
  open(`Save ${count(n)} ${n === 1 ? "row" : "rows"}`,
    h("div", { class: "links" }, link("csv", "CSV"), link("parquet", "Parquet"), link("txt", "Identifiers")),
    h("p", { class: "muted" }, unsaid || "The command that chooses the same galaxies:"),
    h("pre", { tabindex: "0" }, command), copy);
}
