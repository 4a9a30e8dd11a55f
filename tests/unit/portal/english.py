"""What of a page is left in English: sentences that stand outside of names, keys and moments."""

from __future__ import annotations

import re
from html.parser import HTMLParser

#: What these hold is data: a name, a person's words, a key, a moment. Marked as English it counts as well.
_DATA = frozenset({"bdi", "code", "time", "script", "style", "title", "textarea", "datalist"})
_EMPTY = frozenset({"input", "meta", "link", "br", "hr", "img", "path", "line", "rect", "circle", "text"})
_SENTENCE = re.compile(r"[A-Za-z][A-Za-z’'-]*(?:[ ,;:]+[A-Za-z][A-Za-z’'-]*){2,}")


class _Texts(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[tuple[str, bool]] = []
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        classes = (told.get("class") or "").split()
        english = (told.get("lang") or "").startswith("en") and tag not in ("html", "button")
        data = (tag in _DATA or "key" in classes or "languages" in classes) and not english
        if tag not in _EMPTY:
            self.open.append((tag, data))

    def handle_endtag(self, tag: str) -> None:
        while self.open:
            name, _ = self.open.pop()
            if name == tag:
                return

    def handle_data(self, data: str) -> None:
        if not any(one for _, one in self.open):
            self.found.append(data)


def sentences(html: str) -> list[str]:
    """Three English words or more in a row that a Chinese reader meets, not what a person wrote."""
    texts = _Texts()
    texts.feed(html)
    return [found for text in texts.found for found in _SENTENCE.findall(" ".join(text.split()))]
