// What is looked at is in the fragment: #TASK/VIEW?run=…&set=…&row=CORPUS/ID.

const FIGURES = JSON.parse(document.getElementById("figures").textContent);

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

/** Of a query what is null is left out; an empty category is one that rows can have, an empty other run is none. */
function link(task, view, query = {}) {
  const kept = Object.entries(query).filter(([name, value]) => value != null && (value !== "" || name === "category" || name === "other"));
  const given = new URLSearchParams(kept);
  return `#${task}/${view}${given.size ? `?${given}` : ""}`;
}

function changed(changes) {
  const { about, query } = place();
  const given = { ...Object.fromEntries(query), ...changes };
  history.replaceState(null, "", link(about.task, "rows", given));
}

async function draw() {
  const asked = location.hash;
  const { about, view, query } = place();
  const content = view === "chain" ? chainView(about) : await rowsView(about, query);
  if (location.hash !== asked) return; // another place was asked for while the rows were unpacked
  document.title = `${about.task} · Tsugiki`;
  drawTop(about.task);
  document.getElementById("main").replaceChildren(
    make("h1", {}, about.task),
    make("p", { class: "lead" }, about.measure),
    make("nav", { class: "views", "aria-label": "Views" }, ["chain", "rows"].map((each) =>
      make("a", { href: link(about.task, each), "aria-current": each === view ? "page" : null }, each === "chain" ? "The chain" : "Rows"))),
    ...content);
}

function drawTop(task) {
  const tasks = FIGURES.tasks.map((each) =>
    make("a", { href: link(each.task, "chain"), "aria-current": each.task === task ? "page" : null }, each.task));
  document.getElementById("top").replaceChildren(make("div", { class: "bar" },
    make("span", { class: "brand" }, "Tsugiki 接ぎ木"),
    make("nav", { "aria-label": "Tasks" }, tasks),
    make("button", { class: "plain", onclick: openHelp, "aria-label": "Keys" }, "?")));
}

// Keys

const KEYS = [["[ ]", "the task before, the next one"], ["o", "the chain"], ["r", "rows"], ["/", "search in rows; Esc leaves it"], ["j k", "the next row, the one before"], ["n p", "the next page, the one before"], ["1 … 9", "show or hide a run's answers"], ["?", "this list"]];

function openHelp() {
  const dialog = document.getElementById("help");
  dialog.replaceChildren(make("h2", { id: "help-title" }, "Keys"),
    make("dl", {}, KEYS.flatMap(([keys, does]) => [make("dt", {}, keys.split(" ").map((key) => (key === "…" ? "… " : [make("kbd", {}, key), " "]))), make("dd", {}, does)])),
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

function turnTask(by) {
  const { tasks } = FIGURES;
  location.hash = link(tasks[(tasks.indexOf(place().about) + by + tasks.length) % tasks.length].task, "chain");
}

const press = (id) => document.getElementById(id)?.click();
const ACTIONS = {
  o: () => (location.hash = link(place().about.task, "chain")), r: () => (location.hash = link(place().about.task, "rows")),
  "/": () => document.getElementById("text")?.focus(), "?": openHelp, j: () => step(1), k: () => step(-1),
  n: () => press("after"), p: () => press("before"), "[": () => turnTask(-1), "]": () => turnTask(1),
};

document.addEventListener("keydown", (event) => {
  const writes = event.target.matches("input:not([type=checkbox]), select");
  if (writes && event.key === "Escape") event.target.blur();
  if (writes || event.ctrlKey || event.metaKey || event.altKey || document.getElementById("help").open) return;
  const box = /^[1-9]$/.test(event.key) && document.querySelectorAll("input[name=show]")[event.key - 1];
  const does = box ? () => box.click() : ACTIONS[event.key];
  if (!does) return;
  event.preventDefault();
  does();
});

addEventListener("hashchange", () => draw().then(() => new URLSearchParams(location.hash.split("?")[1]).has("row") || scrollTo(0, 0)));
draw();
