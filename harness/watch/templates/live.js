"use strict";
// Shows state.json beside this page, every two seconds. Whatever is in it is put into the page as text, never as markup.
const MARKS = { done: "✓", running: "▶", waiting: "·", stopped: "‖", failed: "✗" };
const before = {};

function element(tag, kind, ...children) {
  const found = document.createElement(tag);
  if (kind) found.className = kind;
  found.append(...children.filter((one) => one !== null));
  return found;
}

function drawn(tag, attributes, text) {
  const found = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) found.setAttribute(name, value);
  if (text !== undefined) found.textContent = text;
  return found;
}

function curve({ label, lines }) {
  const points = Object.values(lines).flat();
  const [xs, ys] = [0, 1].map((axis) => points.map((point) => point[axis]));
  const [last, low, high] = [Math.max(...xs), Math.min(...ys), Math.max(...ys)];
  const across = (x) => 40 + (216 * (x - 1)) / Math.max(1, last - 1);
  const up = (y) => 112 - (100 * (y - low)) / (high - low || 1);
  const chart = drawn("svg", { viewBox: "0 0 264 132", role: "img", "aria-label": `${label} by step` });
  for (const value of high > low ? [low, high] : [low]) {
    chart.append(drawn("line", { x1: 40, x2: 256, y1: up(value), y2: up(value), class: "rule" }));
    chart.append(drawn("text", { x: 35, y: up(value) + 3.5, "text-anchor": "end" }, value.toPrecision(2)));
  }
  chart.append(drawn("text", { x: 256, y: 127, "text-anchor": "end" }, `step ${last}`));
  for (const [iteration, line] of Object.entries(lines)) {
    const path = line.map(([x, y]) => `${across(x).toFixed(1)},${up(y).toFixed(1)}`).join(" ");
    chart.append(drawn("polyline", { points: path, class: `bold i${iteration % 4}` }));
  }
  return element("figure", "", element("figcaption", "", label), chart);
}

function question(one) {
  const most = Math.max(1, ...one.votes.map((vote) => vote[1]));
  const votes = element("div", "votes");
  for (const [letter, count] of one.votes) {
    const bar = element("i", letter === one.answer ? "chosen" : "");
    bar.style.width = `${(100 * count) / most}%`;
    const said = letter === one.intuitive ? `${count} ← intuitive` : `${count}`;
    votes.append(element("span", "", letter), element("div", "", bar), element("span", "", said));
  }
  const shown = one.picture ? element("img", "small") : element("div", "none", "no picture");
  if (one.picture) Object.assign(shown, { src: one.picture, alt: "" });
  const tag = element("span", one.kept ? "tag kept" : "tag dropped", one.kept ? "kept" : "dropped");
  const meta = `majority ${one.answer || "none"}, c = ${one.confidence.toFixed(2)}, iteration ${one.iteration} · `;
  const lines = one.text.split(/(?<!\w)(?=[A-D]\))/).map((line) => {
    const found = element("p", "model", line.trim());
    found.dir = "auto";
    return found;
  });
  return element("article", "sample", element("div", "", shown), element("div", "", ...lines, votes, element("p", "meta sans", meta, tag)));
}

function key(iterations) {
  return iterations.flatMap((one) => [element("b", `i${one % 4}`, `iteration ${one}`), " "]);
}

function stage(one) {
  const cells = [MARKS[one.state], one.name, one.time, one.note];
  return element("tr", one.state, ...cells.map((cell) => element("td", "", cell)));
}

// Replaces what `id` holds only where it changed: nothing flickers, and a selection stays.
function fill(id, data, build) {
  const now = JSON.stringify(data);
  if (before[id] === now) return;
  before[id] = now;
  document.getElementById(id).replaceChildren(...build(data));
}

function alarms({ fired, rules, judged }) {
  if (fired.length) return fired.map((one) => element("p", "fired", one));
  return [element("p", "", judged ? `None of ${rules} has fired.` : "They are judged when the first questions are written.")];
}

function show(view) {
  document.title = `${view.title} (${view.state})`;
  fill("title", `· ${view.title}`, (text) => [text]);
  fill("status", view.report ? `${view.status}. The report: ${view.report}` : view.status, (text) => [text]);
  document.querySelector("#bar div").style.width = `${100 * view.share}%`;
  fill("stages", view.stages, (all) => all.map(stage));
  const judged = view.stages.some((one) => one.state === "done" && /write-questions|recycle/.test(one.name));
  fill("alarms", { fired: view.alarms, rules: view.rules, judged }, alarms);
  fill("key", [...new Set(view.curves.flatMap((one) => Object.keys(one.lines)))], key);
  fill("curves", view.curves, (all) => (all.length ? all.map(curve) : ["No training has begun."]));
  fill("questions", view.questions, (all) => (all.length ? all.map(question) : ["None was voted on yet."]));
}

async function follow() {
  let state = "";
  try {
    const view = await (await fetch("state.json", { cache: "no-store" })).json();
    show(view);
    state = view.state;
  } catch {
    fill("status", "The run is no longer watched here; what stands below is the last that was seen.", (text) => [text]);
  }
  if (state !== "finished") setTimeout(follow, 2000);
}

follow();
