"use strict";
const desk = document.getElementById("desk");
const cards = [...desk.querySelectorAll("article")];

function move(by) {
  const at = cards.findIndex((card) => card.contains(document.activeElement));
  const next = cards[at < 0 ? 0 : Math.min(Math.max(at + by, 0), cards.length - 1)];
  if (next) next.focus();
}

document.addEventListener("keydown", (event) => {
  const card = document.activeElement.closest("article") || cards[0];
  if (document.activeElement.tagName === "TEXTAREA") {
    if (event.key === "Escape") card.focus();
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) card.querySelector("[value=answer]").click();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || !card) return;
  if (event.key === "j") move(1);
  else if (event.key === "k") move(-1);
  else if (event.key === "a") card.querySelector("textarea").focus();
  else if (event.key === "d") card.querySelector("[value=decline]").focus();
  else return;
  event.preventDefault();
});

setInterval(() => {
  for (const one of desk.querySelectorAll(".countdown")) {
    const left = Math.max(Number(one.dataset.seconds) - 1, 0);
    one.dataset.seconds = left;
    one.textContent = `${Math.floor(left / 60)} min ${left % 60} s`;
  }
}, 1000);

// A new list is loaded at once where nobody writes; else a line says that it has changed.
setInterval(async () => {
  const reply = await fetch("/desk/open").catch(() => null);
  if (!reply || !reply.ok || (await reply.json()).version === desk.dataset.version) return;
  const busy = document.querySelector("[role=alert]") || cards.some((card) => card.querySelector("textarea").value);
  if (busy) document.getElementById("changed").hidden = false;
  else location.replace("/desk");
}, 3000);
