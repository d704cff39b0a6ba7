"use strict";
// What pages do beyond being read: their theme, copying, and the table of checkpoints, whose state is the address.
const one = (selector, from = document) => from.querySelector(selector);
const all = (selector, from = document) => [...from.querySelectorAll(selector)];

// --- The theme: the system's, or the one that was asked for; before anything is drawn ---
const kept = {
  get theme() { try { return localStorage.getItem("theme"); } catch { return null; } },
  set theme(name) { try { localStorage.setItem("theme", name); } catch { /* not kept, then */ } },
};
if (kept.theme) document.documentElement.dataset.theme = kept.theme;
const made = (tag, properties) => Object.assign(document.createElement(tag), properties);
document.head.append(made("link", { rel: "icon", href: document.currentScript.src.replace(/[^/]*$/, "icon.svg") }));
// Long names may be broken into lines after each underscore.
const broken = (name) => name.split("_").flatMap((part, i) => (i ? ["_", made("wbr"), part] : [part]));

function startTheme() {
  const root = document.documentElement, system = matchMedia("(prefers-color-scheme: dark)");
  const other = () => ((root.dataset.theme || (system.matches ? "dark" : "light")) === "dark" ? "light" : "dark");
  const show = () => { turn.textContent = other() === "dark" ? "Dark theme" : "Light theme"; };
  const turn = button([], () => { root.dataset.theme = kept.theme = other(); show(); });
  turn.id = "theme";
  system.addEventListener("change", show);
  show();
  one("header").append(turn);
}

// --- Copying ---
async function copy(text) {
  try { await navigator.clipboard.writeText(text); return; } catch { /* an older browser, or not allowed */ }
  const area = made("textarea", { value: text });
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

function button(words, act) {
  const push = made("button", { type: "button" });
  push.append(...words);
  push.addEventListener("click", act);
  return push;
}

function startCopying() {
  for (const code of all("pre.code,.use pre")) {
    const box = made("div", { className: "copy" }), heading = all("h2,h3,dt").filter((each) => each.compareDocumentPosition(code) & 4).pop();
    const does = button("Copy", async () => {
      await copy(code.textContent);
      does.textContent = "Copied";
      setTimeout(() => { does.textContent = "Copy"; }, 1500);
    });
    does.setAttribute("aria-label", `Copy: ${(heading || one("h1")).textContent}`);
    code.replaceWith(box);
    box.append(does, code);
  }
}

// --- Names: the rule of list_models. Wildcards are * ? [seq] [!seq]; a dot is an underscore ---
const escaped = (letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}`;

function inSet(letters) {
  const not = letters[0] === "!";
  let inside = "";
  for (let i = Number(not); i < letters.length; i++) {
    if (letters[i + 1] === "-" && i + 2 < letters.length) {
      if (letters[i] <= letters[i + 2]) inside += `${escaped(letters[i])}-${escaped(letters[i + 2])}`;
      i += 2;
    } else inside += escaped(letters[i]);
  }
  return inside ? `[${not ? "^" : ""}${inside}]` : not ? "[^]" : "[]";
}

function wildcard(pattern) {
  let source = "";
  for (let i = 0; i < pattern.length; i++) {
    const end = pattern[i] === "[" ? pattern.indexOf("]", i + (pattern[i + 1] === "!" ? 3 : 2)) : -1;
    source += end > 0 ? inSet(pattern.slice(i + 1, end)) : { "*": "[^]*", "?": "[^]" }[pattern[i]] || escaped(pattern[i]);
    i = Math.max(i, end);
  }
  return new RegExp(`^${source}$`);
}

// A spelling of one name, as canonical_name reads it: 4.0 and 4/255 are 4, 0.5 is 0_5, dots before the radius are _.
function spelled(stem) {
  const parts = stem.match(/^(.+)(_[a-z0-9]+_eps)(\d+(?:[._]\d+)?)(?:\/255)?$/);
  if (!parts) return stem;
  return parts[1].replaceAll(".", "_") + parts[2] + String(Number(parts[3].replace("_", "."))).replace(".", "_");
}

// The names that any of the patterns in a text is about; without wildcards: a spelling of one, else how names begin.
function matching(names, text) {
  const about = (pattern) => {
    const plain = pattern.replaceAll(".", "_"), stem = pattern.replace(/\.(ckpt|pth|pt|safetensors)$/, "");
    if (/[*?[]/.test(pattern)) return names.filter(({ name }) => wildcard(plain).test(name));
    const exact = names.filter(({ name, also }) => [stem, spelled(stem)].some((is) => name === is || also.includes(is)));
    return exact.length ? exact : names.filter(({ name }) => name.startsWith(plain));
  };
  const patterns = text.toLowerCase().split(/[\s,]+/).filter(Boolean);
  return new Set(patterns.length ? patterns.flatMap(about) : names);
}

// --- The table: form and marks -> the address -> what is shown ---
function startTable() {
  const table = one("#checkpoints"), form = one("#filters"), body = table.tBodies[0], bar = one("#picked");
  const keys = table.dataset.facts.split(" ");
  const lines = [...body.rows].map((row, place) => {
    const values = row.dataset.is.split("|"), is = Object.fromEntries(keys.map((key, at) => [key, values[at]]));
    return { row, place, is, name: row.id = one("a", row).textContent, also: row.dataset.also?.split(" ") || [] };
  });
  const heads = all("th[data-sort]", table), fields = [...form.elements].filter((field) => field.name);
  const facets = fields.filter((field) => field.tagName === "SELECT" && field.name !== "sort");
  const picks = () => lines.filter((line) => line.pick.checked).map((line) => line.name);

  function read() {
    const asked = new URLSearchParams(location.hash.slice(1)), compared = (asked.get("compare") || "").split(",");
    for (const field of fields) {
      field.value = asked.get(field.name) || "";
      if (field.selectedIndex < 0) field.value = "";  // no such choice
    }
    for (const line of lines) line.pick.checked = compared.includes(line.name);
    show();
  }

  function write() {
    const said = new URLSearchParams(fields.filter((field) => field.value).map((field) => [field.name, field.value]));
    if (picks().length) said.set("compare", picks());
    const text = String(said).replaceAll("%2C", ",").replaceAll("%2F", "/");
    history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
    show();
  }

  function show() {
    const named = matching(lines, form.q.value);
    const suits = ({ is }) => facets.every(({ name, value, dataset }) => {
      return !value || ("most" in dataset ? Number(is[name]) <= Number(value) : is[name] === value);
    });
    for (const line of lines) line.row.hidden = !named.has(line) || !suits(line);
    const count = lines.filter((line) => !line.row.hidden).length, chosen = picks();
    one("#count").textContent = count === lines.length ? `${count} checkpoints` : `${count} of ${lines.length} checkpoints`;
    one("#none").hidden = count > 0;
    bar.hidden = !chosen.length;
    one("a", bar).href = `compare.html#compare=${chosen}`;
    one("a", bar).textContent = `Compare ${chosen.length}`;
    sort();
  }

  function sort() {
    const [, turned, key] = form.sort.value.match(/(-?)(.*)/);
    const head = heads.find((each) => each.dataset.sort === key) || heads[0];
    const falls = "falls" in head.dataset !== Boolean(turned);
    const worth = ({ is, place }) => (head === heads[0] ? place : Number(is[key] || NaN));
    const order = (a, b) => {
      const x = worth(a), y = worth(b);  // what is not known comes last
      return isNaN(x) - isNaN(y) || (falls ? y - x : x - y) || a.place - b.place;
    };
    body.append(...[...lines].sort(order).map(({ row }) => row));
    const downwards = falls !== "ranks" in head.dataset;  // the first rank is the best
    for (const each of heads) each.setAttribute("aria-sort", each !== head ? "none" : downwards ? "descending" : "ascending");
  }

  for (const head of heads) {
    head.append(button([...head.childNodes], () => {
      const key = head === heads[0] ? "" : head.dataset.sort;
      form.sort.value = form.sort.value === key ? `-${head.dataset.sort}` : key;
      write();
    }));
  }
  table.tHead.rows[0].prepend(made("td", { className: "pick" }));
  for (const line of lines) {
    line.pick = made("input", { type: "checkbox", ariaLabel: `Compare ${line.name}` });
    line.pick.addEventListener("change", write);
    Object.assign(line.row.insertCell(0), { className: "pick" }).append(line.pick);
  }
  const clear = (event) => { event.preventDefault(); for (const field of fields) field.value = ""; write(); };
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", write);
  form.addEventListener("reset", clear);
  one("#none button").addEventListener("click", clear);
  one("button", bar).addEventListener("click", () => { for (const line of lines) line.pick.checked = false; write(); });
  addEventListener("hashchange", () => { if (!location.hash || location.hash.includes("=")) read(); });
  one("details", form).open = innerWidth > 864;  // on a phone the table comes first
  form.hidden = false;
  read();
}

document.addEventListener("DOMContentLoaded", () => {
  for (const name of all("h1, th, th a")) if (!name.children.length) name.replaceChildren(...broken(name.textContent));
  for (const start of [startTheme, startCopying, ...(one("#checkpoints") ? [startTable] : [])]) start();
});
