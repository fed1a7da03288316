// The chain: the figures of a task

function chainView(about) {
  const said = FIGURES.said.length ? [make("ul", { class: "said" }, FIGURES.said.map((line) => make("li", {}, line)))] : [];
  return [...said, chain(about), versions(about), matrix(about), categories(about), curves(about), lineage(about)].filter(Boolean);
}

function chain(about) {
  const runs = about.runs;
  const most = Math.max(1, ...runs.flatMap((run) => (run.lineage.corpora ?? []).map((corpus) => (corpus.rows ?? 0) * corpus.share)));
  const scale = scaleOf(runs.flatMap((run) => [run.score, run.low, run.high, run.base, run.baseline]));
  const body = runs.map((run) => make("tr", { "--colour": colour(runs, run.label) },
    make("th", { scope: "row" }, swatch(), run.label),
    make("td", { class: "number score" }, written(run.score)),
    make("td", { class: "plot" }, run.score == null ? make("span", { class: "quiet" }, `not compared yet: \`dvc repro compare@${about.task}\``) : track(scale, run, { base: run.base, baseline: run.baseline })),
    make("td", { class: "data" }, madeOf(run, most)),
    make("td", { class: "against" }, verdict(run))));
  return section("Which data made which model", `Score with its 95 % interval on all ${counted(Math.max(0, ...runs.map((run) => run.n ?? 0)))} held-out rows; bars are the training rows of an epoch, hatched where another corpus is mixed in.`,
    scrolling("The chain of runs", table("chain", ["run", ["score", "number"], axis(scale), "trained on", "against its parent"], body)),
    make("p", { class: "key" }, make("span", {}, make("i", { class: "mark base" }), "the untuned base"), make("span", {}, make("i", { class: "mark baseline" }), "a simple baseline")));
}

function madeOf(run, most) {
  const corpora = run.lineage.corpora ?? [];
  if (!corpora.length) return make("span", { class: "quiet" }, "not trained here");
  return make("div", { class: "made" },
    corpora.map((corpus, at) => make("div", { class: at ? "corpus mixed" : "corpus" },
      make("span", { class: "fill", "--wide": percent(((corpus.rows ?? 0) * corpus.share) / most) }),
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
  const body = about.runs.filter((run) => Object.keys(run.sets).length).map((run) => make("tr", { "--colour": colour(about.runs, run.label) },
    make("th", { scope: "row" }, swatch(), run.label), sets.map((set) => make("td", {}, run.sets[set] ? cell(about, run, set) : null))));
  return section("What each run knows, and what it forgot", "Each run on each held-out set; ▲ and ▼ where the interval lies above or below the parent's. A cell opens its rows.",
    scrolling("Scores of each run on each test set", table("matrix", ["", ...sets], body)));
}

function cell(about, run, set) {
  const own = run.sets[set];
  const before = about.runs.find((each) => each.label === run.parent)?.sets[set];
  const apart = before?.low != null && own.low != null;
  const [sign, words] = apart && own.low > before.high ? ["▲ ", ", above its parent"] : apart && own.high < before.low ? ["▼ ", ", below its parent"] : ["", ""];
  const interval = own.low == null ? "" : `${written(own.low)} – ${written(own.high)}`;
  return make("button", {
    class: "cell", "--warm": `${Math.round(70 * own.score)}%`, onclick: () => (location.hash = link(about.task, "rows", { run: run.label, set })),
    "aria-label": `${run.label} on ${set}: ${written(own.score)}${interval && `, ${interval}`}${words}, ${own.rows} rows; show them`,
  }, sign, written(own.score), interval ? make("small", {}, interval) : null, make("small", {}, `${counted(own.rows)} rows`));
}

function categories(about) {
  const names = [...new Set(about.runs.flatMap((run) => Object.keys(run.categories)))].sort();
  const scale = scaleOf(about.runs.flatMap((run) => Object.values(run.categories).flatMap((each) => [each.score, each.low, each.high])));
  const body = names.map((name) => {
    const rows = Math.max(...about.runs.map((run) => run.categories[name]?.rows ?? 0));
    return make("tr", {},
      make("th", { scope: "row" }, categoryButton(about, name, {})),
      make("td", { class: "number" }, counted(rows), few(rows)),
      make("td", { class: "lanes" }, about.runs.map((run) => run.categories[name] ? make("div", { "--colour": colour(about.runs, run.label), "data-run": run.label }, track(scale, run.categories[name])) : null)),
      make("td", { class: "number small" }, about.runs.map((run) => make("div", {}, written(run.categories[name]?.score)))));
  });
  return section("By category", "The task's measure with its 95 % interval, a line for each run: the fewer the rows, the wider.", runKey(about),
    scrolling("Scores by category", table("categories", ["category", ["rows", "number"], axis(scale), ["score", "number"]], body)));
}

const few = (rows) => (rows < FEW_ROWS ? make("span", { class: "few" }, "few") : null);
const runKey = (about, ...more) => make("p", { class: "key" }, about.runs.map((run) => make("span", { "--colour": colour(about.runs, run.label) }, make("i", { class: "swatch" }), run.label)), more);

function categoryButton(about, name, query) {
  return make("button", { class: "figure", dir: "auto", onclick: () => (location.hash = link(about.task, "rows", { ...query, category: name })) }, shortened(name));
}

function curves(about) {
  if (!about.curves) return null;
  const figure = make("div", { class: "curves", role: "img", "aria-label": `loss curves of ${about.runs.map((run) => run.label).join(", ")}; the numbers are in the table below` });
  figure.innerHTML = about.curves; // drawn of numbers alone: no word of the data is in it
  const points = () => about.runs.flatMap((run) => run.losses.filter((point) => point.split === "valid").map((point) =>
    make("tr", {}, make("th", { scope: "row" }, run.label), make("td", { class: "number" }, counted(point.step)), make("td", { class: "number" }, written(point.loss, 4)))));
  return section("How they learned", null, scrolling("Loss curves", figure),
    runKey(about, make("span", {}, make("i", { class: "stroke" }), "validation"), make("span", {}, make("i", { class: "stroke dotted" }), "training")),
    opening("Validation losses as numbers", () => scrolling("Validation losses", table("", ["run", ["step", "number"], ["loss", "number"]], points()))));
}

/** Details that are built when they are opened for the first time. */
function opening(summary, build) {
  const details = make("details", { ontoggle: () => details.children.length < 2 && details.append(build()) }, make("summary", {}, summary));
  return details;
}

function lineage(about) {
  const cards = about.runs.map((run) => {
    const made = run.lineage;
    const pairs = Object.entries({
      parent: made.parent, base: made.base, steps: made.noted?.steps, "best step": made.noted?.best_step, precision: made.noted?.precision,
      "computed on": made.noted?.computed_on, "took": made.took?.seconds ? duration(made.took.seconds) : null,
      "memory at most": made.took?.bytes ? `${counted(Math.round(made.took.bytes / 2 ** 20))} MB` : null,
      "tokens a second": made.took?.tokens_per_second ? counted(Math.round(made.took.tokens_per_second)) : null,
      "data (MD5)": made.data_md5,
    }).filter(([, value]) => value != null && value !== "");
    const measures = Object.entries(run.measures).map(([name, value]) => [name.replaceAll("_", " "), written(value)]);
    const differs = (made.differs ?? []).map(([name, before, now]) => make("li", {}, make("code", {}, name), ` ${shown(before)} → ${shown(now)}`));
    return make("article", { class: "card", "--colour": colour(about.runs, run.label) },
      make("h3", {}, swatch(), run.label),
      listing(pairs),
      measures.length ? [make("h4", {}, "Further measures"), listing(measures)] : null,
      differs.length ? [make("h4", {}, "Otherwise than its parent"), make("details", { open: differs.length < 8 }, make("summary", {}, `${differs.length} settings, files of code or packages`), make("ul", {}, differs))] : null);
  });
  return section("What made them", "From lineage.json and what `configure` noted; time and memory are of the last training that this machine's logs tell of.", make("div", { class: "cards" }, cards));
}

const shown = (value) => (value === null ? "–" : typeof value === "string" ? value : JSON.stringify(value));
