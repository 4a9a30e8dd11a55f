"""Text in drawings, which does not wrap: as much of it as there is room for, and all of it for who asks."""

from __future__ import annotations

from markupsafe import Markup, escape


def fit(text: str, room: int) -> str:
    """What `room` letters show of a text; Chinese takes twice the room."""
    kept = ""
    for letter in text:
        room -= 2 if ord(letter) > 0x2E80 else 1
        if room < 0:
            return kept[:-1] + "…"
        kept += letter
    return kept


def written(text: str, room: int) -> Markup:
    """The content of a text element: what there is room for; where that is less, all of it as its title."""
    shown = fit(text, room)
    return escape(shown) if shown == text else Markup("{}<title>{}</title>").format(shown, text)
