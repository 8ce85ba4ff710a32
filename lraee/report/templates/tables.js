"use strict";

// The text that was packed as base64 of gzip.
async function unpack(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

// Sorting, filtering and downloading tables. Without this script they are plain tables of their first rows.
(() => {
  const MOST = 3000; // rows in the page at once, so that it stays quick
  const compare = new Intl.Collator("en", { numeric: true }).compare;
  const unpacks = "DecompressionStream" in window;

  // As a reader types it: no case, no typographic minus, no hard spaces.
  function plain(text) {
    return text.toLowerCase().replaceAll("\u2212", "-").replace(/\s+/g, " ");
  }

  function cell(text, detail, key) {
    const made = document.createElement("td");
    made.textContent = text;
    if (key !== undefined) {
      made.className = "num";
      made.dataset.v = key;
    }
    if (detail) {
      const small = document.createElement("small");
      small.textContent = detail;
      made.append(" ", small);
    }
    return made;
  }

  // A row that is written out in the document: what its columns sort by, and what the filter searches.
  function written(row) {
    const keys = [...row.cells].map((td) => (td.classList.contains("num") ? td.dataset.v : td.textContent));
    return { keys, text: plain([...row.cells].map((td) => td.textContent).join(" ")), row: () => row };
  }

  // A row that is carried packed, by column; its element is made when it is first shown.
  function packed(columns, index) {
    const keys = columns.map((column) => (column.key ?? column.text)[index]);
    const texts = columns.map((column) => `${column.text[index]} ${column.detail?.[index] ?? ""}`);
    let made;
    function row() {
      if (!made) {
        made = document.createElement("tr");
        made.append(...columns.map((c) => cell(c.text[index], c.detail?.[index], c.key?.[index])));
      }
      return made;
    }
    return { keys, text: plain(texts.join(" ")), row };
  }

  // Numbers by value, texts naturally; empty cells stay last in both directions.
  function order(a, b, numeric, sign) {
    if (a === "" || b === "") return (a === "") - (b === "");
    return sign * (numeric ? Number(a) - Number(b) : compare(a, b));
  }

  function manage(table, toolbar) {
    const body = table.tBodies[0];
    const filter = toolbar.querySelector(".filter");
    const count = toolbar.querySelector(".count");
    const more = toolbar.querySelector(".more");
    let limit = more ? body.rows.length : MOST;
    let rows; // all of the table, in the order of the last sort, from the first time that they are needed

    async function load() {
      const found = [...body.rows].map(written);
      if (table.dataset.more) {
        const columns = JSON.parse(await unpack(table.dataset.more));
        columns[0].text.forEach((_, index) => found.push(packed(columns, index)));
      }
      return found;
    }

    async function show(change) {
      rows ??= load();
      const known = await rows;
      change?.(known);
      const words = filter ? plain(filter.value).split(" ").filter(Boolean) : [];
      const kept = known.filter((row) => words.every((word) => row.text.includes(word)));
      const shown = kept.slice(0, limit);
      body.replaceChildren(...shown.map((row) => row.row()));
      if (more) more.hidden = kept.length <= limit || limit === MOST;
      if (!count) return;
      toolbar.querySelector(".first")?.remove(); // from now on the live count says it
      const of = (n) => n.toLocaleString("en");
      const few = shown.length < kept.length ? `, the first ${of(shown.length)} shown` : "";
      count.textContent = words.length || few ? `${of(kept.length)} of ${of(known.length)} rows${few}` : "";
    }

    function sort(header) {
      const numeric = header.classList.contains("num");
      const sign = header.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      for (const other of table.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
      header.setAttribute("aria-sort", sign < 0 ? "descending" : "ascending");
      const index = header.cellIndex;
      show((known) => known.sort((a, b) => order(a.keys[index], b.keys[index], numeric, sign)));
    }

    for (const header of table.tHead.rows[0].cells) header.firstChild.addEventListener("click", () => sort(header));
    if (filter) {
      filter.hidden = false;
      filter.addEventListener("input", () => show());
    }
    if (more) {
      more.hidden = false;
      more.addEventListener("click", () => {
        limit = MOST;
        show();
        (filter ?? table.parentElement).focus(); // the button goes away under the reader's finger
      });
    }
  }

  async function download(button) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([await unpack(button.dataset.csv)], { type: "text/csv" }));
    link.download = button.dataset.file;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  for (const table of document.querySelectorAll("table.data-grid")) {
    // A part of the rows alone must not be sorted or searched as if it were all of them.
    if (unpacks || !table.dataset.more) manage(table, table.parentElement.previousElementSibling);
  }
  for (const button of unpacks ? document.querySelectorAll("button.csv") : []) {
    button.hidden = false;
    button.addEventListener("click", () => download(button));
  }
})();
