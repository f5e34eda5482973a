// Live pages: an element with data-every is requested again that often (in seconds), ten times as rarely while the tab is
// hidden, and at once when the tab is shown again or the connection is back.
"use strict";
(() => {
  const HIDDEN_FACTOR = 10;
  let requestedAt = Date.now();
  let shown = state();

  const part = () => document.querySelector("[data-every]");

  function refresh() {
    if (!part()) return;
    requestedAt = Date.now();
    htmx.trigger(part(), "tick");
  }

  function refreshWhenDue() {
    if (!part()) return;
    const every = 1000 * part().dataset.every * (document.hidden ? HIDDEN_FACTOR : 1);
    if (Date.now() - requestedAt >= every) refresh();
  }

  // The available actions depend on it (the status and the role of the viewer), and are outside the part that refreshes itself.
  function state() {
    return document.querySelector("[data-state]")?.dataset.state;
  }

  function showLost(isLost) {
    document.getElementById("lost")?.toggleAttribute("hidden", !isLost);
  }

  // Screen readers announce a sentence when it changes, not every number every two seconds.
  function announce() {
    const sentence = document.querySelector("[data-say]")?.textContent.trim();
    const said = document.getElementById("said");
    if (sentence && said.textContent !== sentence) said.textContent = sentence;
  }

  function compare() {
    announce();
    if ([undefined, shown].includes(state())) return;
    shown = state();
    // The page is never reloaded: that would cancel a click whose answer is still on its way.
    htmx.ajax("GET", location.href, { target: "#content", select: "#content", swap: "outerHTML" });
  }

  setInterval(refreshWhenDue, 250);
  document.addEventListener("visibilitychange", () => document.hidden || refresh());
  window.addEventListener("online", refresh);
  window.addEventListener("offline", () => showLost(true));
  // Without an answer there is no status. An answer that leads to the sign-in is not a failure.
  document.addEventListener("htmx:afterRequest", ({ detail }) => showLost(detail.failed ?? !detail.xhr.status));
  document.addEventListener("htmx:afterSwap", compare);
})();
