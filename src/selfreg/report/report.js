"use strict";
// Tables that sort by a click on a heading; numbers by their first number, empty cells last.
const value = (row, i) => {
  const text = row.cells[i].textContent.trim(), number = parseFloat(text.replace(/^between /, ""));
  return text === "" ? null : Number.isNaN(number) ? text : number;
};
const compare = (a, b) => (a === null) - (b === null) || (typeof a === typeof b ? (a < b ? -1 : a > b ? 1 : 0) : typeof a === "number" ? -1 : 1);
for (const head of document.querySelectorAll("thead th")) {
  if (head.textContent.trim() === "") continue;
  const button = document.createElement("button"), body = head.closest("table").tBodies[0];
  button.append(...head.childNodes);
  head.append(button);
  button.addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") !== "ascending", i = head.cellIndex;
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    const rows = [...body.rows].sort((a, b) => (up ? 1 : -1) * compare(value(a, i), value(b, i)));
    body.append(...rows);
  });
}
// A picture as a file of its own, for slides.
for (const figure of document.querySelectorAll("figure")) {
  const button = figure.querySelector("button.save"), drawing = figure.querySelector("svg");
  button.hidden = false;
  button.addEventListener("click", () => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([drawing.outerHTML], { type: "image/svg+xml" }));
    link.download = figure.dataset.name + ".svg";
    link.click();
    URL.revokeObjectURL(link.href);
  });
}
// What is folded on the screen is printed.
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => { one.open = true; }));
