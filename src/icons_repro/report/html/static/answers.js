// The browser of answers. Columns of "answers-data" are arrays over the questions that are shown.
"use strict";

(function answersBrowser() {
  const data = dataOf("answers-data");
  if (!data) return;
  const sheets = new PictureSheets(data.pictures);
  const n = data.question.length, M = data.models.length;
  const given = (i, m) => data.given[i * M + m];
  const right = (i, m) => data.right[i * M + m]; // 1, 0, or null: not known

  function changes() {
    const found = [["", "Any", () => true]];
    for (let m = 1; m < M; m++) {
      const other = data.models[m];
      found.push([`won:${m}`, `${data.models[0]} right, ${other} wrong`,
        (i) => right(i, 0) === 1 && right(i, m) === 0]);
      found.push([`lost:${m}`, `${data.models[0]} wrong, ${other} right`,
        (i) => right(i, 0) === 0 && right(i, m) === 1]);
    }
    found.push(["right", "Right", (i) => right(i, 0) === 1]);
    found.push(["wrong", "Wrong", (i) => right(i, 0) === 0]);
    const every = (i, value) => data.models.every((_, m) => right(i, m) === value);
    found.push(["none", "Nobody is right", (i) => every(i, 0)]);
    found.push(["differ", "Answers differ",
      (i) => data.models.some((_, m) => given(i, m) !== given(i, 0))]);
    return found;
  }

  const benchmarks = byId("answers-benchmark"), kinds = changes();
  options(benchmarks, [["", "All benchmarks"], ...data.benchmarks.map((name, b) => [b, name])]);

  function tally() {
    const chosen = benchmarks.value, before = byId("answers-change").value;
    const within = (i) => chosen === "" || data.benchmark[i] === Number(chosen);
    options(byId("answers-change"), kinds.map(([value, label, test]) => {
      let count = 0;
      for (let i = 0; i < n; i++) count += within(i) && test(i);
      return [value, `${label} (${grouped(count)})`];
    }));
    byId("answers-change").value = before;
  }

  function verdict(i, m) {
    const mark = right(i, m);
    const [kind, sign, said] = mark === 1 ? ["yes", "✓", "right"] :
      mark === 0 ? ["no", "✗", "wrong"] : ["unknown", "–", "not scored one by one"];
    return element("span", { class: `verdict ${kind}` },
      element("span", { class: "who" }, data.models[m]),
      element("i", { "aria-hidden": "true" }, sign), element("span", { class: "unseen" }, said),
      element("span", { class: "given" }, given(i, m) ?? "(no answer)"));
  }

  function draw(i) {
    return [
      sheets.node(data.image[i], 80, `Picture of question ${data.id[i]}`),
      element("div", { class: "said" },
        element("span", { class: "line" }, data.question[i]),
        element("b", { class: "line" }, data.answer[i]),
        element("span", { class: "meta" }, data.benchmarks[data.benchmark[i]])),
      element("div", { class: "verdicts" }, ...data.models.map((_, m) => verdict(i, m))),
    ];
  }

  const list = new LongList(byId("answers-list"), { draw });
  let texts = null;

  function filter() {
    const search = byId("answers-search").value.trim().toLowerCase();
    const tests = [kinds.find(([value]) => value === byId("answers-change").value)[2]];
    if (benchmarks.value !== "") tests.push((i) => data.benchmark[i] === Number(benchmarks.value));
    if (search) {
      texts ??= data.question.map((question, i) => [question, data.answer[i], data.id[i],
        ...data.models.map((_, m) => given(i, m) ?? "")].join("\n").toLowerCase());
      tests.push((i) => texts[i].includes(search));
    }
    const found = [];
    for (let i = 0; i < n; i++) if (tests.every((test) => test(i))) found.push(i);
    byId("answers-count").textContent = `${grouped(found.length)} of ${grouped(n)} questions`;
    list.show(found);
  }

  const tools = byId("answers-browser").querySelector("form");
  tools.addEventListener("submit", (event) => event.preventDefault());
  benchmarks.addEventListener("input", tally);
  tools.addEventListener("input", filter);
  byId("answers-browser").hidden = false;
  tally();
  if (data.start) byId("answers-change").value = data.start;
  filter();
})();
