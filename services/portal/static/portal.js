// The live line: one EventSource a page. What changed and is shown here is looked at again.
"use strict";
(() => {
  const names = JSON.parse(document.body.dataset.live || "[]");
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  document.cookie = "zone=" + encodeURIComponent(zone) + ";path=/;max-age=31536000;samesite=lax";
  const banner = document.getElementById("line");
  const live = document.getElementById("live");
  if (!live || !names.length || !window.EventSource) return;
  let waiting = 0, busy = false, again = false;

  // A page that nobody sees sleeps, but for one that is to be heard.
  const awake = () => !document.hidden || document.body.dataset.awake === "on";
  // At most one look a second.
  function look() {
    if (!awake()) { again = true; return; }
    if (busy) { again = true; return; }
    busy = true; again = false;
    fetch(live.dataset.look, {headers: {"X-Look": "1"}, credentials: "same-origin"})
      .then((answer) => answer.text().then((text) => {
        if (!answer.ok && answer.status !== 503) return;
        const found = new DOMParser().parseFromString(text, "text/html").getElementById("live");
        if (found) swap(found);
      }))
      .catch(() => { again = true; })
      .finally(() => { busy = false; setTimeout(() => { if (again) look(); }, 1000); });
  }
  // What has the focus keeps it, what was opened stays open, and what was scrolled aside stays there.
  const REACHED = "a[href], button, summary, input, select, textarea, [tabindex]";
  let shown = "";
  function swap(found) {
    if (found.innerHTML === shown) return;
    shown = found.innerHTML;
    const at = live.contains(document.activeElement) ? document.activeElement : null;
    const place = at ? [...live.querySelectorAll(REACHED)].indexOf(at) : -1;
    const aside = [...live.querySelectorAll("[tabindex], .wide")].map((one) => [one.scrollLeft, one.scrollTop]);
    const open = new Set([...live.querySelectorAll("details[open][id]")].map((one) => one.id));
    live.replaceChildren(...found.childNodes);
    open.forEach((id) => { const one = document.getElementById(id); if (one) one.open = true; });
    live.querySelectorAll("[tabindex], .wide").forEach((one, n) => { if (aside[n]) [one.scrollLeft, one.scrollTop] = aside[n]; });
    if (at) again_on(at, place);
    htmx.process(live);
    document.dispatchEvent(new CustomEvent("looked"));
  }
  // The same thing by its id, or by where it leads; else what stands in its place.
  function again_on(at, place) {
    const all = [...live.querySelectorAll(REACHED)], to = at.getAttribute("href");
    const same = (one) => one && (to ? one.getAttribute("href") === to : one.tagName === at.tagName);
    const one = at.id ? document.getElementById(at.id) : same(all[place]) ? all[place] : to && all.find(same);
    if (one) one.focus({preventScroll: true});
  }
  // Soon, and once more when everybody who folds the same event has: an answer may be shared, or late.
  let after = 0;
  function soon() {
    clearTimeout(waiting); waiting = setTimeout(look, 150 + Math.random() * 250);
    clearTimeout(after); after = setTimeout(look, 2500 + Math.random() * 1000);
  }

  const query = names.map((name) => "on=" + encodeURIComponent(name)).join("&");
  const SILENT = 25000;
  let line = null, last = live.dataset.last || "", lost = 0, heard = 0, retry = 0, away = null;
  function told(event) {
    heard = Date.now(); last = event.lastEventId;
    clearTimeout(lost); lost = 0; banner.hidden = true;
    // A service that goes or comes back changes what any page can show.
    const data = JSON.parse(event.data);
    const now = JSON.stringify(data.away || []);
    if (away !== null && away !== now) soon();
    away = now;
    // The portal was replaced while this page was open.
    if (data.version) document.getElementById("older").hidden = data.version === document.body.dataset.version;
  }
  function connect() {
    clearTimeout(retry); if (line) line.close();
    heard = Date.now();
    line = new EventSource("/live?" + query + (last ? "&last=" + encodeURIComponent(last) : ""));
    ["open", "beat"].forEach((kind) => line.addEventListener(kind, (event) => { if (event.data) told(event); }));
    ["change", "stale"].forEach((kind) => line.addEventListener(kind, (event) => { told(event); soon(); }));
    line.onerror = () => {
      lost = lost || setTimeout(() => { banner.hidden = false; }, 1500);
      if (line.readyState === EventSource.CLOSED) { clearTimeout(retry); retry = setTimeout(connect, 2000 + Math.random() * 2000); }
    };
  }
  // A line may be dead and look alive: without a heartbeat it is opened anew.
  setInterval(() => {
    if (awake() && Date.now() - heard > SILENT) { banner.hidden = false; connect(); }
  }, 5000);
  connect();
  // What changes without an event, as readings do, is looked at again every so many seconds, while the page says so.
  // The pace is not begun anew by what a look brings: else each pause were longer by its answer.
  let pace = 0, pacing = 0;
  function paced() {
    const every = Number(live.querySelector("[data-every]")?.dataset.every || 0);
    if (every === pacing) return;
    clearInterval(pace); pacing = every;
    if (every > 0) pace = setInterval(look, every * 1000);
  }
  document.addEventListener("looked", paced);
  paced();
  // A browser has few lines to one place: a page that sleeps gives its own back, and goes on where it was.
  document.addEventListener("visibilitychange", () => {
    if (!awake()) { clearTimeout(retry); line.close(); return; }
    if (line.readyState === EventSource.CLOSED) connect();
    if (again) look();
  });
  window.addEventListener("pagehide", () => line.close());
  window.addEventListener("pageshow", (event) => { if (event.persisted) connect(); });
})();
