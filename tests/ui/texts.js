// Text that people see or hear, each with whether a mark says that it is data (a name, a key, a moment),
// and where it stands.
() => {
  const data = "bdi, code, time, .key, [lang='en'] *, option:not([value]), datalist, .languages, .brand, svg";
  const shown = (one) => one && !one.closest("script, style, [hidden], template");
  document.querySelectorAll("details").forEach((one) => { one.open = true; });
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode());) {
    const one = node.parentElement, text = node.nodeValue.trim();
    if (text && shown(one)) found.push([text, !!one.closest(data), one.tagName]);
  }
  for (const name of ["aria-label", "title", "placeholder", "alt"])
    for (const one of document.querySelectorAll(`[${name}]`))
      if (shown(one)) found.push([one.getAttribute(name), !!one.closest(data), `${one.tagName} ${name}`]);
  return found;
}
