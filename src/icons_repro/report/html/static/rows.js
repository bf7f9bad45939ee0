// The browser of rows. Columns of "rows-data" are arrays over the rows that are shown.
"use strict";

(function rowsBrowser() {
  const data = dataOf("rows-data");
  if (!data) return;
  const CHOSEN = 1, CONTESTED = 2, STARVED = 4;
  const n = data.key.length, tasks = data.tasks, T = tasks.length;
  const sheets = new PictureSheets(data.pictures);
  const plain = (text) => text.replaceAll("<image>", "").trim();
  const ask = (i) => plain(data.turns[i][0] ?? "");
  const answer = (i) => plain(data.turns[i][1] ?? "");
  const rank = (i, t) => data.ranks[i * T + t]; // thousandths, null where the row has none
  const has = (i, bit) => (data.flags[i] & bit) !== 0;
  const marked = (masks, i, t) => t < 30 && (masks[i] & (1 << t)) !== 0; // later tasks have no bit

  let texts = null; // what a search looks through, made at the first search
  function haystack() {
    texts ??= data.turns.map((turns, i) =>
      [...turns, data.sources[data.source[i]], data.key[i], data.name[i]].join("\n").toLowerCase());
    return texts;
  }

  const STATUSES = {
    all: ["All", () => true],
    chosen: ["Chosen", (i) => has(i, CHOSEN)],
    left: ["Left", (i) => !has(i, CHOSEN)],
    contested: ["Contested", (i) => has(i, CONTESTED)],
    starved: ["Starved", (i) => has(i, STARVED)],
  };

  function methodTest(value) {
    const [kind, number] = value.split(":");
    const bit = 1 << Number(number);
    if (kind === "instead") return (i) => (data.by[i] & bit) !== 0 && !has(i, CHOSEN);
    if (kind === "alone") return (i) => (data.by[i] & bit) === 0 && has(i, CHOSEN);
    if (kind === "both") return (i) => (data.by[i] & bit) !== 0 && has(i, CHOSEN);
    if (kind === "neither") return (i) => (data.by[i] & bit) === 0 && !has(i, CHOSEN);
    return null;
  }

  function taskTest(value) {
    const [kind, number] = value.split(":");
    const t = Number(number);
    if (kind === "voted") return (i) => marked(data.voted, i, t);
    if (kind === "starved") return (i) => has(i, STARVED) && marked(data.owed, i, t);
    return null;
  }

  function sorts() {
    const found = [["position", "Place in the pool", (i) => -data.pos[i]]];
    if (data.order) found.unshift(["order", `Order of ${data.method}`, (i) => -data.order[i]]);
    if (data.votes) found.push(["votes", "Votes", (i) => data.votes[i]]);
    if (data.score) found.push(["score", "Score", (i) => data.score[i]]);
    if (data.mean) found.push(["mean", "Mean rank over tasks", (i) => data.mean[i]]);
    tasks.forEach((task, t) =>
      found.push([`rank:${t}`, `Influence on ${task}`, (i) => rank(i, t)]));
    for (const other of data.beside) {
      for (const what of ["votes", "score"]) {
        if (other[what]) found.push([`${what} of ${other.name}`, `${what[0].toUpperCase()}${what.slice(1)} of ${other.name}`, (i) => other[what][i]]);
      }
    }
    found.push(["source", "Source", (i) => -data.source[i]]);
    found.push(["length", "Length of the text", (i) => data.turns[i].join("").length]);
    return found;
  }

  const status = byId("rows-status");
  for (const [value, [label, test]] of Object.entries(STATUSES)) {
    let count = 0;
    for (let i = 0; i < n; i++) count += test(i);
    const input = element("input", { type: "radio", name: "rows-status", value });
    input.checked = value === "all";
    status.append(element("label", {}, input,
      element("span", {}, `${label} `, element("b", {}, grouped(count)))));
  }
  const counts = data.sources.map(() => 0);
  for (const s of data.source) counts[s] += 1;
  options(byId("rows-source"), [["", "All sources"],
    ...data.sources.map((name, s) => [s, `${name} (${grouped(counts[s])})`])]);
  options(byId("rows-task"), [["", "Any task"],
    ...(data.voted ? tasks.map((task, t) => [`voted:${t}`, `${task} votes for it`]) : []),
    ...tasks.map((task, t) => [`starved:${t}`, `${task} is denied it`])]);
  options(byId("rows-method"), [["", data.others.length ? "Any" : "No other run of this pool"],
    ...data.others.flatMap((name, m) => [
      [`instead:${m}`, `${name} took it instead`], [`alone:${m}`, `${name} left it`],
      [`both:${m}`, `${name} took it, too`], [`neither:${m}`, `neither took it`]])]);
  const orders = sorts();
  options(byId("rows-sort"), orders.map(([value, label]) => [value, label]));
  byId("rows-task").closest("label").hidden = T === 0;
  byId("rows-method").closest("label").hidden = data.others.length === 0;

  let descending = true;
  const direction = byId("rows-direction");
  function sayDirection() {
    direction.textContent = descending ? "↓" : "↑";
    direction.setAttribute("aria-label", descending ? "Best first" : "Best last");
    direction.setAttribute("aria-pressed", String(descending));
  }

  function chips(i) {
    const found = [element("span", { class: has(i, CHOSEN) ? "chip chosen" : "chip left" },
      has(i, CHOSEN) ? "chosen" : "left")];
    if (has(i, CONTESTED)) found.push(element("span", { class: "chip contested" }, "contested"));
    if (has(i, STARVED)) found.push(element("span", { class: "chip starved" }, "starved"));
    return found;
  }

  // One square for each task: the darker, the higher the row ranks there; ringed where it votes.
  function strip(i) {
    if (T === 0) return null;
    const squares = tasks.map((task, t) => {
      const votes = data.voted && marked(data.voted, i, t);
      const square = element("i", { class: votes ? "square voted" : "square" });
      const r = rank(i, t);
      square.style.setProperty("--share", r === null ? 0 : Math.pow(r / 1000, 3).toFixed(2));
      return square;
    });
    const said = data.votes ? `${data.votes[i] ?? "-"} of ${T}` : "";
    return element("span", { class: "strip", "aria-hidden": "true" }, ...squares,
      element("small", {}, said));
  }

  function draw(i) {
    const said = data.votes ? `, ${data.votes[i] ?? "no"} votes` : "";
    return [
      sheets.node(data.image[i], 64, `Picture of row ${data.pos[i]}`),
      element("div", { class: "said" },
        element("span", { class: "line" }, ask(i) || "(no question)"),
        element("b", { class: "line" }, answer(i)),
        element("span", { class: "meta" }, ...chips(i), " ",
          data.sources[data.source[i]], element("span", { class: "unseen" }, said))),
      strip(i) ?? "",
    ];
  }

  function taskTable(i) {
    const body = element("tbody");
    tasks.forEach((task, t) => {
      const r = rank(i, t);
      const bar = element("i", { class: "bar", "aria-hidden": "true" });
      bar.style.setProperty("--share", (r ?? 0) / 1000);
      const votes = data.voted && marked(data.voted, i, t);
      const owed = marked(data.owed, i, t);
      body.append(element("tr", {}, element("th", { scope: "row" }, task),
        element("td", {}, bar, `${r === null ? "-" : (r / 10).toFixed(1)}`),
        element("td", {}, [votes ? "votes" : "", owed ? "denied" : ""].filter(Boolean).join(", "))));
    });
    return element("table", { class: "tasks" },
      element("caption", {}, "Influence, as percentile among all rows"), body);
  }

  function conversation(i) {
    const turns = data.turns[i].map((text, t) => element("p", { class: t % 2 ? "turn gpt" : "turn" },
      element("span", { class: "unseen" }, t % 2 ? "Answer: " : "Question: "), plain(text)));
    if (data.cut[i]) turns.push(element("p", { class: "dim" }, "… the rest is left out"));
    return element("div", { class: "conversation" }, ...turns);
  }

  const detail = byId("rows-detail");
  function show(i) {
    if (i < 0) {
      detail.replaceChildren(element("p", { class: "dim" }, "No row fits."));
      return;
    }
    const command = `python -m icons_repro.explain ${data.run} ${data.key[i]}`;
    const others = data.others.filter((_, m) => (data.by[i] & (1 << m)) !== 0);
    const facts = [["source", data.sources[data.source[i]]], ["place", grouped(data.pos[i])],
      ["picture", data.name[i] + (data.more[i] ? ` and ${data.more[i]} more` : "")],
      ["key", data.key[i]]];
    if (data.order && data.order[i]) {
      facts.unshift(["order", `${grouped(data.order[i])}, cut at ${grouped(data.k)}`]);
    }
    if (data.beside.length) {
      for (const one of [{ ...data, name: data.method }, ...data.beside]) {
        for (const what of ["votes", "score"]) {
          if (one[what]) facts.push([`${what} of ${one.name}`, String(one[what][i] ?? "-")]);
        }
      }
    }
    if (data.others.length) facts.push(["also taken by", others.join(", ") || "none"]);
    const close = element("button", { type: "button", class: "close", "aria-label": "Close" }, "×");
    close.addEventListener("click", closeDetail);
    const page = data.explained[data.key[i]];
    detail.replaceChildren(close,
      element("h3", {}, `Row ${grouped(data.pos[i])} `, ...chips(i)),
      sheets.node(data.image[i], 220, `Picture of row ${data.pos[i]}`),
      conversation(i),
      T ? taskTable(i) : "",
      element("dl", {}, ...facts.filter(([, v]) => v !== "").flatMap(([k, v]) =>
        [element("dt", {}, k), element("dd", {}, v)])),
      element("p", { class: "dim" }, page ? element("a", { href: page }, "Why this row") :
        "Nearest validation rows, and what would have to go:"),
      element("code", { class: "command" }, command), copyButton(command));
  }

  function openDetail() {
    detail.classList.add("open");
    if (getComputedStyle(detail).position === "fixed") detail.focus();
  }

  function closeDetail() {
    detail.classList.remove("open");
    byId("rows-list").focus();
  }

  const list = new LongList(byId("rows-list"), { draw, pick: show, open: openDetail });

  function filter() {
    const search = byId("rows-search").value.trim().toLowerCase();
    const source = byId("rows-source").value;
    const tests = [STATUSES[document.querySelector("[name=rows-status]:checked").value][1],
      taskTest(byId("rows-task").value), methodTest(byId("rows-method").value)];
    if (source !== "") tests.push((i) => data.source[i] === Number(source));
    if (search) {
      const words = search.split(/\s+/), all = haystack();
      tests.push((i) => words.every((word) => all[i].includes(word)));
    }
    const active = tests.filter(Boolean), found = [];
    for (let i = 0; i < n; i++) if (active.every((test) => test(i))) found.push(i);
    const key = orders.find(([value]) => value === byId("rows-sort").value)[2];
    const values = new Float64Array(n);
    for (const i of found) values[i] = key(i) ?? (descending ? -Infinity : Infinity);
    const sign = descending ? -1 : 1;
    found.sort((a, b) => sign * (values[a] - values[b]) || a - b);
    byId("rows-count").textContent = `${grouped(found.length)} of ${grouped(n)} rows`;
    list.show(found);
  }

  direction.addEventListener("click", () => { descending = !descending; sayDirection(); filter(); });
  const tools = byId("rows-browser").querySelector("form");
  tools.addEventListener("submit", (event) => event.preventDefault());
  tools.addEventListener("input", filter);
  detail.addEventListener("keydown", (event) => { if (event.key === "Escape") closeDetail(); });
  byId("rows-browser").hidden = false;
  sayDirection();
  filter();
})();
