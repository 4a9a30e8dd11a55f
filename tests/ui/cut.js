// Text that does not fit where it stands, each in words. What scrolls by itself may be wider than its box.
() => {
  const found = [];
  const say = (one, why) => {
    const text = one.textContent.trim().replace(/\s+/g, " ").slice(0, 60);
    found.push(`${why}: ${one.tagName}.${one.getAttribute("class") || ""} ${text}`);
  };
  document.querySelectorAll("details").forEach((one) => { one.open = true; });
  // Read aloud, and not drawn: heads of tables whose rows are records on a phone.
  const undrawn = (one) => { const head = one.closest("thead"); return head && getComputedStyle(head).clipPath === "inset(50%)"; };
  const cuts = (way) => ["hidden", "clip"].includes(way);
  for (const one of document.querySelectorAll("body *")) {
    const style = getComputedStyle(one);
    if (one.closest("svg, [hidden], .unseen, input, textarea, select") || ["none", "inline"].includes(style.display) || undrawn(one)) continue;
    if (cuts(style.overflowX) && one.scrollWidth > one.clientWidth + 1) say(one, "cut at its side");
    if (cuts(style.overflowY) && one.scrollHeight > one.clientHeight + 1) say(one, "cut below");
  }
  const boxes = "button, .button, th, td, h1, h2, h3, p, li, dt, dd, label, summary, .state, .card";
  for (const one of document.querySelectorAll(boxes)) {
    if (!one.getClientRects().length || one.closest("svg, .unseen, .skip, .track") || undrawn(one)) continue;
    if (one.querySelector(".unseen, .wide, .track")) continue;
    const range = document.createRange();
    range.selectNodeContents(one);
    const beyond = range.getBoundingClientRect().right - one.getBoundingClientRect().right;
    if (beyond > 2) say(one, `beyond its box by ${Math.round(beyond)}`);
  }
  const ruler = document.createElement("canvas").getContext("2d");
  for (const one of document.querySelectorAll("input[placeholder]")) {
    const style = getComputedStyle(one);
    ruler.font = `${style.fontSize} ${style.fontFamily}`;
    const room = one.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    if (room > 0 && ruler.measureText(one.placeholder).width > room) say(one, `no room: ${one.placeholder}`);
  }
  for (const one of document.querySelectorAll("svg text")) {
    const box = one.getBoundingClientRect(), all = one.closest("svg").getBoundingClientRect();
    if (box.width && (box.left < all.left - 2 || box.right > all.right + 2)) say(one, "outside its drawing");
  }
  return found;
}
