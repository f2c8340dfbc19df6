"""All settings as commented TOML: what `hub-pipeline settings` prints and what settings.toml ships."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from rich.console import Console

from hub_pipeline.settings import Settings


def render_settings(settings: Settings) -> str:
    """Every key with its type, default and meaning, as a TOML file that can be copied and changed.

    A value that equals its default, or is empty, is written as a comment; a changed one is live.
    """
    lines = [
        "# Settings of hub-pipeline. Every line that is commented out is the default.",
        "# Use it with HUB_SETTINGS=<file> or --settings <file>. Secrets are never settings; they come from the",
        "# environment (see the README).",
        "",
    ]
    _group(lines, settings, ())
    return "\n".join(lines).rstrip() + "\n"


def _group(lines: list[str], values: BaseModel, path: tuple[str, ...]) -> None:
    defaults = type(values)() if not path or not _required(type(values)) else None
    groups: list[tuple[str, BaseModel]] = []
    tables: list[tuple[str, dict[str, Any], FieldInfo]] = []
    for key, field in type(values).model_fields.items():
        value = getattr(values, key)
        if isinstance(value, BaseModel):
            groups.append((key, value))
            continue
        if isinstance(value, dict) and value and all(isinstance(v, BaseModel) for v in value.values()):
            if field.description:
                lines.append(f"# {key}: {field.description}")
            for name, item in value.items():
                groups.append((f"{key}.{name}", item))
            continue
        if isinstance(value, dict) and len(value) > 4:
            tables.append((key, value, field))
            continue
        default = (
            getattr(defaults, key) if defaults is not None else field.get_default(call_default_factory=True)
        )
        lines.append(f"# {field.description} ({_kind(field)})")
        mark = "" if value != default else "# "
        lines.append(f"{mark}{key} = {_toml(value)}" if value is not None else f"# {key} =")
    for key, table, field in tables:
        lines += ["", f"# {field.description}", f"[{'.'.join((*path, key))}]"]
        lines += [f"{_toml(str(name))} = {_toml(value)}" for name, value in table.items()]
    for key, group in groups:
        name = (*path, *key.split("."))
        lines.append("")
        if "." not in key:
            lines.append(f"# {(type(group).__doc__ or '').strip().splitlines()[0]}")
        lines.append(f"[{'.'.join(name)}]")
        _group(lines, group, name)


def _required(model: type[BaseModel]) -> bool:
    return any(field.is_required() for field in model.model_fields.values())


def _kind(field: FieldInfo) -> str:
    annotation = field.annotation
    text = getattr(annotation, "__name__", None) if not getattr(annotation, "__args__", None) else None
    return text or str(annotation).replace("typing.", "").replace("decimal.", "").replace("datetime.", "")


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | Decimal):
        return str(value)
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_toml(v) for v in value) + "]"
    if isinstance(value, dict):
        return (
            "{ " + ", ".join(f"{_toml(str(k))} = {_toml(v)}" for k, v in value.items()) + " }"
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
