"""Services whose every answer is full, with a text that breaks pages in every field that has one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from tests.unit.portal.fakes import FakeBackend

#: A name of 200 characters that a page has to show as text: HTML, a script, quotes of attributes, writing
#: from right to left and its override, Chinese, a family of emoji, and one word without a place to break.
_BROKEN = (
    "<script>alert(1)</script><img src=x onerror=alert(2)>\"' onmouseover='alert(3)' &lt;b&gt; {{ 7*7 }} "
)
_FOREIGN = "\u202eשם المريض\u202c 注射用头孢 👩🏽‍🔬💊 "
TEXT = (_BROKEN + _FOREIGN).ljust(200, "W")
#: A list is read to its end: there is none behind what is told.
_ENDS = {"next_page_token"}
_DEEPEST, _ROWS = 9, 2
_NUMBERS: dict[int, Any] = {
    FieldDescriptor.CPPTYPE_DOUBLE: 2.5,
    FieldDescriptor.CPPTYPE_FLOAT: 2.5,
    FieldDescriptor.CPPTYPE_BOOL: True,
}


@dataclass(frozen=True)
class Filler:
    """`said` is what fields of a name say instead of the text; `nth` picks among the values of an enum."""

    said: Mapping[str, str] = field(default_factory=dict)
    nth: int = 1

    def message(self, kind: Any) -> Any:
        """A message of a kind with every field set."""
        made = kind()
        self._fill(made, ())
        return made

    def _fill(self, made: Message, above: tuple[str, ...]) -> None:
        kind: Any = made.DESCRIPTOR
        if kind.full_name == "google.protobuf.Timestamp":
            made.FromJsonString("2026-03-12T01:30:00Z")  # type: ignore[attr-defined]
            return
        above = (*above, kind.full_name)
        for one in kind.fields:
            if one.name in _ENDS:
                continue
            inner = one.message_type
            if inner and (len(above) > _DEEPEST or inner.full_name in above):
                continue
            if inner and inner.GetOptions().map_entry:
                self._map(getattr(made, one.name), inner, above)
            elif one.is_repeated:
                for _ in range(_ROWS):
                    if inner:
                        self._fill(getattr(made, one.name).add(), above)
                    else:
                        getattr(made, one.name).append(self._value(one))
            elif inner:
                getattr(made, one.name).SetInParent()
                self._fill(getattr(made, one.name), above)
            else:
                setattr(made, one.name, self._value(one))

    def _map(self, made: Any, entry: Descriptor, above: tuple[str, ...]) -> None:
        key, value = (entry.fields_by_name[name] for name in ("key", "value"))
        if value.message_type:
            self._fill(made[self._value(key)], above)
        else:
            made[self._value(key)] = self._value(value)

    def _value(self, one: FieldDescriptor) -> Any:
        if one.cpp_type == FieldDescriptor.CPPTYPE_STRING:
            text = self.said.get(one.name, TEXT)
            return text.encode() if one.type == FieldDescriptor.TYPE_BYTES else text
        if one.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
            kind: Any = one.enum_type
            values = [each.number for each in kind.values]
            return values[min(self.nth, len(values) - 1)]
        return _NUMBERS.get(one.cpp_type, 12)


@dataclass
class FilledBackend(FakeBackend):
    """Whatever it is asked, the answer has every field set."""

    filler: Filler = field(default_factory=Filler)

    def _answer(self, service: str, method: str, fields: dict[str, Any]) -> Any:
        if (service, method) in self.answers:
            return super()._answer(service, method, fields)
        domain = "common" if method == "GetStatus" else service.partition(".")[0]
        module = import_module(f"pharmaloop.{domain}.v1.service_pb2")
        return self.filler.message(getattr(module, f"{method}Response"))
