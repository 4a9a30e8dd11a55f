"""The reference of the contract, a page for each package, made from the comments of the .proto files.

Read from a descriptor set with source information (`buf build`), so that what is printed is what
is compiled.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
    ServiceDescriptorProto,
)

from deploy.local.stamps import ROOT
from pharmaloop.options.v1 import options_pb2 as options

PAGES = ROOT / "docs" / "partners" / "reference"
_TOP = "pharmaloop."
_HEAD = "<!-- Made by `make partner-kit` from the comments in proto/. Do not edit. -->"
#: Numbers of the fields of a descriptor, which make the paths of source information.
_MESSAGES, _ENUMS, _SERVICES = 4, 5, 6
_FIELDS, _NESTED, _NESTED_ENUMS, _VALUES, _METHODS = 2, 3, 4, 2, 2
_SCALARS = {number: name.removeprefix("TYPE_").lower() for name, number in FieldDescriptorProto.Type.items()}
Path_ = tuple[int, ...]


def descriptor_set(target: Path) -> bytes:
    """Compile proto/ into `target`, a descriptor set with comments and all imports; answers its bytes."""
    buf = Path(sys.executable).with_name("buf")
    subprocess.run([str(buf), "build", "proto", "-o", str(target)], cwd=ROOT, check=True)
    return target.read_bytes()


@dataclass(frozen=True)
class File:
    """A .proto file with its comments by path."""

    proto: FileDescriptorProto
    comments: dict[Path_, str]

    def comment(self, *path: int) -> str:
        return self.comments.get(path, "")


def read(data: bytes) -> list[File]:
    """The contract's own files, by name."""
    found = []
    for proto in FileDescriptorSet.FromString(data).file:
        if proto.package.startswith(_TOP):
            said = {tuple(at.path): _line(at.leading_comments) for at in _locations(proto)}
            found.append(File(proto, said))
    return sorted(found, key=lambda file: file.proto.name)


def _locations(proto: FileDescriptorProto) -> Iterator[Any]:
    return (at for at in proto.source_code_info.location if at.leading_comments)


def _line(comment: str) -> str:
    """A comment as one line that fits into a table."""
    return " ".join(comment.split()).replace("|", r"\|")


def pages(data: bytes) -> dict[str, str]:
    """The text of every page by its name, from a descriptor set."""
    packages: dict[str, list[File]] = defaultdict(list)
    for file in read(data):
        packages[file.proto.package].append(file)
    texts = {_page(package): _package(package, files) for package, files in packages.items()}
    return {"README.md": _index(packages), **texts}


def _page(package: str) -> str:
    """File name of a package's page: "pharmaloop.production.v1" is on production.v1.md."""
    return f"{package.removeprefix(_TOP)}.md"


def _index(packages: dict[str, list[File]]) -> str:
    lines = ["# API reference", "", _HEAD, "", "| package | service | what it does |", "|---|---|---|"]
    for package, files in sorted(packages.items()):
        rows = [
            (service.name, file.comment(_SERVICES, number))
            for file in files
            for number, service in enumerate(file.proto.service)
        ]
        for name, told in rows or [("", "Types only.")]:
            lines.append(f"| [{package}]({_page(package)}) | {_code(name)} | {told} |")
    return "\n".join(lines) + "\n"


def _package(package: str, files: list[File]) -> str:
    lines = [f"# {package}", "", _HEAD, ""]
    for file in files:
        for number, service in enumerate(file.proto.service):
            lines += _service(file, number, service)
    for file in files:
        for number, message in enumerate(file.proto.message_type):
            lines += _message(file, (_MESSAGES, number), message, "")
        for number, enum in enumerate(file.proto.enum_type):
            lines += _enum(file, (_ENUMS, number), enum, "")
    return "\n".join(lines).rstrip() + "\n"


def _service(file: File, number: int, service: ServiceDescriptorProto) -> list[str]:
    path = (_SERVICES, number)
    lines = [f"## {service.name}", "", file.comment(*path), ""]
    lines += ["| call | asks with | answers | what it does |", "|---|---|---|---|"]
    for at, method in enumerate(service.method):
        told = file.comment(*path, _METHODS, at)
        asks, answers = _sides(file, method)
        lines.append(f"| `{method.name}` | {asks} | {answers} | {told} |")
    return [*lines, ""]


def _sides(file: File, method: MethodDescriptorProto) -> tuple[str, str]:
    asks = ("stream of " if method.client_streaming else "") + _link(file, method.input_type)
    answers = ("stream of " if method.server_streaming else "") + _link(file, method.output_type)
    return asks, answers


def _message(file: File, path: Path_, message: DescriptorProto, outer: str) -> list[str]:
    name = f"{outer}{message.name}"
    told = " ".join([file.comment(*path), _class(message.options)])
    lines = [f"### {name}", "", told.strip(), ""]
    if message.field:
        lines += ["| field | number | type | meaning |", "|---|---|---|---|"]
    maps = {f".{file.proto.package}.{name}.{n.name}": n for n in message.nested_type if n.options.map_entry}
    for number, field in enumerate(message.field):
        meaning = file.comment(*path, _FIELDS, number)
        if field.options.deprecated:
            meaning = f"**Deprecated.** {meaning}"
        if field.HasField("oneof_index") and not field.proto3_optional:
            meaning = f"One of `{message.oneof_decl[field.oneof_index].name}`. {meaning}"
        lines.append(f"| `{field.name}` | {field.number} | {_type(file, field, maps)} | {meaning} |")
    lines.append("")
    for number, inner in enumerate(message.nested_type):
        if not inner.options.map_entry:
            lines += _message(file, (*path, _NESTED, number), inner, f"{name}.")
    for number, enum in enumerate(message.enum_type):
        lines += _enum(file, (*path, _NESTED_ENUMS, number), enum, f"{name}.")
    return lines


def _class(message_options: Any) -> str:
    known: Any = options.data_class
    number = message_options.Extensions[known]
    return f"(Class {options.DataClass.Name(number).removeprefix('DATA_CLASS_')}.)" if number else ""


def _type(file: File, field: FieldDescriptorProto, maps: dict[str, DescriptorProto]) -> str:
    entry = maps.get(field.type_name)
    if entry is not None:
        key, value = entry.field
        return f"map of {_type(file, key, {})} to {_type(file, value, {})}"
    kind = _link(file, field.type_name) if field.type_name else _SCALARS[field.type]
    if field.label == FieldDescriptorProto.LABEL_REPEATED:
        return f"repeated {kind}"
    return f"optional {kind}" if field.proto3_optional else kind


def _link(file: File, full: str) -> str:
    """A type's name that leads to where it is described; ".pharmaloop.common.v1.Receipt"."""
    name = full.removeprefix(".")
    if not name.startswith(_TOP):
        return f"`{name}`"
    package, _, short = name.partition(".v1.")
    package += ".v1"
    page = "" if package == file.proto.package else _page(package)
    return f"[{short}]({page}#{short.replace('.', '').lower()})"


def _enum(file: File, path: Path_, enum: EnumDescriptorProto, outer: str) -> list[str]:
    lines = [
        f"### {outer}{enum.name}",
        "",
        file.comment(*path),
        "",
        "| value | number | meaning |",
        "|---|---|---|",
    ]
    for number, value in enumerate(enum.value):
        lines.append(f"| `{value.name}` | {value.number} | {file.comment(*path, _VALUES, number)} |")
    return [*lines, ""]


def _code(name: str) -> str:
    return f"`{name}`" if name else ""


def stale(folder: Path, made: dict[str, str]) -> list[str]:
    """Names of pages that are not in the folder as they are made now, or that are there and made no more."""
    there = {path.name for path in folder.glob("*.md")}
    differ = {name for name, text in made.items() if name in there and (folder / name).read_text() != text}
    return sorted(differ | (there ^ made.keys()))


def write(folder: Path, made: dict[str, str]) -> None:
    """Bring the folder to what is made now."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in stale(folder, made):
        if name in made:
            (folder / name).write_text(made[name])
        else:
            (folder / name).unlink()


def make() -> dict[str, str]:
    """Every page from proto/ as it is now."""
    with tempfile.TemporaryDirectory() as scratch:
        return pages(descriptor_set(Path(scratch, "contract.binpb")))
