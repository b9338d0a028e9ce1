"use strict";
// Lists answers. Text of the runs only ever becomes text.
(() => {
  const { samples, presses, answers } = JSON.parse(document.getElementById("data").textContent);
  const by = (id) => document.getElementById(id);
  const [press, outcome, text, list, found, more] = ["press", "outcome", "text", "list", "found", "more"].map(by);
  const label = ([name, ratio]) => (ratio === null || ratio === 0 ? name : `${name} at ${ratio.toFixed(2)}`);
  const full = new Map();
  for (const [sample, which, score] of answers) if (presses[which][0] === "none") full.set(sample, score);
  presses.forEach((entry, index) => press.append(new Option(label(entry), index)));
  const keeps = {
    all: () => true,
    right: ([, , score, , , error]) => !error && score >= 1,
    wrong: ([, , score, , , error]) => !error && score < 1,
    lost: ([sample, , score, , , error]) => !error && score < (full.get(sample) ?? 0),
    cut: ([, , , cut]) => cut === 1,
    error: ([, , , , , error]) => Boolean(error),
  };
  const PAGE = 50;
  let hits = [];
  let shown = 0;
  const element = (name, content, kind) => {
    const made = document.createElement(name);
    made.textContent = content;
    if (kind) made.className = kind;
    return made;
  };
  const item = ([sample, which, score, cut, prediction, error]) => {
    const [, index, turn, task, regime, right] = samples[sample];
    const made = document.createElement("li");
    made.append(element("p", `${task}, sample ${index}${turn ? `, question ${turn}` : ""}, ${regime}`, "what"));
    const mark = error ? "failed" : `${Math.round(100 * score)} %${cut ? ", ended by the limit" : ""}`;
    made.append(element("p", `${label(presses[which])}: ${mark}`, score >= 1 ? "who good" : "who bad"));
    made.append(element("blockquote", error ?? prediction));
    made.append(element("p", `right: ${right.join(" | ")}`, "right"));
    return made;
  };
  const show = () => {
    list.append(...hits.slice(shown, shown + PAGE).map(item));
    shown = Math.min(shown + PAGE, hits.length);
    found.textContent = hits.length ? `${shown} of ${hits.length} answers` : "No answer is like that.";
    more.hidden = shown === hits.length;
  };
  const search = () => {
    const wanted = text.value.toLowerCase();
    const fits = ([sample, , , , prediction]) =>
      prediction.toLowerCase().includes(wanted) || samples[sample].flat().join("\n").toLowerCase().includes(wanted);
    hits = answers.filter((answer) =>
      (press.value === "" || answer[1] === Number(press.value)) && keeps[outcome.value](answer) && (!wanted || fits(answer)));
    shown = 0;
    list.replaceChildren();
    show();
  };
  by("filters").addEventListener("submit", (event) => event.preventDefault());
  for (const control of [press, outcome, text]) control.addEventListener("input", search);
  more.addEventListener("click", show);
  search();
})();
