// A chart's marks say their numbers when the pointer is on them; the tables say them to all.
"use strict";

(function hints() {
  const hint = element("div", { class: "hint", "aria-hidden": "true" });
  hint.hidden = true;
  document.body.append(hint);
  const shorter = (text) =>
    text.replace(/(-?\d+\.\d{2})\d+/g, "$1").replace(/; (sign|kind): \w+/g, ""); // colours
  for (const chart of document.querySelectorAll(".chart svg")) {
    chart.addEventListener("pointermove", (event) => {
      const mark = event.target.closest("[aria-label]");
      hint.hidden = !mark || mark === chart || mark.getAttribute("role") === "graphics-object";
      if (hint.hidden) return;
      hint.textContent = shorter(mark.getAttribute("aria-label"));
      hint.style.left = `${Math.min(event.clientX + 14, innerWidth - hint.offsetWidth - 8)}px`;
      hint.style.top = `${event.clientY + 16}px`;
    });
    chart.addEventListener("pointerleave", () => { hint.hidden = true; });
  }
})();
