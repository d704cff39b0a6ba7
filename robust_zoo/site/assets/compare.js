"use strict";
// compare.html#compare=NAME,NAME: which names is in the address, what is known of them in the page, by site/compare.py.
const zoo = JSON.parse(one("#zoo").textContent), letters = "ABCDEF";
const places = Object.fromEntries(Object.keys(zoo.rows).map((name, place) => [name, place]));
const known = Object.entries(zoo.rows).map(([name, [, , also]]) => ({ name, also: also.split(" ") }));

function put(node, attributes, inside) {
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...inside);
  return node;
}
const el = (tag, attributes, ...inside) => put(document.createElement(tag), attributes, inside);
const svg = (tag, attributes, ...inside) => put(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, inside);
const letter = (i) => el("b", { class: `letter s${i % 3}` }, letters[i]);

// The lines of registry/comparison.py: of one kind each, at threat models at which two or more have figures.
function comparison(chosen) {
  const tables = chosen.map((name) => zoo.rows[name][1]);
  const threats = tables.map((table) => Object.keys(table).map((kind) => zoo.kinds[kind][1]));
  return zoo.kinds.flatMap(([title, under, counted], kind) => {
    const have = chosen.flatMap((_, i) => (kind in tables[i] ? [i] : []));
    if (!have.length || (under && threats.filter((of) => of.includes(under)).length < 2)) return [];
    const pairs = have.length < 2 || !counted ? [] : have.flatMap((i, at) => have.slice(at + 1).map((j) => pair(chosen, i, j, kind)));
    const word = have.length < 2 ? "Alone: no other one here has a figure of this kind." : counted ? "" : "How many images is not said: chance cannot be judged.";
    return [{ title, figures: tables.map((table) => table[kind] || null), word, pairs }];
  });
}

function pair(chosen, i, j, kind) {
  const counted = zoo.pairs[`${places[chosen[i]]} ${places[chosen[j]]}`]?.[kind];
  const words = counted?.[1].split(" ").reduce((text, number) => text.replace("{}", number), zoo.says);
  if (counted) return { i, j, apart: Boolean(counted[0]), words: `${words}; ${counted[2] || zoo.tiny}.`, p: ` (${counted[2] || zoo.tiny})` };
  const [[, low, high], [, from, to]] = [i, j].map((at) => zoo.rows[chosen[at]][1][kind]);
  const apart = low > to || from > high;
  return { i, j, apart, words: `The 95 % intervals that so many images allow ${apart ? "do not " : ""}overlap.`, p: "" };
}

function verdict({ word, pairs }) {
  if (word) return word;
  if (pairs.length === 1) return `${pairs[0].apart ? "Apart" : "Not apart"}. ${pairs[0].words}`;
  const same = pairs.filter(({ apart }) => !apart).map(({ i, j, p }) => `${letters[i]} and ${letters[j]}${p}`);
  return same.length ? `Not told apart: ${same.join(", ")}.` : "All are told apart.";
}

function strip([value, low, high, , measured], i) {
  const x = (percent) => 2 * percent + 6;
  const bar = low === null ? "" : `M${x(low)} 5v8M${x(low)} 9H${x(high)}M${x(high)} 5v8`;
  const drawn = [svg("path", { class: "bar", d: bar }), svg("circle", { class: "mark", cx: x(value), cy: 9, r: 4 })];
  const grid = svg("path", { class: "grid", d: "M6 0v18M56 0v18M106 0v18M156 0v18M206 0v18" });
  const mark = svg("g", { class: `s${i % 3}${measured ? "" : " hollow"}` }, ...drawn);
  return svg("svg", { class: "chart strip", viewBox: "0 0 212 18", "aria-hidden": "true" }, grid, mark);
}

function section(line, chosen) {
  const sources = new Set(line.figures.filter(Boolean).map(([, , , by]) => by)), common = sources.size === 1 ? [...sources][0] : -1;
  const rows = line.figures.flatMap((figure, i) => {
    if (!figure) return [];
    const [value, low, high, by, measured, bound] = figure;
    const words = el("span", {}, el(measured ? "b" : "i", {}, `${bound ? "≤ " : ""}${value.toFixed(2)}`), el("small", {}, measured ? `${low.toFixed(1)} to ${high.toFixed(1)}` : "reported"));
    const name = el("th", { scope: "row" }, letter(i), " ", ...broken(chosen[i]), ...(by === common ? [] : [el("small", {}, zoo.by[by])]));
    return [el("tr", {}, name, el("td", { class: "n" }, el("div", {}, words, strip(figure, i))))];
  });
  const heads = [el("th", { scope: "col" }, "Checkpoint"), el("th", { scope: "col", class: "n" }, "Accuracy, %, drawn from 0 to 100")];
  const kind = line.word ? "" : line.pairs.every(({ apart }) => apart) ? "apart" : "same", caption = common < 0 ? [] : [el("caption", {}, zoo.by[common])];
  const table = el("table", {}, ...caption, el("thead", {}, el("tr", {}, ...heads)), el("tbody", {}, ...rows));
  return el("section", { class: "kind" }, el("h2", {}, line.title), table, el("p", { class: `verdict ${kind}` }, verdict(line)));
}

function facts(chosen) {
  const heads = chosen.map((name, i) => el("th", { scope: "col" }, letter(i), " ", ...broken(name)));
  const rows = zoo.facts.map((fact, at) => {
    const values = chosen.map((name) => zoo.words[zoo.rows[name][0][at]]), same = values.length > 1 && new Set(values).size < 2;
    return el("tr", { class: same ? "none" : "" }, el("th", { scope: "row" }, fact), ...values.map((value) => el("td", {}, value)));
  });
  const table = el("table", {}, el("thead", {}, el("tr", {}, el("td", {}), ...heads)), el("tbody", {}, ...rows));
  return el("section", {}, el("h2", {}, "Side by side"), el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Side by side" }, table));
}

const asked = () => (new URLSearchParams(location.hash.slice(1)).get("compare") || "").split(",").filter(Boolean);
const go = (names) => { location.hash = `compare=${names}`; };

function showComparison() {
  const wanted = asked(), found = known.map(({ name }) => name).filter((name) => wanted.includes(name)), chosen = found.slice(0, zoo.most);
  const all = chosen.length > 1 ? comparison(chosen) : [], alone = all.filter(({ word }) => word);
  const said = wanted.filter((name) => !found.includes(name)).map((name) => `There is no checkpoint ${name}.`);
  if (found.length > chosen.length) said.push(`${chosen.length} of ${found.length} are shown.`);
  if (chosen.length === 1) said.push("Add a second one.");
  if (chosen.length > 1 && alone.length === all.length) said.push("They have no figures that may be compared.");
  one("#said").textContent = said.join(" ");
  one("#chosen").replaceChildren(...chosen.map((name, i) => {
    const remove = button(["×"], () => go(asked().filter((other) => other !== name)));
    return el("li", {}, letter(i), " ", el("a", { href: `model/${name}.html` }, ...broken(name)), " ", put(remove, { "aria-label": `Remove ${name}` }, []));
  }));
  const sections = all.filter(({ word }) => !word).map((line) => section(line, chosen));
  const count = el("summary", {}, `Figures that have nothing to be compared with: ${alone.length}`);
  if (alone.length) sections.push(el("details", {}, count, ...alone.map((line) => section(line, chosen))));
  one("#compared").replaceChildren(...sections, ...(chosen.length ? [facts(chosen)] : []));
}

one("#choose").addEventListener("submit", (event) => {
  event.preventDefault();
  const patterns = one("#names").value.split(/[\s,]+/).filter(Boolean);
  const names = patterns.flatMap((text) => { const found = [...matching(known, text)]; return found.length ? found.map(({ name }) => name) : [text]; });
  one("#names").value = "";
  go([...new Set([...asked(), ...names])]);
});
one("#known").append(...known.map(({ name }) => el("option", { value: name })));
addEventListener("hashchange", showComparison);
one("#choose").hidden = false;
showComparison();
