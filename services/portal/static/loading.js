// What comes later than its page says so in words while it is awaited, and says so when it does not come.
// The words stand in the page, in its language. Without this the links that stand in such a part lead there.
"use strict";
(() => {
  const words = (name) => document.getElementById(name).content.cloneNode(true);
  const notes = new Map();

  // The note stands before its part: what is busy is not read out.
  function say(part, name, kind) {
    let note = notes.get(part);
    if (!note || !note.isConnected) {
      note = document.createElement("p");
      note.setAttribute("role", "status");
      note.tabIndex = -1;
      part.before(note);
      notes.set(part, note);
    }
    note.className = kind;
    const held = note.contains(document.activeElement);
    note.replaceChildren(words(name));
    if (held) note.focus();
    return note;
  }
  function loading(part) {
    part.setAttribute("aria-busy", "true");
    say(part, "said-loading", "loading");
  }
  function loaded(part) {
    part.removeAttribute("aria-busy");
    const note = notes.get(part);
    notes.delete(part);
    if (!note) return;
    // Who asked for it anew reads on in what came.
    if (note.contains(document.activeElement)) { part.tabIndex = -1; part.focus({preventScroll: true}); }
    note.remove();
  }
  // `to` is an address that works by itself; `again`, where there is one, loads this part alone.
  function failed(part, to, again) {
    part.removeAttribute("aria-busy");
    const link = say(part, "said-unloaded", "unloaded").querySelector("a");
    link.href = to;
    if (again) link.addEventListener("click", (event) => { event.preventDefault(); again(); });
  }

  // Parts that htmx gets.
  const got = ({detail}) => detail.requestConfig?.verb === "get" && detail.target;
  document.addEventListener("htmx:beforeRequest", (event) => { if (got(event)) loading(event.detail.target); });
  document.addEventListener("htmx:afterRequest", (event) => {
    const part = got(event);
    if (!part) return;
    if (!part.isConnected) { notes.get(part)?.remove(); notes.delete(part); return; }
    // An answer that has not the part in it is none; an error has its own event.
    if (!event.detail.successful) return;
    if (part.childElementCount) loaded(part); else unloaded(event);
  });
  function unloaded(event) {
    const {target, elt, requestConfig} = event.detail;
    if (got(event)) failed(target, requestConfig.path, () => htmx.ajax("GET", requestConfig.path, {source: elt, target}));
  }
  for (const name of ["htmx:sendError", "htmx:responseError", "htmx:timeout", "htmx:swapError"]) {
    document.addEventListener(name, unloaded);
  }

  // The chart of one tag: drawn by a script that is large, and may not come.
  let drawn = false;
  const chart = () => document.getElementById("chart");
  function look() {
    if (chart() && !drawn) failed(chart(), location.href);
  }
  document.addEventListener("drawn", () => { drawn = true; if (chart()) loaded(chart()); });
  if (chart()) loading(chart());
  addEventListener("load", () => { look(); document.addEventListener("looked", () => queueMicrotask(look)); });

  // A search or a filter whose page lets wait.
  const asked = document.getElementById("asked");
  let slow = 0;
  document.addEventListener("submit", (event) => {
    if (event.defaultPrevented || event.target.method !== "get") return;
    clearTimeout(slow);
    slow = setTimeout(() => { asked.hidden = false; asked.replaceChildren(words("said-asked")); }, 400);
  });
  addEventListener("pageshow", () => { clearTimeout(slow); asked.hidden = true; });
})();
