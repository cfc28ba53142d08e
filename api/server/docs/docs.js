"use strict";
// Shows /openapi.json as a list of operations. Text goes in as text, never as markup.

const add = (parent, tag, text, className) => {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (className) node.className = className;
  parent.append(node);
  return node;
};

const nameOf = (schema) => {
  if (!schema) return "";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.type === "array") return nameOf(schema.items) + "[]";
  return [].concat(schema.type ?? "any").join(" or ") + (schema.enum ? ": " + schema.enum.join(", ") : "");
};

const row = (table, ...cells) => {
  const tr = add(table, "tr");
  cells.forEach((text, i) => add(add(tr, "td"), i === 0 ? "code" : "span", text));
};

const fields = (parent, title, schema, spec) => {
  if (!schema) return;
  add(parent, "div", title + ": " + nameOf(schema));
  const type = schema.$ref ? spec.components.schemas[nameOf(schema)] : schema;
  const table = add(parent, "table");
  for (const [name, f] of Object.entries(type.properties ?? {})) {
    row(table, name + (type.required?.includes(name) ? " *" : ""), nameOf(f), f.description ?? "");
  }
};

const show = (spec) => {
  const main = document.getElementById("operations");
  main.textContent = "";
  const tags = new Map();
  for (const [path, methods] of Object.entries(spec.paths)) {
    for (const [method, op] of Object.entries(methods)) {
      const tag = op.tags?.[0] ?? "other";
      tags.set(tag, [...(tags.get(tag) ?? []), { path, method, op }]);
    }
  }
  for (const [tag, ops] of tags) {
    add(main, "h2", tag);
    for (const { path, method, op } of ops) {
      const box = add(main, "details");
      const line = add(box, "summary");
      add(line, "span", method.toUpperCase(), "method");
      add(line, "code", path);
      add(line, "span", "  " + (op.summary ?? ""));
      const table = add(box, "table");
      for (const p of op.parameters ?? []) row(table, p.name + (p.required ? " *" : ""), p.in + ", " + nameOf(p.schema), p.description ?? "");
      for (const [type, body] of Object.entries(op.requestBody?.content ?? {})) fields(box, "body, " + type, body.schema, spec);
      for (const [status, r] of Object.entries(op.responses ?? {})) {
        if (status >= "300") continue;
        for (const [type, body] of Object.entries(r.content ?? {})) fields(box, status + ", " + type, body.schema, spec);
      }
    }
  }
};

fetch("/openapi.json")
  .then((r) => r.json())
  .then(show)
  .catch((err) => { document.getElementById("operations").textContent = "The description could not be read: " + err; });
