"""What works and what is missing, before a night run finds out: tokens, scopes, records, versions, disk, lock."""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from math import ceil
from pathlib import Path
from typing import Any, Literal

import duckdb
import msgspec

from hub_pipeline.errors import HubPipelineError, LockHeldError, WarehouseError
from hub_pipeline.settings import Environment, HubSpot, HubSpotObject, Settings
from hub_pipeline.sources.hubspot.client import (
    ACCOUNTS,
    ASSOCIATION_BATCH,
    HISTORY_PAGE,
    MAX_ADDRESS,
    PAGE,
    TYPE_IDS,
    WITH_PIPELINES,
    HubSpotClient,
    Page,
    PropertyDefinition,
)
from hub_pipeline.sources.hubspot.plan import cursor_property
from hub_pipeline.sources.hubspot.streams import properties_to_read
from hub_pipeline.sources.intercom.client import (
    CONTACTS,
    CONVERSATIONS,
    TICKETS,
    IntercomClient,
    Searched,
)
from hub_pipeline.sources.stripe.client import StripeClient
from hub_pipeline.sources.stripe.streams import EVENTS, KINDS
from hub_pipeline.sources.transport import Budget, ForbiddenError, RejectedError
from hub_pipeline.warehouse.lock import RunLock

Level = Literal["ok", "warning", "error"]

#: Asking a few questions takes seconds; a source that needs longer is a finding of its own.
TIME_BUDGET_SECONDS = 60
LOW_DISK_BYTES = 2 * 1024**3

_DEFINITIONS = msgspec.json.Decoder(PropertyDefinition)


class _ChosenList(msgspec.Struct):
    name: str = "unnamed"


_CHOSEN = msgspec.json.Decoder(_ChosenList)


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: ``error``: a run will fail; ``warning``: something will be missing; ``ok``.
        subject: what was looked at, such as ``hubspot contacts``.
        message: what was found, and what to do about it.
        exit_code: what an error is the fault of, as the commands say it (`hub_pipeline.errors`); else 0.
    """

    level: Level
    subject: str
    message: str
    exit_code: int = 0


def _broken(subject: str, error: HubPipelineError, *, said: str = "") -> Finding:
    return Finding("error", subject, f"{said}{error}", error.exit_code)


def doctor(settings: Settings, environment: Environment) -> list[Finding]:
    """Look at everything a run needs, without changing anything; never raises for what it looks at.

    Asks HubSpot two or three requests for each configured object and list, Intercom three and Stripe seven altogether.
    """
    return [
        *_versions(environment),
        *_folder(environment.data_dir),
        *_hubspot(settings, environment),
        *_intercom(settings, environment),
        *_billing(settings, environment),
        *_stripe(settings, environment),
    ]


def _versions(environment: Environment) -> Iterator[Finding]:
    source = f"read from {environment.settings_file}" if environment.settings_file else "the defaults"
    yield Finding("ok", "settings", f"valid, {source}")
    yield Finding(
        "ok",
        "versions",
        f"hub-pipeline {metadata.version('hub-pipeline')}, Python {platform.python_version()}, "
        f"DuckDB {duckdb.__version__}, Dagster {metadata.version('dagster')}, "
        f"hubspot-api-client {metadata.version('hubspot-api-client')}",
    )


def _folder(data_dir: Path) -> Iterator[Finding]:
    existing = data_dir.absolute()
    # Unlike Path.exists this says no, and raises nothing, where a folder above may not be entered.
    while not os.path.exists(existing):
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        reason = "may not be written" if existing.is_dir() else "is not a folder"
        yield Finding(
            "error",
            "data folder",
            f"{data_dir} cannot be used, because {existing} {reason}; give the user who runs hub-pipeline the right "
            "to write there, or set HUB_DATA_DIR to another folder",
            WarehouseError.exit_code,
        )
        return
    free = shutil.disk_usage(existing).free
    size = f"{free / 1024**3:,.1f} GB free at {existing}"
    if free < LOW_DISK_BYTES:
        yield Finding("warning", "disk", f"only {size}; landing keeps everything that was read, so make room")
    else:
        yield Finding("ok", "disk", size)
    if not (data_dir / "run.lock").exists():
        yield Finding("ok", "lock", f"no run has used {data_dir} yet")
        return
    try:
        with RunLock(data_dir):
            yield Finding("ok", "lock", "no run is at work")
    except LockHeldError as error:
        yield Finding("warning", "lock", str(error))
    except WarehouseError as error:
        yield _broken("lock", error)


# HubSpot


def _hubspot(settings: Settings, environment: Environment) -> Iterator[Finding]:
    if environment.hubspot_access_token is None:
        yield Finding(
            "warning",
            "hubspot",
            "not configured: set HUBSPOT_ACCESS_TOKEN; without it only what billing and Intercom tell is answered",
        )
        return
    try:
        with HubSpotClient(settings.hubspot, environment, _patience("HubSpot")) as client:
            yield from _portal(settings, environment, client)
    except HubPipelineError as error:
        yield _broken("hubspot", error)


def _patience(source: str) -> Budget:
    return Budget(source, TIME_BUDGET_SECONDS, setting=None, kept="Nothing was changed")


def _portal(settings: Settings, environment: Environment, client: HubSpotClient) -> Iterator[Finding]:
    account = ACCOUNTS.decode(client.account())
    yield Finding(
        "ok",
        "hubspot",
        f"account {account.portalId}, time zone {account.timeZone or 'unknown'}, "
        f"API version {environment.hubspot_api_version}, the token is accepted",
    )
    try:
        usage = client.record_usage()
    except (ForbiddenError, RejectedError) as error:
        usage = {}
        yield Finding("warning", "hubspot records", f"the numbers of records are unknown: {error}")
    requests = _shared_requests(settings.hubspot, usage)
    for name, config in settings.hubspot.objects.items():
        finding, needed = _object(client, settings.hubspot, name, config, usage)
        requests += needed
        yield finding
    yield from _users_and_lists(client, settings.hubspot)
    yield Finding(
        "ok",
        "hubspot full load",
        f"about {requests:,} requests for these records and their associations, for which the limit of "
        f"{_capacity(settings.hubspot)} requests in 10 s allows {_least_time(requests, settings.hubspot)}",
    )


def _capacity(hubspot: HubSpot) -> int:
    return int(hubspot.requests_per_10_seconds * (1 - hubspot.reserve))


def _least_time(requests: int, hubspot: HubSpot) -> str:
    """How long so many requests take at the account's limit, whatever else is quick."""
    seconds = max(0, ceil(requests / _capacity(hubspot)) - 1) * 10
    return f"at least {seconds:,} s" if seconds else "less than a second"


def _users_and_lists(client: HubSpotClient, hubspot: HubSpot) -> Iterator[Finding]:
    yield _first_page("hubspot owners", lambda: client.owners_page(None, archived=False))
    if hubspot.users:
        advice = "Give the token that scope, or set hubspot.users to false"
        yield _first_page("hubspot users", lambda: client.users_page(None), advice)
    for list_id in dict.fromkeys(hubspot.lists):
        subject = f"hubspot list {list_id}"
        try:
            chosen = _CHOSEN.decode(client.list_definition(list_id))
            members = _first_page(subject, partial(client.members_page, list_id, None))
        except (ForbiddenError, RejectedError) as error:
            yield Finding("warning", subject, f"cannot be read: {error}")
        else:
            yield replace(members, message=f"{chosen.name}: {members.message}")


def _first_page(subject: str, ask: Callable[[], Page], advice: str = "") -> Finding:
    """Whether a list may be read, and how many records it has at least; a run goes on without it."""
    try:
        page = ask()
    except (ForbiddenError, RejectedError) as error:
        return Finding("warning", subject, f"cannot be read: {error} {advice}".rstrip())
    more = " or more" if page.after is not None else ""
    return Finding("ok", subject, f"{len(page.results):,}{more} records")


def _shared_requests(hubspot: HubSpot, usage: dict[str, int]) -> int:
    """Requests beside the records: account, owners (active and archived), users, lists, pipelines, associations."""
    sources = [hubspot.objects[source].object_type for source, _ in dict.fromkeys(hubspot.associations)]
    associations = sum(ceil(usage.get(TYPE_IDS.get(t, t), 0) / ASSOCIATION_BATCH) for t in sources)
    pipelines = sum(config.object_type in WITH_PIPELINES for config in hubspot.objects.values())
    return 1 + 2 + hubspot.users + 2 * len(hubspot.lists) + pipelines + associations


def _object(
    client: HubSpotClient, hubspot: HubSpot, name: str, config: HubSpotObject, usage: dict[str, int]
) -> tuple[Finding, int]:
    """What reading one object will meet, and how many requests a full load of it takes."""
    subject = f"hubspot {name}"
    try:
        known = {_DEFINITIONS.decode(d).name for d in client.properties(config.object_type)}
        client.page(client.list_path(config.object_type, ["hs_object_id"], limit=1))
        count = _count(client, config, usage)
    except (ForbiddenError, RejectedError) as error:
        if config.optional:
            return Finding("warning", subject, f"cannot be read: {error}"), 0
        return _broken(subject, error, said="cannot be read: "), 0
    history = [p for p in config.history if p in known]
    pages = ceil((count or 0) / (HISTORY_PAGE if history else PAGE))
    read = properties_to_read(config, sorted(known))
    if len(client.list_path(config.object_type, read, history, after="9" * 20)) > MAX_ADDRESS:
        pages += ceil((count or 0) / PAGE)  # a list of ids, then the records by id
    requests = 2 + pages
    amount = "an unknown number of records" if count is None else f"{count:,} records"
    message = (
        f"{amount}, {len(known)} properties, about {requests:,} requests for a full load, "
        f"{_least_time(requests, hubspot)} at the limit"
    )
    if cursor_property(config.object_type, known) is None:
        message += "; every run reads it in full, because it has no last-modified property to search by"
    absent = sorted({p for p in (*config.properties.values(), *config.history) if p and p not in known})
    if absent:
        return (
            Finding(
                "warning",
                subject,
                f"{message}; the portal does not have {', '.join(absent)}: map them under "
                f"hubspot.objects.{name}.properties, or what needs them stays empty",
            ),
            requests,
        )
    return Finding("ok", subject, message), requests


def _count(client: HubSpotClient, config: HubSpotObject, usage: dict[str, int]) -> int | None:
    """Live records: as the account counts them, else as search does; None if neither does."""
    counted = usage.get(TYPE_IDS.get(config.object_type, config.object_type))
    if counted is not None:
        return counted
    try:
        return client.search(config.object_type, {"limit": 1, "properties": ["hs_object_id"]}).total
    except (ForbiddenError, RejectedError):
        return None


# Intercom and billing


def _intercom(settings: Settings, environment: Environment) -> Iterator[Finding]:
    if environment.intercom_access_token is None:
        yield Finding(
            "warning",
            "intercom",
            "not configured: set INTERCOM_ACCESS_TOKEN; without it hub.tier_ab_interactions stays empty",
        )
        return
    try:
        with IntercomClient(settings.intercom, environment, _patience("Intercom")) as client:
            app = client.me()
            yield Finding(
                "ok",
                "intercom",
                f"workspace {app.id_code}, API version {settings.intercom.api_version}, the token is accepted",
            )
            asked: tuple[Searched[Any], ...] = (CONTACTS, CONVERSATIONS, TICKETS)
            for searched in asked:
                if searched.name in settings.intercom.leave_out:
                    continue
                try:
                    count = client.count(searched)
                except (ForbiddenError, RejectedError) as error:
                    yield Finding("warning", f"intercom {searched.name}", f"cannot be read: {error}")
                else:
                    yield Finding("ok", f"intercom {searched.name}", f"{count:,} records")
    except HubPipelineError as error:
        yield _broken("intercom", error)


def _billing(settings: Settings, environment: Environment) -> Iterator[Finding]:
    folder = environment.data_dir / settings.billing.folder  # an absolute folder stays what it is
    if not os.path.isdir(folder):
        if environment.stripe_api_key is None:
            without = "without extracts there is no MRR, growth, churn or renewal to speak of"
            yield Finding("warning", "billing", f"there is no folder {folder}; {without}")
        else:
            yield Finding(
                "ok", "billing", f"there is no folder {folder}, and need not be: Stripe does the same"
            )
        return
    files = sum(1 for path in folder.rglob("*") if path.is_file())
    level: Level = "ok" if files else "warning"
    yield Finding(level, "billing", f"{files} files in {folder}")


def _stripe(settings: Settings, environment: Environment) -> Iterator[Finding]:
    if environment.stripe_api_key is None:
        yield Finding("ok", "stripe", "not configured, and need not be: billing extracts do the same")
        return
    key = environment.stripe_api_key.get_secret_value()
    if key.startswith("sk_"):
        yield Finding(
            "warning",
            "stripe key",
            "this key may do everything; make a restricted one (rk_...) with read permissions only",
        )
    try:
        with StripeClient(settings.stripe, environment, _patience("Stripe")) as client:
            for name in (*KINDS, EVENTS):
                try:
                    if name == EVENTS:
                        client.events(int(time.time()) - 86_400, None)
                    else:
                        client.page(KINDS[name].path, None)
                except ForbiddenError as error:
                    required = name in KINDS and KINDS[name].required
                    exit_code = error.exit_code if required else 0
                    level: Level = "error" if required else "warning"
                    yield Finding(level, f"stripe {name}", f"cannot be read: {error}", exit_code)
                else:
                    version = settings.stripe.api_version
                    yield Finding("ok", f"stripe {name}", f"can be read, API version {version}")
    except HubPipelineError as error:
        yield _broken("stripe", error)
