"use strict";
(() => {
  const compare = new Intl.Collator("en", { numeric: true }).compare;

  // Numbers by value, texts naturally; empty cells stay last in both directions.
  function order(a, b, numeric, sign) {
    if (a === "" || b === "") return (a === "") - (b === "");
    return sign * (numeric ? Number(a) - Number(b) : compare(a, b));
  }

  function sort(header) {
    const table = header.closest("table");
    const index = header.cellIndex;
    const numeric = header.classList.contains("num");
    const down = header.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => (numeric ? row.cells[index].dataset.v : row.cells[index].textContent);
    const rows = [...table.tBodies[0].rows];
    rows.sort((a, b) => order(key(a), key(b), numeric, down ? -1 : 1));
    table.tBodies[0].append(...rows);
  }

  async function unpack(base64) {
    const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
    return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).blob();
  }

  async function download(button) {
    const link = document.createElement("a");
    const csv = await unpack(button.dataset.csv);
    link.href = URL.createObjectURL(new Blob([csv], { type: "text/csv" }));
    link.download = button.dataset.file;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  for (const button of document.querySelectorAll("thead button")) {
    button.addEventListener("click", () => sort(button.parentElement));
  }
  if ("DecompressionStream" in window) {
    for (const button of document.querySelectorAll("button.csv")) {
      button.hidden = false;
      button.addEventListener("click", () => download(button));
    }
  }
})();
