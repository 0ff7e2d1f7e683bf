"use strict";
(() => {
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const stored = () => {
    // A browser may deny storage to a page from a file.
    try { return localStorage.getItem("layerbridge-theme"); } catch { return null; }
  };
  const shown = () => root.dataset.theme || (dark.matches ? "dark" : "light");
  const update = () => button.setAttribute("aria-pressed", String(shown() === "dark"));
  const before = stored();
  if (before === "dark" || before === "light") root.dataset.theme = before;
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = shown() === "dark" ? "light" : "dark";
    try { localStorage.setItem("layerbridge-theme", root.dataset.theme); } catch { /* as above */ }
    update();
  });
  dark.addEventListener("change", update);
  update();

  // Says that a heat map scrolls, where it does.
  const watch = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      target.previousElementSibling.hidden = target.scrollWidth <= target.clientWidth;
    }
  });
  for (const hint of document.querySelectorAll(".sideways")) watch.observe(hint.nextElementSibling);

  // Browsers do not print closed details.
  let opened = [];
  addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const details of opened) details.open = true;
  });
  addEventListener("afterprint", () => {
    for (const details of opened) details.open = false;
  });
})();
