// Pages that follow what happens: an element with data-every is asked for again that often (in seconds), ten times as
// rarely while nobody looks, and at once when somebody looks again or the connection is back.
"use strict";
(() => {
  const RARER = 10;
  let asked = Date.now();
  let open = [];
  let shown = state();

  const part = () => document.querySelector("[data-every]");

  function ask() {
    if (!part()) return;
    asked = Date.now();
    htmx.trigger(part(), "tick");
  }

  function askWhenDue() {
    if (!part()) return;
    const every = 1000 * part().dataset.every * (document.hidden ? RARER : 1);
    if (Date.now() - asked >= every) ask();
  }

  // What can be done depends on it, and stands outside the part.
  function state() {
    return document.querySelector("[data-state]")?.dataset.state;
  }

  function lost(isLost) {
    document.getElementById("lost").hidden = !isLost;
  }

  // Readers hear a sentence when it changes, not every number every other second.
  function say() {
    const sentence = document.querySelector("[data-say]")?.textContent.trim();
    const said = document.getElementById("said");
    if (sentence && said.textContent !== sentence) said.textContent = sentence;
  }

  function remember() {
    open = [...document.querySelectorAll("#live details[open]")].map((each) => each.id);
  }

  function restore() {
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    say();
    if (state() === shown) return;
    shown = state();
    // Never a reload of the page: that would take back a click whose page has yet to answer.
    htmx.ajax("GET", location.href, { target: "#content", select: "#content", swap: "outerHTML" });
  }

  setInterval(askWhenDue, 250);
  document.addEventListener("visibilitychange", () => document.hidden || ask());
  window.addEventListener("online", ask);
  window.addEventListener("offline", () => lost(true));
  // Without an answer there is no status; one that leads to the sign-in has not failed.
  document.addEventListener("htmx:afterRequest", ({ detail }) => lost(detail.failed ?? !detail.xhr.status));
  document.addEventListener("htmx:beforeSwap", remember);
  document.addEventListener("htmx:afterSwap", restore);
})();
