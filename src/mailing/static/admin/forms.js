// A form that was sent is not sent again by a second click: its buttons rest until the answer is there. The server does
// a form once anyway, by its key; this shows that the first click counted.
"use strict";
(() => {
  const REST_MS = 10_000; // an answer that never comes, or a stop by the reader

  const buttons = (form) => [...form.elements].filter((each) => each.type === "submit");

  function rest(form, resting) {
    for (const each of buttons(form)) each.disabled = resting;
  }

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (event.defaultPrevented || form.method !== "post") return;
    // After the browser has collected the fields: a disabled button's own value would be missing.
    setTimeout(() => rest(form, true));
    setTimeout(() => rest(form, false), REST_MS);
  });

  // The session ended while somebody types: the answer says so beside the form, which stays.
  document.addEventListener("htmx:beforeSwap", (event) => {
    if (event.detail.xhr.status === 401) event.detail.shouldSwap = true;
  });

  // A plan is of an earlier form until its answer is there, also if that never comes.
  for (const [event, busy] of [["htmx:beforeRequest", "true"], ["htmx:afterSwap", "false"]]) {
    document.addEventListener(event, ({ target }) => target.ariaBusy && target.setAttribute("aria-busy", busy));
  }

  document.querySelector("form[data-go-on]")?.requestSubmit();

  // Somebody who signs in in another tab has the form back in this one.
  const tabs = new BroadcastChannel("signed-in");
  const kept = document.querySelector("form[data-kept-for]");
  if (document.body.dataset.user) tabs.postMessage(document.body.dataset.user);
  tabs.addEventListener("message", ({ data }) => {
    if (data === kept?.dataset.keptFor) kept.requestSubmit();
  });

  // Back from the cache of the browser, the page is as it was left.
  window.addEventListener("pageshow", () => {
    for (const form of document.forms) if (form.method === "post") rest(form, false);
  });
})();
