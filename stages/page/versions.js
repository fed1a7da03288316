// What a run's corpus brought beside another's, and which categories that made better

function versions(about) {
  const all = about.runs.flatMap((run) => run.versions.map((version) => brought(about, run, version)));
  if (!all.length) return null;
  const revisions = about.runs.some((run) => run.revision) ? ", or that of the same run in another revision," : "";
  return section("Which data made it better", `What each run's corpus has that its parent's${revisions} has not, and beside it how the score of each category changed, what gained most first: the mean of the held-out rows' own scores, with its 95 % interval.`, all);
}

function brought(about, run, version) {
  const heading = make("h3", {}, swatch(), run.label, make("span", { class: "quiet" }, ` against ${version.against}`));
  const properties = { class: "version", "--colour": colour(about.runs, run.label) };
  if (version.lacks) return make("article", properties, heading, make("p", { class: "note" }, version.lacks));
  const [before, now] = version.sizes;
  const mixed = run.lineage.corpora.slice(1).map((corpus) => `${corpus.name} × ${corpus.share}`).join(", ");
  const arrow = (name, digits) => (before[name] == null || now[name] == null ? null : `${digits == null ? counted(before[name]) : written(before[name], digits)} → ${digits == null ? counted(now[name]) : written(now[name], digits)}`);
  const facts = Object.entries({
    corpus: version.corpora.join(" → "), "mixed in": mixed, rows: arrow("rows"), new: counted(version.added), gone: counted(version.removed), "another answer": counted(version.changed), same: counted(version.same),
    "new ones like a row before": version.near_duplicates == null ? null : counted(version.near_duplicates),
    "characters of an input": arrow("input", 1), "characters of a reference": arrow("reference", 1), "tokens of both": arrow("tokens", 1)
  }).filter(([, value]) => value);
  const most = Math.max(1, ...version.categories.map((each) => Math.max(each.before, each.after)));
  const changes = version.categories.flatMap((each) => [each.change, each.low, each.high]).filter((value) => value != null);
  const [, far] = scaleOf(changes.map(Math.abs));
  const body = version.categories.map((each) => make("tr", {},
    make("th", { scope: "row" }, categoryButton(about, each.name, { run: run.label, other: version.against, sort: "change" })),
    make("td", { class: "rows-of" }, rowsOfBoth(each, most)),
    make("td", { class: "changed" }, each.change == null ? make("span", { class: "quiet small" }, "not tested by both") : changeTrack([-far, far], each)),
    make("td", { class: "number change" }, each.change == null ? null : changeWords(each))));
  return make("article", properties, heading, make("dl", { class: "facts" }, facts.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value)))),
    scrolling(`${version.corpora[1]} against ${version.corpora[0]}, by category`, table("brought", ["category", "rows of the corpus", axis([-far, far], (value) => signed(value, 1)), ["change of the score", "number"]], body)),
    make("p", { class: "key" }, make("span", {}, make("i", { class: "amount before" }), version.corpora[0]), make("span", {}, make("i", { class: "amount" }), version.corpora[1])));
}

/** A category's rows in both versions as bars, and in numbers. */
function rowsOfBoth(each, most) {
  const moved = [["+", each.added], ["−", each.removed], ["~", each.changed]].filter(([, count]) => count).map(([sign, count]) => `${sign}${counted(count)}`).join(" ");
  return make("div", {},
    make("span", { class: each.before ? "amount before" : "amount none", "--wide": percent(each.before / most) }),
    make("span", { class: each.after ? "amount" : "amount none", "--wide": percent(each.after / most) }),
    make("span", { class: "small" }, `${counted(each.before)} → ${counted(each.after)} `, make("span", { class: "quiet" }, moved)));
}

const kindOf = (each) => (each.low > 0 ? "better" : each.high < 0 ? "worse" : "quiet");

function changeTrack(scale, each) {
  const drawn = track(scale, { score: each.change, low: each.low, high: each.high });
  drawn.classList.add("around", kindOf(each));
  return drawn;
}

function changeWords(each) {
  const kind = kindOf(each);
  return [
    make("span", { class: "quiet small" }, `${signed(each.low)} to ${signed(each.high)} `),
    make("span", { class: `verdict ${kind}` }, { better: "▲ ", worse: "▼ ", quiet: "" }[kind], signed(each.change)),
    make("div", { class: "quiet small" }, `${written(each.was)} → ${written(each.now)}, ${counted(each.tested)} rows`, few(each.tested)),
  ];
}
