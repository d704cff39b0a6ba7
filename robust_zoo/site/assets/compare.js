"use strict";
// compare.html#compare=NAME,NAME: which names is in the address, what is known of them in the page, as site/compare.py wrote it.
(() => {
  const zoo = JSON.parse(document.getElementById("zoo").textContent);
  const known = Object.keys(zoo.rows), letters = "ABCDEF";
  const form = document.getElementById("choose"), names = document.getElementById("names");
  const said = document.getElementById("said"), compared = document.getElementById("compared");
  const svgs = "http://www.w3.org/2000/svg";

  const put = (node, attributes, inside) => {
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...inside);
    return node;
  };
  const el = (tag, attributes = {}, ...inside) => put(document.createElement(tag), attributes, inside);
  const draw = (tag, attributes, ...inside) => put(document.createElementNS(svgs, tag), attributes, inside);
  const broken = (name) => name.split("_").flatMap((part, i) => (i ? ["_", el("wbr"), part] : [part]));
  const letter = (i) => el("b", { class: `letter s${i % 3}` }, letters[i]);

  // As registry/comparison.py: lines of figures of one kind, at threat models at which two or more have some.
  function lines(chosen) {
    const tables = chosen.map((name) => zoo.rows[name][1]);
    const threats = tables.map((table) => new Set(Object.keys(table).map((kind) => zoo.kinds[kind][1])));
    const shared = (under) => under === "" || threats.filter((of) => of.has(under)).length > 1;
    return zoo.kinds.flatMap(([title, under, counted], kind) => {
      const have = chosen.flatMap((name, i) => (kind in tables[i] ? [i] : []));
      if (!have.length || !shared(under)) return [];
      const line = { title, figures: tables.map((table) => table[kind] || null), word: "", pairs: [] };
      if (have.length < 2) line.word = "Alone: no other one here has a figure of this kind.";
      else if (!counted) line.word = "The number of images is not said: chance cannot be judged.";
      else have.forEach((i, at) => have.slice(at + 1).forEach((j) => line.pairs.push(pair(chosen, i, j, kind))));
      return [line];
    });
  }

  function pair(chosen, i, j, kind) {
    const found = zoo.pairs[`${chosen[i]} ${chosen[j]}`]?.[kind];
    if (found) return { i, j, apart: Boolean(found[0]), words: `${found[1]}; ${found[2]}`, p: ` (${found[2]})` };
    const [a, b] = [i, j].map((at) => zoo.rows[chosen[at]][1][kind]);
    const overlap = a[1] === null || b[1] === null || (a[1] <= b[2] && b[1] <= a[2]);
    return { i, j, apart: !overlap, words: `The 95 % intervals that so many images allow ${overlap ? "" : "do not "}overlap`, p: "" };
  }

  function verdict(line) {
    if (line.word) return line.word;
    if (line.pairs.length === 1) return `${line.pairs[0].apart ? "Apart" : "Not apart"}. ${line.pairs[0].words}.`;
    const same = line.pairs.filter((of) => !of.apart).map((of) => `${letters[of.i]} and ${letters[of.j]}${of.p}`);
    return same.length ? `Not told apart: ${same.join(", ")}.` : "All are told apart.";
  }

  function strip(figure, i) {
    const [value, low, high, , measured] = figure;
    const bar = low === null ? [] : [draw("path", { class: "bar", d: `M${low * 2 + 6} 5v8M${low * 2 + 6} 9H${high * 2 + 6}M${high * 2 + 6} 5v8` })];
    const mark = draw("circle", { class: "mark", cx: value * 2 + 6, cy: 9, r: 4 });
    const grid = draw("path", { class: "grid", d: "M6 0v18M56 0v18M106 0v18M156 0v18M206 0v18" });
    const body = draw("g", { class: `s${i % 3}${measured ? "" : " hollow"}` }, ...bar, mark);
    return draw("svg", { class: "chart strip", viewBox: "0 0 212 18", "aria-hidden": "true" }, grid, body);
  }

  function figure(line, chosen) {
    const rows = line.figures.flatMap((of, i) => {
      if (!of) return [];
      const interval = of[4] ? `${of[1].toFixed(1)} to ${of[2].toFixed(1)}` : "reported";
      const name = el("th", { scope: "row" }, letter(i), " ", ...broken(chosen[i]), el("small", {}, zoo.by[of[3]]));
      return [el("tr", {}, name, el("td", { class: "n" }, of[0].toFixed(2), el("small", {}, interval)), el("td", { class: "drawn" }, strip(of, i)))];
    });
    const heads = ["Checkpoint", "Accuracy, %", "0 to 100 %"].map((text, i) => el("th", { scope: "col", class: ["", "n", "drawn"][i] }, text));
    const kind = line.word ? "" : line.pairs.some((of) => !of.apart) ? " same" : " apart";
    return el("section", { class: "kind" }, el("h2", {}, line.title), el("table", {}, el("thead", {}, el("tr", {}, ...heads)), el("tbody", {}, ...rows)), el("p", { class: `verdict${kind}` }, verdict(line)));
  }

  function facts(chosen) {
    const heads = chosen.map((name, i) => {
      const remove = el("button", { type: "button", "aria-label": `Remove ${name}` }, "×");
      remove.addEventListener("click", () => go(chosen.filter((other) => other !== name)));
      return el("th", { scope: "col" }, letter(i), " ", el("a", { href: `model/${name}.html` }, ...broken(name)), " ", remove);
    });
    const rows = zoo.facts.map((fact, at) => {
      const values = chosen.map((name) => zoo.rows[name][0][at]);
      const same = chosen.length > 1 && new Set(values).size === 1;
      return el("tr", same ? { class: "quiet" } : {}, el("th", { scope: "row" }, fact), ...values.map((value) => el("td", {}, value)));
    });
    const table = el("table", { class: "facts" }, el("thead", {}, el("tr", {}, el("td"), ...heads)), el("tbody", {}, ...rows));
    return el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "Facts side by side" }, table);
  }

  const asked = () => (new URLSearchParams(location.hash.slice(1)).get("compare") || "").split(",").filter(Boolean);
  const go = (chosen) => { location.hash = `compare=${chosen.join(",")}`; };

  function show() {
    const wanted = asked(), found = known.filter((name) => wanted.includes(name)), chosen = found.slice(0, zoo.most);
    const unknown = wanted.filter((name) => !known.includes(name));
    const words = unknown.map((name) => `There is no checkpoint ${name}.`);
    if (found.length > chosen.length) words.push(`${zoo.most} of ${found.length} are shown.`);
    if (chosen.length === 1) words.push("Add a second one.");
    said.textContent = words.join(" ");
    compared.hidden = !chosen.length;
    const all = chosen.length > 1 ? lines(chosen) : [], alone = all.filter((line) => line.word);
    const drawn = all.filter((line) => !line.word).map((line) => figure(line, chosen));
    if (chosen.length > 1 && !drawn.length) drawn.push(el("p", {}, "They have no figures that may be compared."));
    const others = el("summary", {}, `Figures that have nothing to be compared with (${alone.length})`);
    const rest = alone.length ? [el("details", {}, others, ...alone.map((line) => figure(line, chosen)))] : [];
    compared.replaceChildren(facts(chosen), ...drawn, ...rest);
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const patterns = names.value.split(/[\s,]+/).filter(Boolean);
    const added = patterns.flatMap((pattern) => {
      const rule = new RegExp(`^${pattern.replace(/[.+^${}()|[\]\\]/g, "\\$&").replace(/\*/g, ".*").replace(/\?/g, ".")}$`);
      const found = known.filter((name) => rule.test(name));
      return found.length ? found : [pattern];
    });
    names.value = "";
    go([...new Set([...asked(), ...added])]);
  });
  document.getElementById("known").append(...known.map((name) => el("option", { value: name })));
  addEventListener("hashchange", show);
  form.hidden = false;
  show();
  window.zooLines = lines; // for tests: the same lines as `robust-zoo compare`
})();
