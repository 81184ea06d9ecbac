"use strict";
// The figures come anew every two seconds; the slider fetches the state as it was. Both are written by the server.

const figures = document.getElementById("figures");
const slider = document.getElementById("slider");
const number = document.getElementById("seq");
const state = document.getElementById("state");
let asked = 0;

async function fragment(address) {
  const answer = await fetch(address, { headers: { accept: "text/html" }, cache: "no-store" });
  if (answer.status === 401) location.reload();
  return answer.ok ? answer.text() : null;
}

async function refresh() {
  try {
    const text = document.hidden ? null : await fragment("fragment/figures");
    if (text !== null) {
      figures.innerHTML = text;
      const seq = figures.querySelector("[data-seq]").dataset.seq;
      if (slider) slider.max = number.max = seq;
    }
    figures.classList.remove("waiting");
  } catch {
    figures.classList.add("waiting"); // The server is away; it is asked again.
  }
  setTimeout(refresh, 2000);
}

async function travel(seq) {
  const turn = ++asked;
  state.classList.add("waiting");
  try {
    const text = await fragment("fragment/state?seq=" + encodeURIComponent(seq));
    if (turn !== asked || text === null) return; // Somebody has moved on.
    state.innerHTML = text;
    history.replaceState(null, "", "?seq=" + encodeURIComponent(seq));
  } finally {
    if (turn === asked) state.classList.remove("waiting");
  }
}

if (figures) setTimeout(refresh, 2000);
if (slider) {
  slider.addEventListener("input", () => { number.value = slider.value; });
  slider.addEventListener("change", () => travel(slider.value));
  document.getElementById("travel").addEventListener("submit", (event) => {
    event.preventDefault();
    slider.value = number.value;
    travel(number.value);
  });
}
