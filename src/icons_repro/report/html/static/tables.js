// Tables sort by a click, or Enter, on a heading. Numbers sort as numbers: "data-sort" holds them.
"use strict";

function sortKey(row, column) {
  const cell = row.cells[column];
  const given = cell.dataset.sort;
  const text = given === undefined ? cell.textContent.trim() : given;
  const number = Number(text.replace(/[,%×]/g, ""));
  return text !== "" && Number.isFinite(number) ? number : text;
}

function compareKeys(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  if (typeof a === "number") return -1; // what is no number stands last
  if (typeof b === "number") return 1;
  return a.localeCompare(b);
}

function sortTable(table, heading) {
  const ascending = heading.getAttribute("aria-sort") === "descending";
  const numeric = (row) => typeof sortKey(row, heading.cellIndex) === "number";
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const sign = ascending ? 1 : -1;
  rows.sort((a, b) => {
    if (numeric(a) !== numeric(b)) return numeric(a) ? -1 : 1;
    return sign * compareKeys(sortKey(a, heading.cellIndex), sortKey(b, heading.cellIndex));
  });
  for (const other of table.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
  heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  body.append(...rows);
}

for (const table of document.querySelectorAll("table.sortable")) {
  for (const heading of table.tHead.rows[0].cells) {
    heading.querySelector("button").addEventListener("click", () => sortTable(table, heading));
  }
}
