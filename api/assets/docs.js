// The API's pages, drawn from /openapi.json.

import { $, el, wireCopy } from "./format.js";
import { Spec } from "./openapi.js";

const page = $("docs").dataset;
const base = page.base || location.origin;

// ---- text

/** The Markdown that doc comments use: paragraphs, lists, `code`, **bold**, [links](…). */
function prose(text) {
  const out = [];
  for (const block of String(text ?? "").trim().split(/\n\s*\n/)) {
    if (!block.trim()) continue;
    const lines = block.split("\n");
    if (lines.every((l) => /^\s*[-*] |^\s{2,}/.test(l))) {
      const items = block.split(/\n(?=\s*[-*] )/).map((l) => el("li", {}, inline(l.replace(/^\s*[-*] /, ""))));
      out.push(el("ul", {}, items));
    } else if (/^```/.test(block)) out.push(el("div", { class: "code" }, el("pre", {}, el("code", {}, block.replace(/^```\w*\n?|```$/g, "")))));
    else if (/^#+ /.test(block)) out.push(el("h3", {}, block.replace(/^#+ /, "")));
    else out.push(el("p", {}, inline(block)));
  }
  return out;
}

function inline(text) {
  return text.replace(/\s*\n\s*/g, " ").split(/(`[^`]+`|\*\*[^*]+\*\*|\[[^\]]+\]\([^)\s]+\))/).map((bit) => {
    if (/^`.+`$/.test(bit)) return el("code", {}, bit.slice(1, -1));
    if (/^\*\*.+\*\*$/.test(bit)) return el("strong", {}, bit.slice(2, -2));
    const link = bit.match(/^\[([^\]]+)\]\(((?:https?:\/\/|\/|#)[^)]*)\)$/);
    return link ? el("a", { href: link[2] }, link[1]) : bit;
  });
}

const pathParts = (path) => path.split(/(\{[^}]+\})/).map((p) => (p.startsWith("{") ? el("i", {}, p) : p));

let copies = 0;
function snippet(text) {
  const id = `copy-${copies += 1}`;
  return el("div", { class: "code" }, el("pre", {}, el("code", { id }, text)), el("button", { class: "copy", type: "button", "data-copy": id }, "Copy"));
}

// ---- schemas

function field(spec, name, raw, required, trail) {
  const node = spec.resolve(raw);
  const limits = spec.limits(node);
  const row = el("div", { class: "f" },
    el("div", { class: "f-head" },
      el("span", { class: "f-name" }, name),
      el("span", { class: "f-type" }, spec.typeName(raw)),
      required && el("span", { class: "f-req" }, "required"),
      limits && el("span", { class: "f-type" }, limits)),
    node.description && el("div", { class: "f-text" }, prose(node.description)));
  const inner = nested(spec, raw, trail);
  if (inner) {
    const more = el("details", {}, el("summary", {}, "Its fields"));
    more.addEventListener("toggle", () => { if (more.open && more.children.length === 1) more.append(...inner()); });
    row.append(more);
  }
  return row;
}

/** A function that draws what is inside, or null if there is nothing or it would go round in circles. */
function nested(spec, raw, trail) {
  let ref = raw?.$ref;
  let node = spec.resolve(raw);
  while (node.type === "array" || (Array.isArray(node.type) && node.type.includes("array"))) { ref = node.items?.$ref; node = spec.resolve(node.items); }
  if (ref && trail.includes(ref)) return null;
  const path = ref ? [...trail, ref] : trail;
  const options = spec.options(node);
  if (options?.length === 1) return nested(spec, options[0], path);
  const drawable = (options ?? []).filter((o) => Object.keys(spec.resolve(o).properties ?? {}).length);
  if (drawable.length) return () => drawable.map((o) => el("div", {}, spec.resolve(o).title && el("p", { class: "f-text" }, spec.resolve(o).title), schema(spec, o, path)));
  if (Object.keys(node.properties ?? {}).length) return () => [schema(spec, node, path)];
  return null;
}

function schema(spec, raw, trail = []) {
  const node = spec.resolve(raw);
  const path = raw?.$ref ? [...trail, raw.$ref] : trail;
  const props = Object.entries(node.properties ?? {});
  if (!props.length) {
    const inner = nested(spec, raw, trail);
    return el("div", {}, el("p", { class: "f-type" }, spec.typeName(raw)), inner ? inner() : null);
  }
  const need = new Set(node.required ?? []);
  props.sort((a, b) => need.has(b[0]) - need.has(a[0]));
  return el("div", { class: "fields" }, props.map(([name, sub]) => field(spec, name, sub, need.has(name), path)));
}

// ---- one operation

function body(spec, op) {
  const out = [];
  if (op.deprecated) out.push(el("p", { class: "notice" }, "Deprecated. It goes on working, new code should not use it."));
  if (op.description) out.push(el("div", { class: "md" }, prose(op.description)));
  const wheres = { path: "In the path", query: "In the query", header: "Headers" };
  for (const [where, title] of Object.entries(wheres)) {
    const list = op.parameters.filter((p) => p.in === where);
    if (list.length) out.push(el("section", {}, el("h3", {}, title), el("div", { class: "fields" }, list.map((p) => field(spec, p.name, { ...spec.resolve(p.schema ?? {}), description: p.description }, p.required, [])))));
  }
  const sent = spec.body(op);
  if (sent) out.push(el("section", {}, el("h3", {}, "Body ", el("span", { class: "quiet" }, sent.type)), schema(spec, sent.schema ?? {})));
  const answers = Object.entries(op.responses ?? {}).map(([code, raw]) => {
    const r = spec.resolve(raw);
    const type = Object.keys(r.content ?? {})[0];
    const shape = type && r.content[type].schema;
    const row = el("div", { class: "answer" }, el("span", { class: "status-code", "data-class": code[0] }, code), el("div", {}, r.description ? inline(r.description) : ""));
    if (shape && type.includes("json")) {
      const more = el("details", {}, el("summary", {}, type));
      more.addEventListener("toggle", () => {
        if (!more.open || more.children.length > 1) return;
        more.append(schema(spec, shape));
        if (code[0] === "2") more.append(el("p", { class: "f-text" }, "For example"), snippet(JSON.stringify(r.content[type].example ?? spec.example(shape), null, 2)));
      });
      row.append(more);
    } else if (type) row.lastChild.append(" ", el("code", {}, type));
    return row;
  });
  if (answers.length) out.push(el("section", {}, el("h3", {}, "Answers"), el("div", { class: "answers" }, answers)));
  out.push(el("section", {}, el("h3", {}, "Try it"), snippet(spec.curl(op, base))));
  out.push(el("a", { class: "perma", href: `#${op.slug}` }, "Link to this"));
  return el("div", { class: "op-body" }, out);
}

function operation(spec, op) {
  const node = el("details", { class: "op", id: op.slug },
    el("summary", {},
      el("span", { class: "verb", "data-verb": op.verb }, op.verb.toUpperCase()),
      el("span", { class: "op-path" }, pathParts(op.path)),
      el("span", { class: "op-sum" }, op.summary ?? "")));
  node.addEventListener("toggle", () => { if (node.open && node.children.length === 1) node.append(body(spec, op)); });
  node.words = [op.verb, op.path, op.summary, op.description, op.operationId, op.tag, ...op.parameters.map((p) => p.name), ...Object.keys(spec.resolve(spec.body(op)?.schema ?? {}).properties ?? {})].join(" ").toLowerCase();
  return node;
}

// ---- the page

function draw(spec) {
  const { info = {} } = spec.doc;
  $("docs-title").textContent = info.title ?? "API";
  $("docs-intro").replaceChildren(...prose(info.description), el("p", { class: "quiet" }, info.version ? `Version ${info.version} · ` : "", el("a", { href: page.openapi }, "openapi.json")));
  const ops = spec.operations();
  for (const tag of spec.tags(ops)) {
    const mine = ops.filter((o) => o.tag === tag.name);
    const id = `tag-${tag.name.replace(/\W+/g, "-")}`;
    $("ops").append(el("section", { class: "tag", "aria-labelledby": id },
      el("h2", { class: "tag-title", id }, title(tag.name)),
      tag.description && el("div", { class: "tag-text md" }, prose(tag.description)),
      mine.map((o) => operation(spec, o))));
    $("toc").append(el("section", {}, el("h2", {}, title(tag.name)), mine.map((o) =>
      el("a", { href: `#${o.slug}`, "data-op": o.slug, title: `${o.verb.toUpperCase()} ${o.path}` },
        el("span", { class: "verb", "data-verb": o.verb }, { delete: "DEL", options: "OPT" }[o.verb] ?? o.verb.toUpperCase()), el("span", {}, o.summary || o.path)))));
  }
}

const title = (name) => name.charAt(0).toUpperCase() + name.slice(1);

function search() {
  const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  let any = false;
  for (const op of document.querySelectorAll(".op")) {
    op.hidden = !words.every((w) => op.words.includes(w));
    any ||= !op.hidden;
    document.querySelector(`.toc a[data-op="${CSS.escape(op.id)}"]`).hidden = op.hidden;
  }
  for (const s of document.querySelectorAll(".tag")) s.hidden = !s.querySelector(".op:not([hidden])");
  for (const s of document.querySelectorAll(".toc section")) s.hidden = !s.querySelector("a:not([hidden])");
  $("nomatch").hidden = any;
}

function goToHash() {
  const slug = decodeURIComponent(location.hash.slice(1));
  for (const a of document.querySelectorAll(".toc a")) a.toggleAttribute("aria-current", a.dataset.op === slug);
  for (const op of document.querySelectorAll(".op[data-target]")) delete op.dataset.target;
  const op = slug && document.getElementById(slug);
  if (!op || !op.classList.contains("op")) return;
  if (op.hidden) { $("search").value = ""; search(); }
  op.open = true;
  op.dataset.target = "true";
  requestAnimationFrame(() => op.scrollIntoView({ block: "start" }));
}

try {
  const answer = await fetch(page.openapi);
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
  draw(new Spec(await answer.json()));
  wireCopy();
  $("search").addEventListener("input", search);
  $("clear").addEventListener("click", () => { $("search").value = ""; search(); $("search").focus(); });
  addEventListener("keydown", (e) => {
    if (e.key === "/" && !e.target.closest("input, textarea") && !e.ctrlKey && !e.metaKey) { e.preventDefault(); $("search").focus(); }
    if (e.key === "Escape" && e.target === $("search")) { $("search").value = ""; search(); }
  });
  addEventListener("hashchange", goToHash);
  goToHash();
} catch (e) {
  $("docs-intro").replaceChildren(el("p", { class: "notice", role: "alert" }, `The description of the API could not be read: ${e.message}. `, el("a", { href: page.openapi }, page.openapi)));
}
document.documentElement.dataset.state = "ready";
