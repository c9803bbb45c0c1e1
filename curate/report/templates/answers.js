"use strict";
// The table of test questions: all data is in the page, rows are made fifty at a time.
(() => {
  const source = document.getElementById("answers-data");
  if (!source) return;
  const { arms, pair, rows } = JSON.parse(source.textContent);
  // A row: [question, accepted, percentile, relation, subject, said, disputed, known]; said: for each arm, [text, right, seeds] each answer.
  const [QUESTION, ACCEPTED, PERCENTILE, RELATION, SUBJECT, SAID, DISPUTED, KNOWN] = [0, 1, 2, 3, 4, 5, 6, 7];
  const [FIRST, STEP, ALIASES] = [6, 50, 3];  // rows at first, rows more, accepted answers before the others are folded
  const form = document.getElementById("filters");
  const table = document.getElementById("answers-table");
  const more = document.getElementById("more");
  const count = document.getElementById("count");
  let chosen = rows;
  let visible = [];
  let shown = 0;

  // Text only ever becomes text: nothing from the data is parsed as HTML.
  function element(tag, text, className) {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  }

  function option(select, value, text) {
    const made = element("option", text);
    made.value = value;
    form.elements[select].append(made);
  }

  function cell(label, className, ...content) {
    const made = element("td", undefined, className);
    made.dataset.label = label;
    const inside = element("div");
    inside.append(...content);
    made.append(inside);
    return made;
  }

  function answer([text, right, times], arm) {
    const said = element("span", `${right ? "✓" : "✗"} ${text || "(nothing)"}`, right ? "said yes" : "said no");
    if (arms[arm].seeds > 1) said.append(" ", element("i", `${times}/${arms[arm].seeds}`));
    return said;
  }

  function accepted(all) {
    const some = element("span", all.slice(0, ALIASES).join(", "));
    if (all.length <= ALIASES) return [some];
    const rest = element("details");
    rest.append(element("summary", `${all.length - ALIASES} more`), all.slice(ALIASES).join(", "));
    return [some, rest];
  }

  function line(row) {
    const made = element("tr");
    const about = [row[RELATION], row[PERCENTILE] === null ? "" : `percentile ${row[PERCENTILE]}`].filter(Boolean);
    made.append(
      cell("", "question", row[QUESTION], element("small", about.join(" · "))),
      cell("accepted", "", ...accepted(row[ACCEPTED])),
      ...visible.map((arm) => cell(arms[arm].label, "", ...row[SAID][arm].map((one) => answer(one, arm)))),
    );
    return made;
  }

  function show() {
    const next = chosen.slice(shown, shown + (shown ? STEP : FIRST));
    table.tBodies[0].append(...next.map(line));
    shown += next.length;
    more.hidden = shown >= chosen.length;
  }

  const right = (row, arm) => row[SAID][arm].reduce((sum, [, yes, times]) => sum + (yes ? times : 0), 0) / arms[arm].seeds;

  function matches(row, words, relation, rightArm, wrongArm, only) {
    if (only === "disputed" && !row[DISPUTED]) return false;
    if (only.startsWith("lost") && !(row[KNOWN] && right(row, +only.slice(4)) < 0.5)) return false;
    if (only === "telling" && !(right(row, pair[0]) > 0.5 && right(row, pair[1]) < 0.5)) return false;
    if (relation && row[RELATION] !== relation) return false;
    if (rightArm && right(row, rightArm - 1) <= 0.5) return false;
    if (wrongArm && right(row, wrongArm - 1) >= 0.5) return false;
    if (!words.length) return true;
    row.text ??= [row[QUESTION], ...row[ACCEPTED], row[SUBJECT], ...row[SAID].flat().map(([text]) => text)]
      .join("\n").toLowerCase();
    return words.every((word) => row.text.includes(word));
  }

  function filter() {
    const { columns, text, relation, right: rightArm, wrong: wrongArm, only, order } = form.elements;
    const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    chosen = rows.filter((row) => matches(row, words, relation.value, +rightArm.value, +wrongArm.value, only.value));
    visible = arms.map((_, arm) => arm).filter((arm) => columns.value || arms[arm].first);
    const head = element("tr");
    for (const name of ["question", "accepted", ...visible.map((arm) => arms[arm].label)]) head.append(element("th", name));
    table.tHead.replaceChildren(head);
    const sign = { popular: 1, obscure: -1 }[order.value];
    if (sign) {
      chosen = chosen.filter((row) => row[PERCENTILE] !== null).sort((a, b) => sign * (a[PERCENTILE] - b[PERCENTILE]));
    }
    count.textContent = `${chosen.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")} questions`;
    table.tBodies[0].replaceChildren();
    shown = 0;
    show();
  }

  if (pair) option("only", "telling", `${arms[pair[0]].label} right, ${arms[pair[1]].label} wrong`);
  if (rows.some((row) => row[KNOWN])) arms.forEach((arm, n) => { if (!arm.untouched) option("only", `lost${n}`, `lost by ${arm.label}`); });
  form.elements.columns.closest("label").hidden = arms.every((arm) => arm.first);
  const relations = [...new Set(rows.map((row) => row[RELATION]).filter(Boolean))].sort();
  for (const relation of relations) option("relation", relation, relation);
  form.elements.relation.closest("label").hidden = relations.length < 2;
  form.elements.order.closest("label").hidden = rows.every((row) => row[PERCENTILE] === null);
  arms.forEach((arm, number) => { for (const select of ["right", "wrong"]) option(select, number + 1, arm.label); });
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", show);
  filter();
})();
