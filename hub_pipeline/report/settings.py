"""All settings as commented TOML: what `hub-pipeline settings` prints and what settings.toml ships."""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal
from functools import cache
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from rich.console import Console

from hub_pipeline.models.graph import MODELS_FOLDER, InputTable, read_inputs
from hub_pipeline.settings import COLUMN_MEANINGS, HubSpotObject, Settings, extra_history

_WORDS = {str: "text", int: "whole number", Decimal: "number", bool: "yes/no", date: "date"}

#: HubSpot object -> canonical table whose columns of the same name have the same meaning.
_TABLES = {
    "organisations": "organisations",
    "contacts": "contacts",
    "deals": "deals",
    "feedback_submissions": "nps_responses",
    **dict.fromkeys(("notes", "tasks", "emails", "calls", "meetings"), "engagements"),
}


def render_settings(settings: Settings) -> str:
    """Every key with its type, default and meaning, as a TOML file that can be copied and changed.

    A value that equals its default is written as a comment; a changed one is live, with its default beside it.
    """
    lines = [
        "# Settings of hub-pipeline. Every line that is commented out is the default; a live one is a change.",
        "# Use it with HUB_SETTINGS=<file> or --settings <file>. Secrets are never settings; they come from the",
        "# environment (see the README).",
        "",
    ]
    _group(lines, settings, Settings(), ())
    return "\n".join(lines).rstrip() + "\n"


def _group(lines: list[str], values: BaseModel, defaults: BaseModel | None, path: tuple[str, ...]) -> None:
    groups: list[tuple[tuple[str, ...], BaseModel, BaseModel | None, str]] = []
    tables: list[tuple[str, dict[str, Any], Any, FieldInfo]] = []
    dropped: list[str] = []
    for key, field in type(values).model_fields.items():
        value = getattr(values, key)
        default = field.get_default(call_default_factory=True) if defaults is None else getattr(defaults, key)
        if isinstance(values, HubSpotObject) and key == "history":
            value = extra_history(path[-1], values)
            default = extra_history(path[-1], defaults) if isinstance(defaults, HubSpotObject) else default
        if isinstance(value, BaseModel):
            groups.append(((key,), value, default, (type(value).__doc__ or "").strip().splitlines()[0]))
        elif key == "objects":
            groups += [((key, name), item, default.get(name), "") for name, item in value.items()]
            dropped = [f"[{_name((*path, key, name))}]" for name in default if name not in value]
        elif (isinstance(values, HubSpotObject) and key == "properties" and (value or default)) or (
            isinstance(value, dict) and len(value) > 4 and value != default
        ):
            tables.append((key, value, default, field))
        else:
            lines.append(f"# {field.description} ({_kind(field.annotation)})")
            lines += _line(key, value, default)
    for key, table, default, field in tables:
        lines += ["", f"# {field.description} ({_kind(field.annotation)})"]
        if isinstance(values, HubSpotObject):
            lines += [f"[{_name((*path, key))}]", *_mapping(path[-1], table, default)]
        else:
            lines += [f"# default: {_toml(default)}", f"[{_name((*path, key))}]"]
            lines += [f"{_key(name)} = {_toml(value)}" for name, value in table.items()]
    for keys, group, default, title in groups:
        lines += ["", *([f"# {title}"] if title else []), f"[{_name((*path, *keys))}]"]
        _group(lines, group, default, (*path, *keys))
    for header in dropped:
        lines += ["", header, "# read at all (yes/no)", *_line("enabled", False, True)]


def _line(key: str, value: Any, default: Any) -> list[str]:
    """The key with its value, as a comment when it is the default, else below a comment with the default."""
    if value == default:
        return [f"# {key} =" if value is None else f"# {key} = {_toml(value)}"]
    known = (
        []
        if default is PydanticUndefined
        else [f"# default: {'none' if default is None else _toml(default)}"]
    )
    return [*known, f"{key} = {_toml(value)}"]


def _mapping(name: str, mapping: dict[str, str], defaults: dict[str, str]) -> list[str]:
    """Lines of a mapping with the meaning of each canonical column; a column without a property is ``""``."""
    lines = []
    for column in dict.fromkeys((*defaults, *mapping)):
        value, default = mapping.get(column, ""), defaults.get(column, "")
        line = f"{_key(column)} = {_toml(value)}  # {_meaning(name, column)}"
        lines.append(f"# {line}" if value == default else f"{line} (default: {_toml(default)})")
    return lines


@cache
def _inputs() -> dict[str, InputTable]:
    return read_inputs(MODELS_FOLDER / "inputs.yaml")


def _meaning(name: str, column: str) -> str:
    table = _inputs().get(_TABLES.get(name, ""))
    if table is not None and column in table.columns:
        return table.columns[column].meaning
    return COLUMN_MEANINGS.get(column, "not a column the models know")


def _kind(annotation: Any) -> str:
    """The type of a key in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(arguments[0])
    if origin in (Union, UnionType):
        return _kind(next(a for a in arguments if a is not type(None)))
    if origin is Literal:
        return f"one of {', '.join(arguments)}"
    if origin is tuple:
        return "pair of text" if Ellipsis not in arguments else f"list of {_plural(_kind(arguments[0]))}"
    if origin is dict:
        kind = _kind(arguments[1])
        return f"table, each value {kind}" if kind.startswith("one of") else "table"
    return _WORDS[annotation]


def _plural(kind: str) -> str:
    return kind.removeprefix("one of ").replace("pair ", "pairs ")


def _name(path: tuple[str, ...]) -> str:
    return ".".join(map(_key, path))


def _key(name: str) -> str:
    return name if re.fullmatch("[A-Za-z0-9_-]+", name) else _toml(name)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | Decimal):
        return str(value)
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    if isinstance(value, dict):
        return (
            "{ " + ", ".join(f"{_key(str(k))} = {_toml(v)}" for k, v in value.items()) + " }"
            if value
            else "{}"
        )
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def print_settings(settings: Settings, console: Console) -> None:
    """Print `render_settings` as it is, so that it can be redirected into a file."""
    console.print(render_settings(settings), markup=False, highlight=False, soft_wrap=True, end="")
