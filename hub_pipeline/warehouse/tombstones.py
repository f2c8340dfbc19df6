"""Who was erased, as salted hashes: enough to notice that a person has come back, not to tell who it was.

The file ``<landing>/erased.json`` is the one place; it lies with the landing files because a warehouse made again
from them must know it too.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from hub_pipeline.errors import WarehouseError
from hub_pipeline.warehouse.landing import make_private_folder, write_durably

#: What a hash is of: a HubSpot contact's id, an e-mail address in lower case, an Intercom contact's id.
Kind = Literal["contact", "email", "intercom"]
#: ``requested``: by `hub-pipeline erase`; ``hubspot``: a contact that was live is gone without having been archived.
Reason = Literal["requested", "hubspot"]

FILE_NAME = "erased.json"


@dataclass(frozen=True)
class Tombstones:
    """Salt and hashes.

    Attributes:
        salt: mixed into every hash of this warehouse.
        hashes: hash -> why it is there; the hash is of ``kind:value``.
    """

    salt: str
    hashes: Mapping[str, Reason]

    @classmethod
    def read(cls, landing_root: Path) -> Tombstones:
        """The tombstones of a warehouse; none, with a new salt, before the first.

        Raises:
            WarehouseError: the file is there and cannot be understood.
        """
        path = landing_root / FILE_NAME
        try:
            values = json.loads(path.read_bytes())
            return cls(str(values["salt"]), dict(values["hashes"]))
        except FileNotFoundError:
            return cls(secrets.token_hex(32), {})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise WarehouseError(
                f"The file {path}, which tells who was erased, cannot be read ({error}). Nothing was changed; put back "
                "a copy of it, or remove it and erase everybody again."
            ) from error

    def write(self, landing_root: Path) -> None:
        """Replace the file durably.

        Raises:
            WarehouseError: it cannot be written.
        """
        path = landing_root / FILE_NAME
        try:
            make_private_folder(landing_root)
            content = {"salt": self.salt, "hashes": dict(sorted(self.hashes.items()))}
            write_durably(path, json.dumps(content, indent=1).encode() + b"\n")
        except OSError as error:
            raise WarehouseError(
                f"The file {path} could not be written: {error.strerror}. Nobody was erased; make room and run again."
            ) from error

    def __bool__(self) -> bool:
        return bool(self.hashes)

    def hash_of(self, kind: Kind, value: str) -> str:
        """The hash of one identity."""
        return hashlib.sha256(f"{self.salt}{kind}:{value}".encode()).hexdigest()

    def hash_sql(self, kind: Kind, column: str) -> str:
        """SQL that gives the hash of a column's value (the salt is hexadecimal, so it needs no quoting)."""
        return f"sha256('{self.salt}{kind}:' || {column})"

    def with_values(self, kind: Kind, values: Iterable[str], reason: Reason) -> Tombstones:
        """These and more; a request outweighs what HubSpot did."""
        added: dict[str, Reason] = {
            one: "requested" if self.hashes.get(one) == "requested" else reason
            for one in (self.hash_of(kind, value) for value in values)
        }
        return replace(self, hashes={**self.hashes, **added})

    def without_values(self, kind: Kind, values: Iterable[str]) -> Tombstones:
        """These without some."""
        dropped = {self.hash_of(kind, value) for value in values}
        return replace(self, hashes={k: v for k, v in self.hashes.items() if k not in dropped})

    def known(self, kind: Kind, values: Iterable[str]) -> dict[str, Reason]:
        """Those of the values that were erased, with the reason."""
        found = ((value, self.hashes.get(self.hash_of(kind, value))) for value in values)
        return {value: reason for value, reason in found if reason is not None}
