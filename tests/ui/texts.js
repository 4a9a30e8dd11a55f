// Text that people see or hear, each with where it stands; not what a mark says is data (a name, a key, a moment).
() => {
  document.querySelectorAll("details").forEach((one) => { one.open = true; });
  const data = "bdi, code, time, .key, option:not([value]), datalist, .languages, .brand";
  const shown = (one) => one && !one.closest("script, style, [hidden], template") && !one.closest(data);
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walker.nextNode());) {
    const text = node.nodeValue.trim();
    if (text && shown(node.parentElement)) found.push([text, node.parentElement.tagName]);
  }
  for (const name of ["aria-label", "title", "placeholder", "alt"])
    for (const one of document.querySelectorAll(`[${name}]`))
      if (shown(one)) found.push([one.getAttribute(name), `${one.tagName} ${name}`]);
  return found;
}
