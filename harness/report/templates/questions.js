"use strict";
// The question browser: shows the questions of the JSON beside it, filtered, a page at a time, and moves by keys.
// What models wrote is set as text and never as markup. Without this script the page keeps its sample.
(() => {
  const PAGE = 12;
  const get = (id) => document.getElementById(id);
  const data = JSON.parse(get("question-data").textContent);
  const all = data.questions.map((row) => {
    const one = Object.fromEntries(data.fields.map((name, index) => [name, row[index]]));
    one.search = `${one.id} ${one.text} ${one.family}`.toLowerCase();
    return one;
  });
  const [list, part, search] = [get("question-cards"), get("browser").closest("details"), get("question-search")];
  const choices = [...document.querySelectorAll("[data-filter]")];
  const [low, high] = [get("question-low"), get("question-high")];
  let shown = all, page = 0;

  const slot = (card, name) => card.querySelector(`[data-slot="${name}"]`);
  const make = (tag, kind, text) => {
    const made = document.createElement(tag);
    made.className = kind;
    made.textContent = text;
    return made;
  };

  function vote(one, letter, count, most) {
    const row = make("p", letter === one.majority ? "vote chosen" : "vote", "");
    const bar = make("i", "", "");
    bar.style.inlineSize = `${6 * count / most}rem`;
    row.append(make("b", "", letter), bar, make("span", "", count));
    if (letter === one.intuitive) row.append(make("em", "", "\u2190 intuitive"));
    return row;
  }

  function votes(one) {
    if (!one.votes.length) return [];
    const cast = new Map([..."ABCD"].map((letter) => [letter, 0]).concat(one.votes));
    const total = one.votes.reduce((sum, [, count]) => sum + count, 0);
    return [...cast].map(([letter, count]) => vote(one, letter, count, total));
  }

  function draw(one) {
    const card = get("question-card").content.firstElementChild.cloneNode(true);
    const picture = slot(card, "picture");
    if (one.picture === null) picture.replaceWith(make("div", "none sans", picture.dataset.missing));
    else {
      picture.src = data.pictures[one.picture];
      picture.classList.toggle("small", data.small[one.picture]);
    }
    for (const name of ["state", "iteration", "text", "said", "truth", "family", "id"]) slot(card, name).textContent = one[name];
    slot(card, "state").classList.add(one.state);
    slot(card, "truth").classList.add(one.verdict === "right" ? "right" : "wrong");
    slot(card, "votes").append(...votes(one));
    const replies = slot(card, "replies");
    if (!one.replies.length) replies.remove();
    else for (const [index, count] of one.replies) {
      const reply = make("pre", "", `${count} \u00d7 ${data.replies[index]}`);
      reply.dir = "auto";
      replies.append(reply);
    }
    return card;
  }

  function show(to, focus) {
    const pages = Math.max(1, Math.ceil(shown.length / PAGE));
    page = Math.min(Math.max(to, 0), pages - 1);
    list.replaceChildren(...shown.slice(page * PAGE, (page + 1) * PAGE).map(draw));
    get("question-count").textContent =
      `${shown.length.toLocaleString("en")} of ${all.length.toLocaleString("en")} questions \u00b7 page ${page + 1} of ${pages}`;
    get("question-back").disabled = page === 0;
    get("question-on").disabled = page === pages - 1;
    if (focus !== undefined) list.children[focus < 0 ? list.children.length - 1 : focus]?.focus();
  }

  function filter() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const wanted = choices.filter((choice) => choice.value).map((choice) => [choice.dataset.filter, choice.value]);
    const [from, to] = [low.value === "" ? -1 : Number(low.value), high.value === "" ? 2 : Number(high.value)];
    shown = all.filter((one) =>
      wanted.every(([name, value]) => String(one[name]) === value)
      && words.every((word) => one.search.includes(word))
      && (low.value + high.value === "" || (one.confidence !== null && one.confidence > from - 1e-9 && one.confidence < to + 1e-9)));
    show(0);
  }

  function move(step) {
    const now = [...list.children].indexOf(document.activeElement.closest(".sample"));
    const next = now < 0 ? 0 : now + step;
    if (next < 0) { if (page > 0) show(page - 1, -1); }
    else if (next < list.children.length) list.children[next].focus();
    else if ((page + 1) * PAGE < shown.length) show(page + 1, 0);
  }

  const STEPS = { j: 1, ArrowDown: 1, ArrowRight: 1, k: -1, ArrowUp: -1, ArrowLeft: -1 };
  document.addEventListener("keydown", (event) => {
    if (!part.open || event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, pre")) return;
    const arrow = event.key.startsWith("Arrow");
    if (event.key in STEPS && (!arrow || event.target.closest("#question-cards"))) {
      event.preventDefault();
      move(STEPS[event.key]);
    } else if (event.key === "/") {
      event.preventDefault();
      search.focus();
    }
  });

  for (const choice of choices) {
    const values = [...new Set(all.map((one) => String(one[choice.dataset.filter])))].filter(Boolean).sort();
    choice.append(...values.map((value) => new Option(value, value)));
    choice.closest("label").hidden = values.length < 2;
    choice.addEventListener("change", filter);
  }
  for (const field of [search, low, high]) field.addEventListener("input", filter);
  get("question-back").addEventListener("click", () => show(page - 1));
  get("question-on").addEventListener("click", () => show(page + 1));
  get("question-clear").addEventListener("click", () => {
    for (const field of [search, low, high, ...choices]) field.value = "";
    filter();
  });
  part.addEventListener("toggle", () => show(page), { once: true });
  get("question-controls").hidden = false;
  get("question-sample").hidden = true;
})();
