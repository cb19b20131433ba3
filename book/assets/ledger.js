"use strict";
// Search and filters of the ledger of claims; without them every row is there and opens.

document.addEventListener("DOMContentLoaded", () => {
  const form = document.querySelector(".ledger-filter");
  if (!form) return;
  const claims = [...document.querySelectorAll("details.claim")].map((row) => ({ row, text: row.textContent.toLowerCase() }));
  const sections = [...document.querySelectorAll("section")].filter((s) => s.querySelector("details.claim") && !s.querySelector("section"));

  const update = () => {
    const words = form.text.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const { row, text } of claims) {
      const fits = ["verdict", "section", "data"].every((name) => !form[name].value || row.dataset[name].split(" ").includes(form[name].value));
      row.hidden = !(fits && words.every((word) => text.includes(word)));
      shown += !row.hidden;
    }
    for (const section of sections) section.hidden = !section.querySelector("details.claim:not([hidden])");
    form.querySelector("output").value = `${shown} of ${claims.length} claims`;
  };
  const open = () => {
    const row = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!row?.matches("details.claim")) return;
    row.open = true;
    row.scrollIntoView();
  };

  form.hidden = false;
  form.addEventListener("input", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  window.addEventListener("hashchange", open);
  update();
  open();
});
