// Alerts: clocks that count down on the platform's clock, and a sound for a new alert, off unless switched on.
"use strict";
(() => {
  const tag = document.documentElement.lang;
  const known = new Set();
  let list = null, told = 0, heard = 0, pace = 1;

  function read() {
    list = document.querySelector(".alerts[data-now]");
    if (list) { told = Date.parse(list.dataset.now); pace = Number(list.dataset.pace) || 1; heard = performance.now(); }
    const open = [...document.querySelectorAll("[data-open]")].map((one) => one.dataset.alert);
    const fresh = open.filter((one) => !known.has(one));
    open.forEach((one) => known.add(one));
    tick();
    return fresh.length > 0;
  }
  // The largest two units, in the reader's language.
  function span(seconds) {
    const units = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
    const first = units.findIndex(([, size]) => seconds >= size);
    if (first < 0) return new Intl.NumberFormat(tag, {style: "unit", unit: "second"}).format(0);
    return units.slice(first, first + 2).map(([unit, size]) => {
      const count = Math.floor(seconds / size);
      seconds -= count * size;
      return new Intl.NumberFormat(tag, {style: "unit", unit, unitDisplay: "short"}).format(count);
    }).join(" ");
  }
  function tick() {
    if (!list) return;
    const now = told + (performance.now() - heard) * pace;
    list.querySelectorAll("[data-until]").forEach((one) => {
      one.textContent = span(Math.max(0, (Date.parse(one.dataset.until) - now) / 1000));
    });
  }

  const line = document.getElementById("sound-line"), button = document.getElementById("sound");
  let on = false, tone = null;
  try { on = localStorage.getItem("sound") === "on"; } catch { /* a browser that keeps nothing */ }
  // A browser lets nothing sound before somebody touched the page.
  const allow = () => { if (on) { tone = tone || new AudioContext(); tone.resume(); } };
  ["pointerdown", "keydown"].forEach((kind) => document.addEventListener(kind, allow, {once: true}));
  function shown() {
    button.setAttribute("aria-pressed", String(on));
    document.body.dataset.awake = on ? "on" : "off";
    button.textContent = on ? button.dataset.on : button.dataset.off;
  }
  function sound() {
    try {
      tone = tone || new AudioContext();
      const source = tone.createOscillator(), volume = tone.createGain();
      source.frequency.value = 660;
      volume.gain.setValueAtTime(0.2, tone.currentTime);
      volume.gain.exponentialRampToValueAtTime(0.001, tone.currentTime + 0.6);
      source.connect(volume).connect(tone.destination);
      source.start();
      source.stop(tone.currentTime + 0.6);
    } catch { /* a browser without sound */ }
  }
  button.addEventListener("click", () => {
    on = !on;
    try { localStorage.setItem("sound", on ? "on" : "off"); } catch { /* the same */ }
    shown();
    if (on) sound();
  });
  line.hidden = false;
  shown();
  read();
  setInterval(tick, 1000);
  document.addEventListener("looked", () => { if (read() && on) sound(); });
})();
