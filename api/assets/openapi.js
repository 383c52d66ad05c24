// The parts of OpenAPI 3.1 that a page needs: references, names for types, examples, a curl line. No DOM here.

export class Spec {
  constructor(doc) { this.doc = doc; }

  /** Follows $ref and flattens allOf. */
  resolve(node, depth = 0) {
    if (!node || typeof node !== "object" || depth > 12) return node ?? {};
    if (node.$ref) {
      const found = node.$ref.replace(/^#\//, "").split("/").reduce((o, k) => o?.[decodeURIComponent(k).replace(/~1/g, "/").replace(/~0/g, "~")], this.doc);
      const { $ref, ...beside } = node;
      return { ...this.resolve(found, depth + 1), ...beside };
    }
    if (Array.isArray(node.allOf)) {
      const { allOf, ...own } = node;
      const parts = [...allOf.map((p) => this.resolve(p, depth + 1)), own];
      return Object.assign({}, ...parts, {
        properties: Object.assign({}, ...parts.map((p) => p.properties ?? {})),
        required: parts.flatMap((p) => p.required ?? []),
      });
    }
    return node;
  }

  /** Alternatives without null, and whether null was among them. */
  options(node) {
    const list = node.oneOf ?? node.anyOf;
    if (!list) return null;
    return list.filter((o) => o.type !== "null");
  }

  typeName(raw) {
    if (!raw) return "any";
    const node = this.resolve(raw);
    const types = [node.type ?? []].flat();
    const nullable = types.includes("null") || (node.oneOf ?? node.anyOf ?? []).some((o) => o.type === "null");
    const tail = nullable ? " or null" : "";
    const options = this.options(node);
    if (options) return [...new Set(options.map((o) => this.typeName(o)))].join(" | ") + tail;
    if (node.const !== undefined) return JSON.stringify(node.const);
    if (node.enum) return node.enum.filter((v) => v !== null).map((v) => JSON.stringify(v)).join(" | ") + tail;
    const type = types.find((t) => t !== "null");
    if (type === "array") {
      const inner = this.typeName(node.items);
      return `${/ (\||or) /.test(inner) ? `(${inner})` : inner}[]${tail}`;
    }
    if (type === "object" || node.properties) return `object${tail}`;
    if (type === "string" && node.format) return `${node.format === "date-time" ? "time" : node.format}${tail}`;
    return (type ?? "any") + tail;
  }

  /** Bounds and defaults in words. */
  limits(node) {
    const out = [];
    if (node.default !== undefined && node.default !== null) out.push(`default ${JSON.stringify(node.default)}`);
    if (node.minimum !== undefined && node.maximum !== undefined) out.push(`${node.minimum} to ${node.maximum}`);
    else if (node.minimum !== undefined && node.minimum !== 0) out.push(`at least ${node.minimum}`);
    else if (node.maximum !== undefined) out.push(`at most ${node.maximum}`);
    if (node.maxLength) out.push(`up to ${node.maxLength} characters`);
    if (node.pattern) out.push(`matches ${node.pattern}`);
    return out.join(", ");
  }

  example(raw, depth = 0, trail = []) {
    const node = this.resolve(raw);
    if (node.example !== undefined) return node.example;
    if (node.examples?.length) return node.examples[0];
    if (node.default !== undefined && node.default !== null) return node.default;
    if (node.const !== undefined) return node.const;
    if (node.enum) return node.enum[0];
    if (depth > 5 || (raw?.$ref && trail.includes(raw.$ref))) return {};
    const path = raw?.$ref ? [...trail, raw.$ref] : trail;
    const options = this.options(node);
    if (options) return options.length ? this.example(options[0], depth + 1, path) : null;
    const type = [node.type ?? []].flat().find((t) => t !== "null");
    if (type === "array") return [this.example(node.items ?? {}, depth + 1, path)];
    if (type === "object" || node.properties) {
      return Object.fromEntries(Object.entries(node.properties ?? {}).map(([k, v]) => [k, this.example(v, depth + 1, path)]));
    }
    if (type === "integer") return node.minimum ?? 1;
    if (type === "number") return node.minimum ?? 1.5;
    if (type === "boolean") return false;
    return { "date-time": "2026-01-31T12:00:00Z", uuid: "01980000-0000-7000-8000-000000000000", uri: "https://example.com/video.mp4", url: "https://example.com/video.mp4" }[node.format] ?? "string";
  }

  /** What a first request carries: the required fields, or, where none is, those that are not null by default. */
  minimal(raw) {
    const node = this.resolve(raw);
    const all = this.example(raw);
    if (node.example !== undefined || node.examples || !all || typeof all !== "object" || Array.isArray(all)) return all;
    const need = node.required ?? [];
    return need.length ? Object.fromEntries(Object.entries(all).filter(([k]) => need.includes(k))) : all;
  }

  operations() {
    const out = [];
    for (const [path, rawItem] of Object.entries(this.doc.paths ?? {})) {
      const item = this.resolve(rawItem);
      for (const verb of ["get", "post", "put", "patch", "delete", "head", "options"]) {
        const op = item[verb];
        if (!op) continue;
        const parameters = [...(item.parameters ?? []), ...(op.parameters ?? [])].map((p) => this.resolve(p));
        const slug = op.operationId || `${verb}${path}`.replace(/[{}]/g, "").replace(/[^\w]+/g, "-").replace(/-$/, "");
        out.push({ ...op, verb, path, parameters, slug, tag: op.tags?.[0] ?? "other" });
      }
    }
    return out;
  }

  tags(ops) {
    const declared = (this.doc.tags ?? []).map((t) => t.name);
    const used = [...new Set(ops.map((o) => o.tag))];
    const names = [...declared.filter((t) => used.includes(t)), ...used.filter((t) => !declared.includes(t))];
    return names.map((name) => ({ name, description: this.doc.tags?.find((t) => t.name === name)?.description ?? "" }));
  }

  body(op) {
    const content = this.resolve(op.requestBody)?.content ?? {};
    const type = Object.keys(content).find((t) => t.includes("json")) ?? Object.keys(content)[0];
    return type ? { type, schema: content[type].schema, example: content[type].example, required: this.resolve(op.requestBody).required } : null;
  }

  curl(op, base) {
    const fill = (p) => (p.example ?? p.schema?.example ?? `{${p.name}}`);
    let path = op.path;
    for (const p of op.parameters.filter((q) => q.in === "path")) path = path.replace(`{${p.name}}`, fill(p));
    const query = op.parameters.filter((p) => p.in === "query" && p.required).map((p) => `${p.name}=${fill(p)}`).join("&");
    const url = `${base}${path}${query ? `?${query}` : ""}`;
    const lines = [`curl ${op.verb === "get" ? "" : `-X ${op.verb.toUpperCase()} `}${/[{}?&]/.test(url) ? `'${url}'` : url}`];
    const secured = op.security ?? this.doc.security ?? [{}];
    if (secured.some((s) => Object.keys(s).length) || (op.security === undefined && op.path.startsWith("/api/"))) lines.push('-H "Authorization: Bearer $REELMILL_KEY"');
    for (const p of op.parameters.filter((q) => q.in === "header" && q.required)) lines.push(`-H '${p.name}: ${fill(p)}'`);
    const body = this.body(op);
    if (body?.type.includes("json")) {
      lines.push("-H 'Content-Type: application/json'");
      lines.push(`-d '${JSON.stringify(body.example ?? this.minimal(body.schema), null, 2).replace(/'/g, "'\\''")}'`);
    } else if (body) {
      lines.push(`-H 'Content-Type: ${body.type}'`, "--data-binary @file");
    }
    return lines.join(" \\\n  ");
  }
}
