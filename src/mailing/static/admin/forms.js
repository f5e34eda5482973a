// A second click does not send a form again: its buttons are disabled until the answer arrives. The server handles a form
// once anyway, by its key; this shows that the first click counted.
"use strict";
(() => {
  const MAX_DISABLED_MS = 10_000; // for an answer that never comes, or a load that the user stops

  const buttons = (form) => [...form.elements].filter((each) => each.type === "submit");

  function setDisabled(form, isDisabled) {
    for (const each of buttons(form)) each.disabled = isDisabled;
  }

  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (event.defaultPrevented || form.method !== "post") return;
    // After the browser has collected the fields: a disabled button's own value would be missing.
    setTimeout(() => setDisabled(form, true));
    setTimeout(() => setDisabled(form, false), MAX_DISABLED_MS);
  });

  // The session ended while the user types: the answer says so in the place of the plan. The form stays, and so do its
  // choices. What the page is about may have been deleted: its error page takes the place of all.
  document.addEventListener("htmx:beforeSwap", ({ detail }) => {
    const isPlan = detail.target.ariaBusy !== null;
    if ((detail.xhr.status === 401 && isPlan) || detail.xhr.getResponseHeader("HX-Retarget")) detail.shouldSwap = true;
  });

  // What is shown belongs to an earlier input until the answer arrives; if none does, the page says so.
  for (const [event, busy] of [["htmx:beforeRequest", "true"], ["htmx:afterSwap", "false"]]) {
    document.addEventListener(event, ({ target }) => target.ariaBusy && target.setAttribute("aria-busy", busy));
  }
  for (const event of ["htmx:beforeRequest", "htmx:afterRequest"]) {
    document.addEventListener(event, ({ target, type, detail }) => {
      const note = document.getElementById(`${target.id}-outdated`);
      if (note) note.hidden = type === "htmx:beforeRequest" || detail.successful || target.ariaBusy === "false";
    });
  }

  // The answer to a search has the choices of when it was asked: it would undo the one made now.
  document.addEventListener("change", ({ target }) => {
    const search = document.getElementById(`find_${target.name}`);
    if (search) htmx.trigger(search, "htmx:abort");
  });

  // What the user has opened stays open in the part that takes its place, and the keyboard stays where it was. What has
  // an id, htmx finds again; a link has its address, a part that scrolls its name.
  let open = [];
  let focused;

  function successor(element) {
    const name = ["href", "aria-label"].find((each) => element.hasAttribute(each));
    return name && document.querySelector(`${element.localName}[${name}="${CSS.escape(element.getAttribute(name))}"]`);
  }

  document.addEventListener("htmx:beforeSwap", () => {
    open = [...document.querySelectorAll("details[open]")].map((each) => each.id);
    focused = document.activeElement;
  });
  document.addEventListener("htmx:afterSwap", () => {
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    if (focused.isConnected || document.activeElement !== document.body) return;
    (successor(focused) || document.getElementById("content")).focus({ preventScroll: true });
  });

  document.querySelector("form[data-go-on]")?.requestSubmit();

  // A user who signs in in another tab gets the form back in this one.
  const tabs = new BroadcastChannel("signed-in");
  const kept = document.querySelector("form[data-kept-for]");
  if (document.body.dataset.user) tabs.postMessage(document.body.dataset.user);
  tabs.addEventListener("message", ({ data }) => {
    if (data === kept?.dataset.keptFor) kept.requestSubmit();
  });

  // Restored from the browser's cache, the page is as it was left.
  window.addEventListener("pageshow", () => {
    for (const form of document.forms) if (form.method === "post") setDisabled(form, false);
  });
})();
