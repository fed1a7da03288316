// Rows: what every run made of each

const PAGE_ROWS = 50;
const LONGEST_SHOWN = 1500; // characters of a text, until "all of it" is asked for
const unpacked = new Map();

const ORDERS = {
  worst: ["worst first", (a, b) => a.score - b.score],
  best: ["best first", (a, b) => b.score - a.score],
  change: ["greatest change first", (a, b) => Math.abs(b.gain) - Math.abs(a.gain)],
  nats: ["costliest first", (a, b) => b.nats - a.nats],
  long: ["longest first", (a, b) => b.row.length - a.row.length],
  short: ["shortest first", (a, b) => a.row.length - b.row.length],
};
// right: the score from which a row counts as right, 1 where any answer reaches it.
const OUTCOMES = {
  all: [() => "all", () => true],
  wrong: [(right) => (right < 1 ? "below 0.5" : "not fully right"), (each, right) => each.score < right],
  better: [() => "better than the other run", (each) => each.gain > 0],
  worse: [() => "worse than the other run", (each) => each.gain < 0],
  both: [(right) => (right < 1 ? "below 0.5 in both" : "not fully right in both"), (each, right) => each.score < right && each.before < right],
};

function rowsOf(task) {
  if (!unpacked.has(task)) unpacked.set(task, unpack(task));
  return unpacked.get(task);
}

async function unpack(task) {
  const packed = [...document.querySelectorAll("script[data-task]")].find((each) => each.dataset.task === task);
  const bytes = Uint8Array.from(atob(packed.textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const found = JSON.parse(await new Response(stream).text());
  const answers = Object.values(found.answers);
  found.right = answers.some((of) => of.some((answer) => answer?.score === 1)) ? 1 : 0.5;
  found.rows.forEach((row, place) => {
    row.place = place;
    row.words = [row.id, row.input, row.reference, ...(row.steps ?? []), ...answers.map((of) => of[place]?.text || "")].join("\n").toLowerCase();
    row.length = [...(row.input || row.reference || "")].length;
  });
  return found;
}

async function rowsView(about, query) {
  const found = await rowsOf(about.task);
  const labels = about.runs.map((run) => run.label).filter((label) => found.answers[label]);
  if (!labels.length) return [make("p", { class: "empty" }, about.runs.map((run) => run.lacks).find(Boolean) ?? "no rows")];
  const run = labels.includes(query.get("run")) ? query.get("run") : labels.at(-1);
  const parent = about.runs.find((each) => each.label === run).parent;
  const other = query.has("other") && (query.get("other") === "" || labels.includes(query.get("other"))) ? query.get("other") : labels.includes(parent) ? parent : "";
  const state = {
    about, found, labels, run, other, page: 0,
    set: query.get("set") ?? "", category: query.get("category"), outcome: query.get("outcome") ?? "all",
    sort: query.get("sort") ?? "worst", text: query.get("text") ?? "", least: query.get("least") ?? "", most: query.get("most") ?? "",
    ticked: new Set(query.get("show") ? query.get("show").split(",") : [run, other]), linked: query.get("row") ?? "", lost: false,
  };
  const list = make("div", { id: "list" });
  const refresh = (changes = {}) => {
    Object.assign(state, { page: 0, linked: "", lost: false }, changes);
    changed({ run: state.run, other: state.other, set: state.set, category: state.category, outcome: state.outcome === "all" ? "" : state.outcome,
      sort: state.sort === "worst" ? "" : state.sort, text: state.text, least: state.least, most: state.most, show: [...state.ticked].filter(Boolean).join(","), row: "" });
    list.replaceChildren(...listed(state));
  };
  if (state.linked) {
    const place = () => chosen(state).findIndex((each) => key(each.row) === state.linked);
    if (place() < 0) Object.assign(state, { set: "", category: null, outcome: "all", text: "", least: "", most: "" });
    state.lost = place() < 0;
    state.page = Math.floor(Math.max(0, place()) / PAGE_ROWS);
  }
  list.replaceChildren(...listed(state));
  if (state.linked) requestAnimationFrame(() => {
    const row = document.querySelector(".row.linked");
    row?.focus({ preventScroll: true });
    row?.scrollIntoView({ block: "center" });
  });
  return [filters(state, refresh), list];
}

const key = (row) => `${row.corpus}/${row.id}`;

/** options: [value, name]; what is picked is told as it is, null for all. */
function choice(id, label, options, value, picked) {
  return make("div", {}, make("label", { for: id }, label),
    make("select", { id, onchange: (event) => picked(options[event.target.selectedIndex][0]) }, options.map(([each, name]) => make("option", { value: each ?? "", selected: each === value }, name))));
}

function filters(state, refresh) {
  const { about, found, labels } = state;
  const named = labels.map((label) => [label, label]);
  const counts = (name, all) => {
    const rows = new Map();
    for (const row of found.rows) rows.set(row[name], (rows.get(row[name]) ?? 0) + 1);
    return [[all, "all"], ...[...rows].sort(([a], [b]) => (a < b ? -1 : 1)).map(([value, count]) => [value, `${shortened(value)} (${counted(count)})`])];
  };
  const length = (id, label) => make("input", { id, type: "number", min: 0, value: state[id], "aria-label": `Characters of the input, ${label}`, placeholder: label, oninput: (event) => refresh({ [id]: event.target.value }) });
  return make("form", { class: "filters", role: "search", onsubmit: (event) => event.preventDefault() },
    choice("run", "Run", named, state.run, (run) => pick({ run, other: null, show: "" })),
    choice("other", "The other run", [["", "none"], ...named.filter(([label]) => label !== state.run)], state.other, (other) => pick({ other, show: "" })),
    choice("outcome", "Outcome", Object.entries(OUTCOMES).map(([name, [words]]) => [name, words(found.right)]), state.outcome, (outcome) => refresh({ outcome })),
    choice("set", "Test set", counts("corpus", ""), state.set, (set) => refresh({ set })),
    choice("category", "Category", counts("category", null), state.category, (category) => refresh({ category })),
    choice("sort", "Order", Object.entries(ORDERS).map(([name, [label]]) => [name, label]), state.sort, (sort) => refresh({ sort })),
    make("div", {}, make("span", { class: "label" }, "Characters of the input"), make("div", { class: "pair" }, length("least", "from"), length("most", "to"))),
    make("div", { class: "wide" }, make("label", { for: "text" }, "Text in inputs, references and answers"), make("input", { id: "text", type: "search", value: state.text, oninput: (event) => refresh({ text: event.target.value }) })),
    make("fieldset", {}, make("legend", {}, "Answers shown"), labels.map((label) => make("label", { "--colour": colour(about.runs, label) }, make("input", {
      type: "checkbox", name: "show", checked: state.ticked.has(label), onchange: (event) => {
        if (event.target.checked) state.ticked.add(label); else state.ticked.delete(label);
        refresh();
      } }), swatch(), label))));
}

/** Another run decides what is compared and ticked, so the whole view is drawn again. */
async function pick(changes) {
  const focused = document.activeElement?.id;
  changed({ ...changes, row: "" });
  await draw();
  document.getElementById(focused)?.focus();
}

function chosen(state) {
  const { found, run, other } = state;
  const text = state.text.toLowerCase();
  const suits = (OUTCOMES[state.outcome] ?? OUTCOMES.all)[1];
  const rows = [];
  for (const row of found.rows) {
    const answer = found.answers[run][row.place];
    if (!answer || (state.set && row.corpus !== state.set) || (state.category != null && row.category !== state.category)) continue;
    if ((state.least && row.length < state.least) || (state.most && row.length > state.most)) continue;
    if (text && !row.words.includes(text)) continue;
    const each = { row, score: answer.score, nats: answer.nats ?? 0, ...beside(state, row, answer) };
    if (suits(each, found.right)) rows.push(each);
  }
  return rows.sort((ORDERS[state.sort] ?? ORDERS.worst)[1]);
}

/** The other run's score of a row, and how much more this one has. */
function beside({ found, other }, row, answer) {
  const before = found.answers[other]?.[row.place]?.score ?? answer.score;
  return { before, gain: answer.score - before };
}

function listed(state) {
  const rows = chosen(state);
  const pages = Math.max(1, Math.ceil(rows.length / PAGE_ROWS));
  const turn = (by) => {
    state.page = Math.min(pages - 1, Math.max(0, state.page + by));
    document.getElementById("list").replaceChildren(...listed(state));
    document.querySelector(".found").scrollIntoView({ block: "start" });
    document.querySelector(".row")?.focus({ preventScroll: true });
  };
  const turns = (place) => [
    make("button", { class: "plain", id: `before${place}`, onclick: () => turn(-1), disabled: state.page === 0 }, "← before"),
    make("span", { class: "quiet small" }, `${state.page + 1} of ${pages}`),
    make("button", { class: "plain", id: `after${place}`, onclick: () => turn(1), disabled: state.page === pages - 1 }, "after →")];
  const part = rows.slice(state.page * PAGE_ROWS, (state.page + 1) * PAGE_ROWS);
  const all = state.found.answers[state.run].filter(Boolean).length;
  const found = make("div", { class: "found" }, make("output", { "aria-live": "polite" }, `${counted(rows.length)} of ${counted(all)} rows`), make("span", { class: "spread" }), turns(""));
  const lost = state.lost ? [make("p", { class: "empty" }, `No row ${state.linked} is here; it was of another page, or the test set has changed.`)] : [];
  if (!part.length) return [found, ...lost, make("p", { class: "empty" }, "No row is like this. Widen the choice above.")];
  return [found, ...lost, ...part.map((each) => drawnRow(state, each)), make("div", { class: "turns" }, turns("-below"))];
}

function drawnRow(state, { row, gain }) {
  const { about, found } = state;
  const shownRuns = state.labels.filter((label) => state.ticked.has(label) && found.answers[label][row.place]);
  const head = make("header", {},
    make("a", { href: link(about.task, "rows", { run: state.run, other: state.other, show: [...state.ticked].filter(Boolean).join(","), row: key(row) }), title: "a link to this row" }, key(row)),
    make("span", { dir: "auto" }, shortened(row.category)),
    gain ? make("span", { class: gain > 0 ? "better" : "worse" }, `${gain > 0 ? "▲" : "▼"} ${signed(gain)} against ${state.other}`) : null);
  const texts = make("div", { class: "texts" });
  const whole = (...parts) => make("article", { class: `row ${about.task}${state.linked === key(row) ? " linked" : ""}`, tabindex: "-1" }, head, texts, parts);
  if (row.input) texts.append(part("Input", longText(row.input)));
  if (row.steps) return whole(steps(state, row, shownRuns));
  texts.append(part(row.input ? "Reference" : "Text", picture(found, "reference", row), longText(row.reference)));
  for (const label of shownRuns) {
    const answer = found.answers[label][row.place];
    const same = answer.text === 0;
    const told = [written(answer.score), answer.nats == null ? null : `${written(answer.nats, 2)} nats a token`].filter(Boolean).join(" · ");
    texts.append(make("section", { "--colour": colour(about.runs, label) },
      make("h3", {}, swatch(), label, make("span", { class: "spread" }), told),
      picture(found, same ? "reference" : label, row),
      same ? make("p", { class: "quiet small" }, "the reference, letter by letter") : answer.text ? marked(row.reference, answer) : make("p", { class: "quiet small" }, row.input ? "no answer text" : "not continued")));
  }
  return whole();
}

const part = (title, ...children) => make("section", {}, make("h3", {}, title), ...children);

function longText(text) {
  const letters = [...text];
  const element = make("p", { class: "text", dir: "auto" }, letters.slice(0, LONGEST_SHOWN).join(""));
  if (letters.length > LONGEST_SHOWN)
    element.append(make("button", { class: "link", onclick: () => element.replaceChildren(visible(text)) }, `… all ${counted(letters.length)} characters`));
  return element;
}

function marked(reference, answer) {
  if (!answer.edits?.length) return longText(answer.text);
  const [wanted, made] = [[...reference], [...answer.text]];
  if (wanted.length + made.length > 2 * LONGEST_SHOWN) return longText(answer.text);
  const element = make("p", { class: "text", dir: "auto" });
  const difference = (tag, letters) => make(tag, {}, letters.join("").replaceAll("\n", "⏎\n"));
  let at = 0;
  for (let place = 0; place < answer.edits.length; place += 4) {
    const [from, to, start, end] = answer.edits.slice(place, place + 4);
    element.append(visible(made.slice(at, start).join("")));
    if (to > from) element.append(difference("del", wanted.slice(from, to)));
    if (end > start) element.append(difference("ins", made.slice(start, end)));
    at = end;
  }
  element.append(visible(made.slice(at).join("")));
  return element;
}

/** What a source looks like, as an image in which nothing can run. */
function picture(found, name, row) {
  if (!found.pictures) return null;
  const bare = found.pictures[found.drawn[name]?.[row.place]];
  if (!bare) return make("p", { class: "quiet small" }, "does not compile");
  const used = new Set([...bare.matchAll(/#(g[0-9A-F]+)/g)].map((match) => match[1]));
  const glyphs = [...used].map((glyph) => found.glyphs[glyph] ?? "").join("");
  const svg = bare.replace("</svg>", () => `<defs>${glyphs}</defs></svg>`);
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
  const heads = ["step", ["label", "number"], ...labels.map((label) => [[make("span", { class: "swatch", "--colour": colour(about.runs, label) }), `${label} ${written(found.answers[label][row.place].score)}`], "number"])];
  const body = row.steps.map((step, at) => make("tr", {}, make("td", { dir: "auto", class: "text" }, step), make("td", { class: "number" }, row.labels[at] == null ? "–" : written(row.labels[at], 2)),
    labels.map((label) => score(found.answers[label][row.place].steps?.[at], row.labels[at]))));
  return scrolling(`Steps of ${key(row)} and their scores`, table("steps", heads, body));
}
