"use strict";
// What is looked at is in the fragment: #TASK/VIEW?run=…&set=…&row=CORPUS/ID. Every text of the data is set as text.

const FIGURES = JSON.parse(document.getElementById("figures").textContent);
const PAGE_ROWS = 50;
const LONGEST_SHOWN = 1500; // characters of a text, until "all of it" is asked for
const FEW_ROWS = 20;
const unpacked = new Map();

function make(tag, properties, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (name.startsWith("--")) element.style.setProperty(name, value);
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child != null));
  return element;
}

const written = (number, digits = 3) => (number == null ? "" : number.toFixed(digits));
const signed = (number) => (number < 0 ? "−" : "+") + Math.abs(number).toFixed(3);
const counted = (number) => number.toLocaleString("en");
const colour = (runs, label) => `var(--run-${runs.findIndex((run) => run.label === label) % 8})`;

function rowsOf(task) {
  if (!unpacked.has(task)) unpacked.set(task, unpack(task));
  return unpacked.get(task);
}

async function unpack(task) {
  const packed = [...document.querySelectorAll("script[data-task]")].find((each) => each.dataset.task === task);
  const bytes = Uint8Array.from(atob(packed.textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const found = JSON.parse(await new Response(stream).text());
  found.rows.forEach((row, place) => {
    row.place = place;
    row.words = [row.id, row.input, row.reference, ...(row.steps ?? [])].join("\n").toLowerCase();
    row.length = [...row.input].length;
  });
  return found;
}

// The place in the page

function place() {
  const [path, query] = decodeFragment();
  const [name, view] = path.split("/");
  const about = FIGURES.tasks.find((each) => each.task === name) ?? FIGURES.tasks[0];
  return { about, view: view === "rows" ? "rows" : "chain", query };
}

function decodeFragment() {
  const [path, ...rest] = location.hash.slice(1).split("?");
  return [path, new URLSearchParams(rest.join("?"))];
}

function link(task, view, query = {}) {
  const given = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== "" && value != null));
  return `#${task}/${view}${given.size ? `?${given}` : ""}`;
}

function changed(changes) {
  const { about, query } = place();
  const given = { ...Object.fromEntries(query), ...changes };
  history.replaceState(null, "", link(about.task, "rows", given));
}

async function draw() {
  const { about, view, query } = place();
  document.title = `${about.task} · Tsugiki`;
  drawTop(about.task);
  const main = document.getElementById("main");
  const head = [
    make("h1", {}, about.task),
    make("p", { class: "lead" }, about.measure),
    make("nav", { class: "views", "aria-label": "Views" }, ["chain", "rows"].map((each) =>
      make("a", { href: link(about.task, each), "aria-current": each === view ? "page" : null }, each === "chain" ? "The chain" : "Rows"))),
  ];
  if (view === "chain") main.replaceChildren(...head, ...chainView(about));
  else main.replaceChildren(...head, ...(await rowsView(about, query)));
}

function drawTop(task) {
  const tasks = FIGURES.tasks.map((each) =>
    make("a", { href: link(each.task, "chain"), "aria-current": each.task === task ? "page" : null }, each.task));
  document.getElementById("top").replaceChildren(make("div", { class: "bar" },
    make("span", { class: "brand" }, "Tsugiki 接ぎ木"),
    make("nav", { "aria-label": "Tasks" }, tasks),
    make("button", { class: "plain", onclick: openHelp, "aria-label": "Keys" }, "?")));
}

// The chain

function chainView(about) {
  const said = FIGURES.said.length ? [make("ul", { class: "said" }, FIGURES.said.map((line) => make("li", {}, line)))] : [];
  return [...said, chain(about), matrix(about), categories(about), curves(about), lineage(about)];
}

function section(title, note, ...children) {
  return make("section", {}, make("h2", {}, title), note ? make("p", { class: "note" }, note) : null, ...children);
}

function chain(about) {
  const runs = about.runs;
  const most = Math.max(1, ...runs.flatMap((run) => (run.lineage.corpora ?? []).map((corpus) => (corpus.rows ?? 0) * corpus.share)));
  const body = runs.map((run) => make("tr", { "--colour": colour(runs, run.label) },
    make("th", { scope: "row" }, make("span", { class: "swatch" }), run.label),
    make("td", { class: "number score" }, written(run.score)),
    make("td", { class: "plot" }, run.score == null ? make("span", { class: "quiet" }, "not compared yet") : track([run], run)),
    make("td", { class: "data" }, madeOf(run, most)),
    make("td", { class: "against" }, verdict(run))));
  return section("Which data made which model", `Score with its 95 % interval on all ${counted(Math.max(0, ...runs.map((run) => run.n ?? 0)))} held-out rows; bars are the training rows of an epoch.`,
    make("div", { class: "scroll" }, make("table", { class: "chain" },
      make("thead", {}, make("tr", {}, ["run", "score", "", "trained on", "against its parent"].map((name, at) =>
        at === 2 ? make("th", { scope: "col" }, make("span", { class: "axis" }, make("span", {}, "0"), make("span", {}, "1"))) : make("th", { scope: "col", class: at === 1 ? "number" : null }, name)))),
      make("tbody", {}, body))),
    make("p", { class: "key" }, make("span", {}, make("i", { class: "mark" }), "the untuned base"), make("span", {}, make("i", { class: "mark baseline" }), "a simple baseline")));
}

function track(points, beside) {
  const percent = (value) => `${100 * Math.min(1, Math.max(0, value))}%`;
  const marks = points.flatMap((point) => [
    point.low == null ? null : make("i", { class: "interval", "--at": percent(point.low), "--wide": percent(point.high - point.low) }),
    make("i", { class: "dot", "--at": percent(point.score) }),
  ]);
  for (const name of ["base", "baseline"])
    if (beside?.[name] != null) marks.unshift(make("i", { class: name === "base" ? "mark" : "mark baseline", "--at": percent(beside[name]) }));
  const said = points.map((point) => (point.low == null ? written(point.score) : `${written(point.score)}, ${written(point.low)} to ${written(point.high)}`)).join("; ");
  const more = ["base", "baseline"].filter((name) => beside?.[name] != null).map((name) => `${name} ${written(beside[name])}`);
  return make("span", { class: "track", role: "img", "aria-label": [said, ...more].join("; "), title: [said, ...more].join("; ") }, marks);
}

function madeOf(run, most) {
  const corpora = run.lineage.corpora ?? [];
  if (!corpora.length) return make("span", { class: "quiet" }, "not trained here");
  return make("div", { class: "made" },
    corpora.map((corpus, at) => make("div", { class: at ? "corpus mixed" : "corpus" },
      make("span", { class: "fill", "--wide": `${(100 * (corpus.rows ?? 0) * corpus.share) / most}%` }),
      make("span", { class: "small" }, corpus.name, make("span", { class: "quiet" }, ` ${corpus.rows == null ? "" : counted(corpus.rows)}${corpus.share === 1 ? "" : ` × ${corpus.share}`}`)))),
    make("div", { class: "descent" }, run.lineage.line.join(" → ")));
}

function verdict(run) {
  if (!run.parent) return make("span", { class: "quiet" }, "begins a chain");
  const kind = run.verdict === "better" ? "better" : run.verdict === "worse" ? "worse" : "quiet";
  const sign = { better: "▲ ", worse: "▼ " }[kind] ?? "";
  return make("div", {},
    make("span", { class: `verdict ${kind}` }, `${sign}${run.verdict}`), " ", make("span", { class: "number" }, signed(run.difference)),
    make("div", { class: "quiet small" }, `${signed(run.difference_low)} to ${signed(run.difference_high)}, than ${run.parent}`));
}

function matrix(about) {
  const sets = [...new Set(about.runs.flatMap((run) => Object.keys(run.sets)))].sort();
  const body = about.runs.map((run) => make("tr", {}, make("th", { scope: "row" }, run.label), sets.map((set) => {
    const cell = run.sets[set];
    if (!cell) return make("td", {});
    const interval = cell.low == null ? "" : `, ${written(cell.low)} to ${written(cell.high)}`;
    return make("td", {}, make("button", {
      class: "cell", "--warm": `${Math.round(70 * cell.score)}%`, onclick: () => (location.hash = link(about.task, "rows", { run: run.label, set })),
      "aria-label": `${run.label} on ${set}: ${written(cell.score)}${interval}, ${cell.rows} rows; show them`,
    }, written(cell.score), make("small", {}, `${counted(cell.rows)} rows`)));
  })));
  return section("What each run knows, and what it forgot", "Each run on each held-out set. A cell opens its rows.",
    make("div", { class: "scroll" }, make("table", { class: "matrix" },
      make("thead", {}, make("tr", {}, make("td", {}), sets.map((set) => make("th", { scope: "col" }, set)))), make("tbody", {}, body))));
}

function categories(about) {
  const names = [...new Set(about.runs.flatMap((run) => Object.keys(run.categories)))].sort();
  const body = names.map((name) => {
    const rows = Math.max(...about.runs.map((run) => run.categories[name]?.rows ?? 0));
    return make("tr", {},
      make("th", { scope: "row" }, make("button", { class: "figure", onclick: () => (location.hash = link(about.task, "rows", { category: name })) }, name || "(none)")),
      make("td", { class: "number" }, counted(rows), rows < FEW_ROWS ? make("span", { class: "few" }, "few") : null),
      make("td", { class: "lanes" }, about.runs.map((run) => run.categories[name] ? make("div", { "--colour": colour(about.runs, run.label), "data-run": run.label }, track([run.categories[name]])) : null)),
      make("td", { class: "number small" }, about.runs.map((run) => make("div", {}, written(run.categories[name]?.score)))));
  });
  return section("By category", "The task's measure with its 95 % interval, a line for each run: the fewer the rows, the wider.",
    make("p", { class: "key" }, about.runs.map((run) => make("span", { "--colour": colour(about.runs, run.label) }, make("i", { class: "swatch" }), run.label))),
    make("div", { class: "scroll" }, make("table", { class: "categories" },
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "category"), make("th", { scope: "col", class: "number" }, "rows"),
        make("th", { scope: "col" }, make("span", { class: "axis" }, make("span", {}, "0"), make("span", {}, "1"))), make("th", { scope: "col", class: "number" }, "score"))),
      make("tbody", {}, body))));
}

function curves(about) {
  if (!about.curves) return null;
  const figure = make("div", { class: "curves", role: "img", "aria-label": `loss curves of ${about.runs.map((run) => run.label).join(", ")}; the numbers are in the table below` });
  figure.innerHTML = about.curves; // drawn of numbers alone: no word of the data is in it
  const body = about.runs.flatMap((run) => run.losses.filter((point) => point.split === "valid").map((point) =>
    make("tr", {}, make("th", { scope: "row" }, run.label), make("td", { class: "number" }, counted(point.step)), make("td", { class: "number" }, written(point.loss, 4)))));
  return section("How they learned", null, figure,
    make("p", { class: "key" }, about.runs.map((run) => make("span", { "--colour": colour(about.runs, run.label) }, make("i", { class: "swatch" }), run.label)),
      make("span", {}, make("i", { class: "stroke" }), "validation"), make("span", {}, make("i", { class: "stroke dotted" }), "training")),
    make("details", {}, make("summary", {}, "Validation losses as numbers"), make("div", { class: "scroll" }, make("table", {},
      make("thead", {}, make("tr", {}, ["run", "step", "loss"].map((name, at) => make("th", { scope: "col", class: at ? "number" : null }, name)))), make("tbody", {}, body)))));
}

function lineage(about) {
  const cards = about.runs.map((run) => {
    const made = run.lineage;
    const pairs = Object.entries({
      parent: made.parent, base: made.base, steps: made.noted?.steps, "best step": made.noted?.best_step, precision: made.noted?.precision,
      "computed on": made.noted?.computed_on, "took": made.took?.seconds ? `${counted(Math.round(made.took.seconds))} s` : null,
      "memory at most": made.took?.bytes ? `${counted(Math.round(made.took.bytes / 2 ** 20))} MB` : null,
      "tokens a second": made.took?.tokens_per_second ? counted(Math.round(made.took.tokens_per_second)) : null,
      "data (MD5)": made.data_md5,
    }).filter(([, value]) => value != null && value !== "");
    const measures = Object.entries(run.measures).map(([name, value]) => [name.replaceAll("_", " "), written(value)]);
    const differs = (made.differs ?? []).map(([name, before, now]) => make("li", {}, make("code", {}, name), ` ${shown(before)} → ${shown(now)}`));
    return make("article", { class: "card", "--colour": colour(about.runs, run.label) },
      make("h3", {}, make("span", { class: "swatch" }), run.label),
      listing(pairs),
      measures.length ? [make("h4", {}, "Further measures"), listing(measures)] : null,
      differs.length ? [make("h4", {}, "Otherwise than its parent"), make("details", { open: differs.length < 8 }, make("summary", {}, `${differs.length} settings, files of code or packages`), make("ul", {}, differs))] : null);
  });
  return section("What made them", "From lineage.json and what `configure` noted.", make("div", { class: "cards" }, cards));
}

const listing = (pairs) => make("dl", {}, pairs.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, String(value))]));

const shown = (value) => (value === null ? "–" : typeof value === "string" ? value : JSON.stringify(value));

// Rows

const ORDERS = {
  worst: ["worst first", (a, b) => a.score - b.score],
  best: ["best first", (a, b) => b.score - a.score],
  change: ["greatest change first", (a, b) => Math.abs(b.gain) - Math.abs(a.gain)],
  nats: ["costliest first", (a, b) => b.nats - a.nats],
  long: ["longest first", (a, b) => b.row.length - a.row.length],
  short: ["shortest first", (a, b) => a.row.length - b.row.length],
};
const OUTCOMES = {
  all: ["all", () => true],
  wrong: ["not fully right", (each) => each.score < 1],
  better: ["better than the other run", (each) => each.gain > 0],
  worse: ["worse than the other run", (each) => each.gain < 0],
  both: ["not fully right in both", (each) => each.score < 1 && each.before < 1],
};

async function rowsView(about, query) {
  const found = await rowsOf(about.task);
  const labels = about.runs.map((run) => run.label).filter((label) => found.answers[label]);
  if (!labels.length) return [make("p", { class: "empty" }, about.runs.map((run) => run.lacks).find(Boolean) ?? "no rows")];
  const run = labels.includes(query.get("run")) ? query.get("run") : labels.at(-1);
  const parent = about.runs.find((each) => each.label === run).parent;
  const other = labels.includes(query.get("other")) ? query.get("other") : labels.includes(parent) ? parent : "";
  const state = {
    about, found, labels, run, other, page: 0,
    set: query.get("set") ?? "", category: query.get("category") ?? "", outcome: query.get("outcome") ?? "all",
    sort: query.get("sort") ?? "worst", text: query.get("text") ?? "", least: query.get("least") ?? "", most: query.get("most") ?? "",
    ticked: new Set(query.get("show") ? query.get("show").split(",") : [run, other]), linked: query.get("row") ?? "",
  };
  const list = make("div", { id: "list" });
  const refresh = (changes = {}) => {
    Object.assign(state, { page: 0, linked: "" }, changes);
    changed({ run: state.run, other: state.other, set: state.set, category: state.category, outcome: state.outcome === "all" ? "" : state.outcome,
      sort: state.sort === "worst" ? "" : state.sort, text: state.text, least: state.least, most: state.most, show: [...state.ticked].filter(Boolean).join(","), row: "" });
    list.replaceChildren(...listed(state, refresh));
  };
  if (state.linked) {
    const all = chosen(state);
    const at = all.findIndex((each) => key(each.row) === state.linked);
    if (at < 0) Object.assign(state, { set: "", category: "", outcome: "all", text: "", least: "", most: "" });
    state.page = Math.floor(Math.max(0, chosen(state).findIndex((each) => key(each.row) === state.linked)) / PAGE_ROWS);
  }
  list.replaceChildren(...listed(state, refresh));
  if (state.linked) requestAnimationFrame(() => document.querySelector(".row.linked")?.scrollIntoView({ block: "center" }));
  return [filters(state, refresh), list];
}

const key = (row) => `${row.corpus}/${row.id}`;

function choice(id, label, options, value, picked) {
  return make("div", {}, make("label", { for: id }, label),
    make("select", { id, onchange: (event) => picked(event.target.value) }, options.map(([each, name]) => make("option", { value: each, selected: each === value }, name))));
}

function filters(state, refresh) {
  const { found, labels } = state;
  const sets = [...new Set(found.rows.map((row) => row.corpus))].sort();
  const names = [...new Set(found.rows.map((row) => row.category))].sort();
  const length = (id, label) => make("input", { id, type: "number", min: 0, value: state[id], "aria-label": label, placeholder: label, oninput: (event) => refresh({ [id]: event.target.value }) });
  return make("form", { class: "filters", onsubmit: (event) => event.preventDefault() },
    choice("run", "Run", labels.map((label) => [label, label]), state.run, (run) => refresh({ run, ticked: new Set([...state.ticked, run]) })),
    choice("other", "The other run", [["", "none"], ...labels.map((label) => [label, label])], state.other, (other) => refresh({ other, ticked: new Set([...state.ticked, other]) })),
    choice("outcome", "Outcome", Object.entries(OUTCOMES).map(([name, [label]]) => [name, label]), state.outcome, (outcome) => refresh({ outcome })),
    choice("set", "Test set", [["", "all"], ...sets.map((set) => [set, set])], state.set, (set) => refresh({ set })),
    choice("category", "Category", [["", "all"], ...names.map((name) => [name, name])], state.category, (category) => refresh({ category })),
    choice("sort", "Order", Object.entries(ORDERS).map(([name, [label]]) => [name, label]), state.sort, (sort) => refresh({ sort })),
    make("div", {}, make("label", { for: "least" }, "Characters of the input"), make("div", { class: "pair" }, length("least", "from"), length("most", "to"))),
    make("div", { class: "wide" }, make("label", { for: "text" }, "Text"), make("input", { id: "text", type: "search", value: state.text, oninput: (event) => refresh({ text: event.target.value }) })),
    make("fieldset", {}, make("legend", {}, "Answers shown"), labels.map((label) => make("label", {}, make("input", {
      type: "checkbox", checked: state.ticked.has(label), onchange: (event) => {
        if (event.target.checked) state.ticked.add(label); else state.ticked.delete(label);
        refresh();
      } }), label))));
}

function chosen(state) {
  const { found, run, other } = state;
  const text = state.text.toLowerCase();
  const suits = (OUTCOMES[state.outcome] ?? OUTCOMES.all)[1];
  const rows = [];
  for (const row of found.rows) {
    const answer = found.answers[run][row.place];
    if (!answer || (state.set && row.corpus !== state.set) || (state.category && row.category !== state.category)) continue;
    if ((state.least && row.length < state.least) || (state.most && row.length > state.most)) continue;
    if (text && !row.words.includes(text) && !(typeof answer.text === "string" && answer.text.toLowerCase().includes(text))) continue;
    const before = other ? (found.answers[other][row.place]?.score ?? answer.score) : answer.score;
    const each = { row, score: answer.score, before, gain: answer.score - before, nats: answer.nats ?? 0 };
    if (suits(each)) rows.push(each);
  }
  return rows.sort((ORDERS[state.sort] ?? ORDERS.worst)[1]);
}

function listed(state, refresh) {
  const rows = chosen(state);
  const pages = Math.max(1, Math.ceil(rows.length / PAGE_ROWS));
  const turn = (by) => {
    state.page = Math.min(pages - 1, Math.max(0, state.page + by));
    document.getElementById("list").replaceChildren(...listed(state, refresh));
    document.querySelector(".found").scrollIntoView({ block: "start" });
  };
  const part = rows.slice(state.page * PAGE_ROWS, (state.page + 1) * PAGE_ROWS);
  const found = make("div", { class: "found" }, make("output", { "aria-live": "polite" }, `${counted(rows.length)} rows`), make("span", { class: "spread" }),
    make("button", { class: "plain", id: "before", onclick: () => turn(-1), disabled: state.page === 0 }, "← before"),
    make("span", { class: "quiet small" }, `${state.page + 1} of ${pages}`),
    make("button", { class: "plain", id: "after", onclick: () => turn(1), disabled: state.page === pages - 1 }, "after →"));
  return [found, ...(part.length ? part.map((each) => drawnRow(state, each.row)) : [make("p", { class: "empty" }, "No row is like this. Widen the choice above.")])];
}

function drawnRow(state, row) {
  const { about, found } = state;
  const shownRuns = state.labels.filter((label) => state.ticked.has(label) && found.answers[label][row.place]);
  const head = make("header", {},
    make("a", { href: link(about.task, "rows", { run: state.run, other: state.other, show: [...state.ticked].filter(Boolean).join(","), row: key(row) }) }, key(row)),
    make("span", { dir: "auto" }, row.category));
  const texts = make("div", { class: "texts" });
  if (row.input) texts.append(part("Input", longText(row.input)));
  if (row.steps) return make("article", { class: `row ${about.task}${state.linked === key(row) ? " linked" : ""}`, tabindex: "-1" }, head, texts, steps(state, row, shownRuns));
  texts.append(part("Reference", picture(found, "reference", row), longText(row.reference)));
  for (const label of shownRuns) {
    const answer = found.answers[label][row.place];
    const same = answer.text === 0;
    const told = [written(answer.score), answer.nats == null ? null : `${written(answer.nats, 2)} nats a token`].filter(Boolean).join(" · ");
    texts.append(make("section", { "--colour": colour(about.runs, label) },
      make("h3", {}, make("span", { class: "swatch" }), label, make("span", { class: "spread" }), told),
      picture(found, same ? "reference" : label, row),
      same ? make("p", { class: "quiet small" }, "the reference, letter by letter") : answer.text ? marked(row.reference, answer) : make("p", { class: "quiet small" }, "no answer text")));
  }
  return make("article", { class: `row ${about.task}${state.linked === key(row) ? " linked" : ""}`, tabindex: "-1" }, head, texts);
}

const part = (title, ...children) => make("section", {}, make("h3", {}, title), ...children);

function longText(text) {
  const letters = [...text];
  const element = make("p", { class: "text", dir: "auto" }, letters.slice(0, LONGEST_SHOWN).join(""));
  if (letters.length > LONGEST_SHOWN)
    element.append(make("button", { class: "link", onclick: () => element.replaceChildren(text) }, `… all ${counted(letters.length)} characters`));
  return element;
}

function marked(reference, answer) {
  if (!answer.edits?.length) return longText(answer.text);
  const [wanted, made] = [[...reference], [...answer.text]];
  if (wanted.length + made.length > 2 * LONGEST_SHOWN) return longText(answer.text);
  const element = make("p", { class: "text", dir: "auto" });
  let at = 0;
  for (let place = 0; place < answer.edits.length; place += 4) {
    const [from, to, start, end] = answer.edits.slice(place, place + 4);
    element.append(made.slice(at, start).join(""));
    if (to > from) element.append(make("del", {}, wanted.slice(from, to).join("")));
    if (end > start) element.append(make("ins", {}, made.slice(start, end).join("")));
    at = end;
  }
  element.append(made.slice(at).join(""));
  return element;
}

function picture(found, name, row) {
  const number = found.drawn?.[name]?.[row.place];
  if (number == null) return null;
  const bare = found.pictures[number];
  const used = new Set([...bare.matchAll(/#(g[0-9A-F]+)/g)].map((match) => match[1]));
  const glyphs = [...used].map((glyph) => found.glyphs[glyph] ?? "").join("");
  const svg = bare.replace("</svg>", `<defs>${glyphs}</defs></svg>`);
  return make("img", { class: "picture", loading: "lazy", src: `data:image/svg+xml,${encodeURIComponent(svg)}`, alt: `${name === "reference" ? "the reference" : name} as Typst draws it` });
}

function steps(state, row, labels) {
  const { found, about } = state;
  const score = (value, label) => {
    if (value == null) return make("td", { class: "number quiet" }, "none");
    const right = label == null ? null : value >= 0.5 === label >= 0.5;
    return make("td", { class: "number" }, make("span", { class: "step", "--side": value >= 0.5 ? "var(--only-answer)" : "var(--only-reference)", "--sure": `${Math.round(200 * Math.abs(value - 0.5))}%` },
      right == null ? "" : right ? "✓ " : "✗ ", written(value, 2)));
  };
  return make("div", { class: "scroll" }, make("table", { class: "steps" },
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "step"), make("th", { scope: "col", class: "number" }, "label"), labels.map((label) => make("th", { scope: "col", class: "number", "--colour": colour(about.runs, label) }, make("span", { class: "swatch" }), `${label} ${written(found.answers[label][row.place].score)}`)))),
    make("tbody", {}, row.steps.map((step, at) => make("tr", {}, make("td", { dir: "auto", class: "text" }, step), make("td", { class: "number" }, row.labels[at] == null ? "–" : written(row.labels[at], 2)),
      labels.map((label) => score(found.answers[label][row.place].steps?.[at], row.labels[at])))))));
}

// Keys

const KEYS = [["1 … 9", "a task"], ["o", "the chain"], ["r", "rows"], ["/", "search in rows"], ["j k", "the next row, the one before"], ["n p", "the next page, the one before"], ["?", "this list"]];

function openHelp() {
  const dialog = document.getElementById("help");
  dialog.replaceChildren(make("h2", { id: "help-title" }, "Keys"),
    make("dl", {}, KEYS.flatMap(([keys, does]) => [make("dt", {}, make("kbd", {}, keys)), make("dd", {}, does)])),
    make("p", { class: "note" }, "A row's link can be shared: it opens this file at that row. In an answer, what the reference has besides is struck out, and what it has not is underlined."),
    make("form", { method: "dialog" }, make("button", { class: "plain" }, "Close")));
  dialog.showModal();
}

function step(by) {
  const rows = [...document.querySelectorAll(".row")];
  const at = rows.indexOf(document.activeElement?.closest?.(".row"));
  const next = rows[Math.min(rows.length - 1, Math.max(0, at + by))];
  next?.focus({ preventScroll: true });
  next?.scrollIntoView({ block: "start" });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input:not([type=checkbox]), select") || document.getElementById("help").open) return;
  const { about } = place();
  const does = {
    o: () => (location.hash = link(about.task, "chain")), r: () => (location.hash = link(about.task, "rows")),
    "/": () => document.getElementById("text")?.focus(), "?": openHelp, j: () => step(1), k: () => step(-1),
    n: () => document.getElementById("after")?.click(), p: () => document.getElementById("before")?.click(),
  }[event.key] ?? (FIGURES.tasks[event.key - 1] && (() => (location.hash = link(FIGURES.tasks[event.key - 1].task, "chain"))));
  if (!does) return;
  event.preventDefault();
  does();
});

addEventListener("hashchange", draw);
draw();
