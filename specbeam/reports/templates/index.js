// Sorts and filters the rows of the index. The controls stay hidden where scripts do not run.
"use strict";
const body = document.querySelector("tbody"), rows = [...body.rows], text = document.querySelector("#text");
const state = document.querySelector("#state"), order = document.querySelector("#order");
const shown = document.querySelector("#shown"), heads = [...document.querySelectorAll("th[data-sort]")];
const figures = [...document.querySelectorAll("figure")];
function value(row, column) {
  const found = row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
  return found !== "" && !isNaN(found) ? Number(found) : found.toLowerCase();
}
function compare(one, other) {
  if (one === "" || other === "") return (one === "") - (other === "");
  if (typeof one !== typeof other) return typeof one === "number" ? -1 : 1;
  return one < other ? -1 : one > other ? 1 : 0;
}
function sort(column, falling) {
  const sign = (one, other) => falling && one !== "" && other !== "" ? -compare(one, other) : compare(one, other);
  rows.sort((one, other) => sign(value(one, column), value(other, column)));
  body.append(...rows);
  for (const head of heads) head.removeAttribute("aria-sort");
  document.querySelectorAll("th")[column].setAttribute("aria-sort", falling ? "descending" : "ascending");
  order.value = column + (falling ? "-" : "+");
}
function meets(row, word) {
  const [name, wanted] = word.split("=");
  for (const term of row.querySelectorAll("dt"))
    if (wanted !== undefined && term.textContent.toLowerCase() === name)
      return term.nextElementSibling.textContent.toLowerCase() === wanted;
  return row.textContent.toLowerCase().includes(word);
}
function filter() {
  const words = text.value.toLowerCase().replace(/\s*=\s*/g, "=").split(/\s+/).filter(Boolean);
  let count = 0;
  for (const row of rows) {
    row.hidden = !words.every(word => meets(row, word)) || (state.value && row.dataset.status !== state.value);
    count += !row.hidden;
    for (const figure of figures) if (figure.dataset.run === row.dataset.run) figure.hidden = row.hidden;
  }
  shown.textContent = count < rows.length ? count + " shown" : "";
}
for (const head of heads) {
  const button = document.createElement("button");
  button.textContent = head.textContent;
  button.onclick = () => sort(head.cellIndex, head.getAttribute("aria-sort") === "ascending");
  head.replaceChildren(button);
  for (const [sign, word] of [["+", "rising"], ["-", "falling"]])
    order.add(new Option("by " + button.textContent.toLowerCase() + ", " + word, head.cellIndex + sign));
}
order.onchange = () => sort(parseInt(order.value), order.value.endsWith("-"));
text.oninput = state.onchange = filter;
document.querySelector("#controls").hidden = false;
