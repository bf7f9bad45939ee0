// A list of any length that draws only what is in sight, and pictures cut from sheets.
"use strict";

class PictureSheets {
  // {cell, across, sharp, widths, heights, sheets: [base64 WebP]}: picture i is cell i of its sheet;
  // sharp ones are drawn with a few pixels, and stay so when they are enlarged.
  constructor(data) {
    this.data = data;
    this.urls = new Map();
  }

  url(sheet) {
    if (!this.urls.has(sheet)) {
      const bytes = Uint8Array.from(atob(this.data.sheets[sheet]), (c) => c.charCodeAt(0));
      this.urls.set(sheet, URL.createObjectURL(new Blob([bytes], { type: "image/webp" })));
    }
    return this.urls.get(sheet);
  }

  // Draws picture i (-1: the row has none, -2: it cannot be read, -3: left out) into a square.
  node(i, side, label) {
    const frame = element("div", { class: "picture" });
    frame.style.width = frame.style.height = `${side}px`;
    if (i < 0) {
      const said = { "-1": "text only", "-2": "no picture", "-3": "left out" }[i];
      frame.append(element("span", { class: "nothing" }, said));
      return frame;
    }
    const { cell, across, sharp, widths, heights } = this.data;
    const each = across * across;
    const place = i % each;
    const zoom = side / Math.max(widths[i], heights[i]);
    const image = element("div", { role: "img", "aria-label": label });
    image.style.width = `${widths[i] * zoom}px`;
    image.style.height = `${heights[i] * zoom}px`;
    image.style.backgroundImage = `url(${this.url(Math.floor(i / each))})`;
    image.style.backgroundSize = `${cell * across * zoom}px auto`;
    image.style.backgroundPosition =
      `${-(place % across) * cell * zoom}px ${-Math.floor(place / across) * cell * zoom}px`;
    if (sharp && zoom > 1) image.style.imageRendering = "pixelated";
    frame.append(image);
    return frame;
  }
}

class LongList {
  // `draw(i)` returns the children of entry i; `pick(i)` is told which entry is active.
  constructor(box, { draw, pick, open }) {
    Object.assign(this, { box, draw, pick, open: open || (() => {}) });
    this.entries = [];
    this.active = -1; // place in `entries`
    this.space = element("div", { class: "space", role: "presentation" });
    box.append(this.space);
    box.addEventListener("scroll", () => this.paint(), { passive: true });
    box.addEventListener("keydown", (event) => this.onKey(event));
    box.addEventListener("click", (event) => this.onClick(event));
    new ResizeObserver(() => { this.measure(); this.paint(true); }).observe(box);
    this.measure();
  }

  measure() {
    this.height = parseFloat(getComputedStyle(this.box).getPropertyValue("--entry")) || 88;
  }

  show(entries, active = 0) {
    this.entries = entries;
    this.box.scrollTop = 0;
    this.space.style.height = `${entries.length * this.height}px`;
    this.activate(entries.length ? active : -1, false);
    this.paint(true);
  }

  paint(all = false) {
    this.space.style.height = `${this.entries.length * this.height}px`;
    const from = Math.max(0, Math.floor(this.box.scrollTop / this.height) - 4);
    const seen = Math.ceil(this.box.clientHeight / this.height) + 8;
    const to = Math.min(this.entries.length, from + seen);
    if (!all && from === this.from && to === this.to) return;
    [this.from, this.to] = [from, to];
    const nodes = [];
    for (let place = from; place < to; place++) {
      const node = element("div", {
        class: "entry", role: "option", id: `${this.box.id}-${place}`, "data-place": place,
        "aria-selected": String(place === this.active),
        "aria-setsize": this.entries.length, "aria-posinset": place + 1,
      }, ...this.draw(this.entries[place]));
      node.style.transform = `translateY(${place * this.height}px)`;
      node.style.height = `${this.height}px`;
      nodes.push(node);
    }
    this.space.replaceChildren(...nodes);
    this.mark();
  }

  mark() {
    for (const node of this.space.children) {
      node.setAttribute("aria-selected", String(Number(node.dataset.place) === this.active));
    }
    if (this.active < 0) this.box.removeAttribute("aria-activedescendant");
    else this.box.setAttribute("aria-activedescendant", `${this.box.id}-${this.active}`);
  }

  activate(place, scroll = true) {
    this.active = place;
    if (place >= 0 && scroll) {
      const top = place * this.height;
      const { scrollTop, clientHeight } = this.box;
      if (top < scrollTop) this.box.scrollTop = top;
      else if (top + this.height > scrollTop + clientHeight) {
        this.box.scrollTop = top + this.height - clientHeight;
      }
      this.paint();
    }
    this.mark();
    if (this.pick) this.pick(place >= 0 ? this.entries[place] : -1);
  }

  onKey(event) {
    const page = Math.max(1, Math.floor(this.box.clientHeight / this.height) - 1);
    const last = this.entries.length - 1;
    const moves = {
      ArrowDown: this.active + 1, ArrowUp: this.active - 1, PageDown: this.active + page,
      PageUp: this.active - page, Home: 0, End: last,
    };
    if (event.key === "Enter" && this.active >= 0) this.open(this.entries[this.active]);
    else if (event.key in moves && last >= 0) {
      this.activate(Math.min(last, Math.max(0, moves[event.key])));
    } else return;
    event.preventDefault();
  }

  onClick(event) {
    const node = event.target.closest(".entry");
    if (!node) return;
    this.activate(Number(node.dataset.place));
    this.open(this.entries[this.active]);
  }
}
