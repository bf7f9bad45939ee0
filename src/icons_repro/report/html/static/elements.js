// Building the page from data: text goes in as text, never as markup.
"use strict";

const byId = (id) => document.getElementById(id);

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== ""));
  return node;
}

function dataOf(id) {
  const node = byId(id);
  return node ? JSON.parse(node.textContent) : null;
}

const percent = (share) => `${(100 * share).toFixed(0)}%`;
const grouped = (number) => number.toLocaleString("en-US");

function options(select, entries) {
  select.replaceChildren(...entries.map(([value, text]) => element("option", { value }, text)));
}

// Copies to the clipboard where the browser lets a file do so; the text stays selectable anyway.
function copyButton(text) {
  const button = element("button", { type: "button", class: "copy" }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Select it by hand";
    }
  });
  return button;
}
