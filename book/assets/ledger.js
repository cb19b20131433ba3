"use strict";
// Search and filters of the ledger of claims, of which the first ten are shown until a reader asks for more. Without the
// script, and on paper, every row is there.

document.addEventListener("DOMContentLoaded", () => {
  const form = document.querySelector(".ledger-filter");
  if (!form) return;
  const claims = [...document.querySelectorAll("details.claim")].map((row) => ({ row, text: row.textContent.toLowerCase() }));
  const first = document.querySelector(".ledger");
  const filters = ["verdict", "section", "data"];
  const sections = [...document.querySelectorAll("section")].filter((s) => s.querySelector("details.claim") && !s.querySelector("section"));

  const update = () => {
    const words = form.text.value.toLowerCase().split(/\s+/).filter(Boolean);
    const asked = form.every.checked || words.length || filters.some((name) => form[name].value);
    let shown = 0;
    for (const { row, text } of claims) {
      const fits = filters.every((name) => !form[name].value || row.dataset[name].split(" ").includes(form[name].value));
      row.hidden = !(fits && words.every((word) => text.includes(word)) && (asked || first.contains(row)));
      shown += !row.hidden;
    }
    for (const section of sections) section.hidden = !section.querySelector("details.claim:not([hidden])");
    form.querySelector("output").value = `${shown} of ${claims.length} claims`;
  };
  const open = () => {
    const place = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!place) return;
    if (place.closest("[hidden]")) {
      form.reset();
      form.every.checked = true;
      update();
    }
    if (place.matches("details.claim")) place.open = true;
    place.scrollIntoView();
  };

  form.hidden = false;
  form.addEventListener("input", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  window.addEventListener("hashchange", open);
  update();
  open();
});
