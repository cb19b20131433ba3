// Repairs of the generated pages, for readers without a server and for readers with a keyboard or a screen reader.

// An excerpt beside a search result is read from the page it was found on, which a browser refuses for files on disk.
if (location.protocol === "file:") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;

const change = (selector, how) => document.querySelectorAll(selector).forEach(how);

document.addEventListener("DOMContentLoaded", () => {
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

// Formulas that are too wide scroll, also by keyboard.
window.addEventListener("load", async () => {
  await window.MathJax?.startup?.promise;
  change('mjx-container[display="true"]', (e) => {
    if (e.scrollWidth > e.clientWidth) e.tabIndex = 0;
  });
});
