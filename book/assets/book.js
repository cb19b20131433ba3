"use strict";
// Repairs of the generated pages, for readers without a server and for readers with a keyboard or a screen reader.

{
  // An excerpt beside a search result is read from the page it was found on, which a browser refuses for files on disk.
  if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;

  const root = document.documentElement;
  const change = (selector, how) => document.querySelectorAll(selector).forEach(how);

  // One switch shows or hides the code of all pages.
  function showCode(on) {
    root.classList.toggle("code-on", on);
    root.classList.toggle("code-off", !on);
    change("details.hide.above-input", (e) => { e.open = on; });
    change(".code-switch", (e) => e.setAttribute("aria-pressed", on));
  }

  function addCodeSwitch() {
    const title = document.querySelector("article h1");
    if (!title || !document.querySelector("details.hide.above-input")) return;
    const button = document.createElement("button");
    button.className = "code-switch";
    button.textContent = "Show code";
    button.onclick = () => {
      const on = !root.classList.contains("code-on");
      sessionStorage.setItem("code", on ? "on" : "off");
      showCode(on);
    };
    title.before(button);
    showCode(sessionStorage.getItem("code") === "on");
  }

  // The rows of a table that is wider than its place stand as cards: their cells then carry their columns' names.
  function labelCells(box) {
    const heads = [...box.querySelectorAll("thead tr:last-child > *")].map((e) => e.textContent);
    const roles = { table: "table", "thead, tbody": "rowgroup", tr: "row", "thead th": "columnheader", "tbody th": "rowheader", td: "cell" };
    for (const [selector, role] of Object.entries(roles)) {
      box.querySelectorAll(selector).forEach((e) => e.setAttribute("role", role));
    }
    box.querySelectorAll("tbody tr").forEach((row) => [...row.cells].forEach((e, i) => {
      e.dataset.label = heads[i];
      e.classList.toggle("nothing", e.textContent === "–");
    }));
    let width = 0;
    const fit = () => {
      if (box.clientWidth === width) return;
      width = box.clientWidth;
      box.classList.remove("stacked");
      box.classList.toggle("stacked", box.scrollWidth > width);
    };
    new ResizeObserver(() => requestAnimationFrame(fit)).observe(box); // also when it is unfolded
  }

  document.addEventListener("DOMContentLoaded", () => {
    addCodeSwitch();
    change(".cgat-table", labelCells);
    // Labels that hide the visible text ("Show code cell source"), roles that are no longer in use.
    change("details.hide > summary, .search-button-field", (e) => e.removeAttribute("aria-label"));
    change(".theme-switch-button", (e) => e.setAttribute("aria-label", "Color mode: Light, Dark or System Settings"));
    change(".citation-list, .citation", (e) => e.removeAttribute("role"));
    change("table.dataframe th:empty", (e) => e.replaceWith(document.createElement("td")));
    change(".btn-download-source-button", (e) => e.setAttribute("download", "")); // saved, not shown as text
    change("#pst-primary-sidebar", (e) => {
      e.setAttribute("role", "complementary");
      e.setAttribute("aria-label", "The book");
    });
  });

  // On paper every page is light.
  let theme = root.dataset.theme;
  window.addEventListener("beforeprint", () => ([theme, root.dataset.theme] = [root.dataset.theme, "light"]));
  window.addEventListener("afterprint", () => { root.dataset.theme = theme; });

  // Formulas that are too wide scroll, also by keyboard.
  window.addEventListener("load", async () => {
    await window.MathJax?.startup?.promise;
    change('mjx-container[display="true"]', (e) => {
      if (e.scrollWidth > e.clientWidth) e.tabIndex = 0;
    });
  });
}
