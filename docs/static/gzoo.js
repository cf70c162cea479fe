// the theme gives the arrows that unfold parts of the navigation no name that a screen reader could say
document.addEventListener("DOMContentLoaded", () => {
  for (const arrow of document.querySelectorAll("details > summary:has(> .toctree-toggle:only-child)")) {
    const page = arrow.closest("li")?.querySelector("a")?.textContent.trim();
    arrow.setAttribute("aria-label", `Pages of ${page ?? "this section"}`);
  }
});
