"use strict";
// Elements, and how numbers and texts are written. Every text of the data is set as text.

const FEW_ROWS = 20;
const LONGEST_LABEL = 80; // characters

/** Attributes, listeners (on…) and style properties (--…) by name; strings among the children stay text. */
function make(tag, properties, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (name.startsWith("--")) element.style.setProperty(name, value);
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child != null && child !== false).map((child) => (child instanceof Node ? child : visible(child))));
  return element;
}

/** A sign in place of each control character (␛ for ESC) and of those that turn the writing round. */
function visible(text) {
  return String(text).replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, (sign) => (sign < " " ? String.fromCharCode(0x2400 + sign.charCodeAt(0)) : sign === "\u007f" ? "␡" : "\ufffd"));
}

const shortened = (text) => (text.length > LONGEST_LABEL ? `${text.slice(0, LONGEST_LABEL)}…` : text || "(none)");
const written = (number, digits = 3) => (number == null ? "" : number.toFixed(digits));
const signed = (number, digits = 3) => (number < 0 ? "−" : "+") + Math.abs(number).toFixed(digits);
const counted = (number) => number.toLocaleString("en");
const percent = (share) => `${(100 * Math.min(1, Math.max(0, share))).toFixed(2)}%`;
const colour = (runs, label) => `var(--run-${Math.max(0, runs.findIndex((run) => run.label === label)) % 8})`;
const swatch = () => make("span", { class: "swatch" });

function duration(seconds) {
  if (seconds < 100) return `${Math.round(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 100 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function section(title, note, ...children) {
  return make("section", {}, make("h2", {}, title), note ? make("p", { class: "note" }, note) : null, children);
}

/** Where a table is wider than the screen it is scrolled alone, by keys too. */
const scrolling = (label, table) => make("div", { class: "scroll", role: "region", "aria-label": label, tabindex: "0" }, table);

/** heads: a word, [a word, its class], or an element. */
function table(kind, heads, body) {
  const cells = heads.map((head) => {
    const [words, of] = Array.isArray(head) ? head : [head, null];
    return make("th", { scope: "col", class: of }, words);
  });
  return make("table", { class: kind }, make("thead", {}, make("tr", {}, cells)), make("tbody", {}, body));
}

/** The tenths around all values, between which their tracks are drawn. */
function scaleOf(values) {
  const known = values.filter((value) => value != null);
  const low = Math.floor(Math.min(1, ...known) * 10 + 1e-9) / 10;
  const high = Math.ceil(Math.max(0, ...known) * 10 - 1e-9) / 10;
  return [low, Math.max(high, low + 0.1)];
}

const axis = ([low, high], write = (value) => written(value, 1)) => make("span", { class: "axis" }, make("span", {}, write(low)), make("span", {}, write(high)));

/** A point with its interval, and marks beside it by their class. */
function track([low, high], point, marks = {}) {
  const at = (value) => percent((value - low) / (high - low));
  const found = Object.entries(marks).filter(([, value]) => value != null);
  const said = [point.low == null ? written(point.score) : `${written(point.score)}, ${written(point.low)} to ${written(point.high)}`, ...found.map(([name, value]) => `${name} ${written(value)}`)].join("; ");
  return make("span", { class: "track", role: "img", "aria-label": said, title: said },
    found.map(([name, value]) => make("i", { class: `mark ${name}`, "--at": at(value) })),
    point.low == null ? null : make("i", { class: "interval", "--at": at(point.low), "--wide": percent((point.high - point.low) / (high - low)) }),
    point.score == null ? null : make("i", { class: "dot", "--at": at(point.score) }));
}

const listing = (pairs) => make("dl", {}, pairs.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, String(value))]));
