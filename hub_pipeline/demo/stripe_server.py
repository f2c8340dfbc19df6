"""A Stripe account over HTTP, as strict as the real one: lists, expansion, events of thirty days, versions, limits.

The account lives on a clock of its own: `StripeAccount.advance` lets terms renew, trials and pauses end, scheduled
phases begin and cancellations take effect, each with the events that Stripe would send. What it knows to be true,
the seats of each customer over time, is written down as it happens (`StripeAccount.seats`), never worked out from
what the API shows.

Shapes follow the API of 2025-03-31 and later (terms and quantity on the items, discounts by id) and, for older
versions, the one before (terms on the subscription, the discount whole). Answers are printed over many lines.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.routing import Route

from hub_pipeline.demo.faults import Faults
from hub_pipeline.demo.wire import Refusal, Reply, Simulator, SimulatorClock, SlidingWindow

DEMO_KEY = "rk_live_demo_company"
VERSIONS = ("2024-06-20", "2025-03-31.basil", "2025-09-30.clover")
ITEM_TERMS = "2025-03-31"
DISCOUNT_SOURCES = "2025-09-30"
MAX_PAGE = 100
INLINE_ITEMS = 10
EVENT_DAYS = 30
MAX_EXPANSION = 4
STATUSES = {
    "active", "past_due", "unpaid", "canceled", "incomplete", "incomplete_expired", "trialing", "paused",
    "all", "ended",
}  # fmt: skip
_PAID = {"active", "past_due"}
_DAYS = {"day": 1, "week": 7, "month": 30, "year": 365}


class StripeAccount:
    """What one Stripe account holds, and what truly happened in it.

    Args:
        start: the instant it begins at (aware).
        version: the account's API version, which its events are written in.
    """

    def __init__(self, start: datetime, version: str = VERSIONS[-1]) -> None:
        self.now = start
        self.version = version
        self.lock = threading.RLock()
        self.records: dict[str, dict[str, dict[str, Any]]] = {
            kind: {}
            for kind in (
                "customers", "products", "prices", "coupons", "subscriptions", "subscription_schedules", "discounts"
            )
        }  # fmt: skip
        self.inline_prices: set[str] = set()
        self.events: list[dict[str, Any]] = []
        self.seats: list[tuple[datetime, str, str, int]] = []
        """(instant, customer, subscription, its paid seats from then on), in order."""
        self._numbers = 0

    # ---- truth --------------------------------------------------------------------------------------------------

    def seats_on(self, day: date) -> dict[str, int]:
        """Paid seats of each customer at the end of a day (UTC), customers without any left out."""
        close = datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)
        latest: dict[tuple[str, str], int] = {}
        for at, customer, subscription, seats in self.seats:
            if at < close:
                latest[customer, subscription] = seats
        found: dict[str, int] = {}
        for (customer, _), seats in latest.items():
            found[customer] = found.get(customer, 0) + seats
        return {customer: seats for customer, seats in found.items() if seats}

    def _write_truth(self, subscription: Mapping[str, Any]) -> None:
        seats = 0
        if subscription["status"] in _PAID:
            for item in subscription["items"]:
                product = self.records["products"][item["price"]["product"]]
                if product["metadata"].get("seat_role") == "seat":
                    seats += item.get("quantity", 0)
        self.seats.append((self.now, subscription["customer"], subscription["id"], seats))

    # ---- time ---------------------------------------------------------------------------------------------------

    def advance(self, seconds: float) -> None:
        """Let time pass; everything that falls due on the way happens at its own moment."""
        with self.lock:
            end = self.now + timedelta(seconds=seconds)
            while due := self._next_due(end):
                self.now, act = due
                act()
            self.now = end

    def _next_due(self, end: datetime) -> tuple[datetime, Callable[[], None]] | None:
        found: list[tuple[int, str, Callable[[], None]]] = []
        for s in self.records["subscriptions"].values():
            if s["status"] in ("canceled", "incomplete_expired"):
                continue
            if s["cancel_at"] is not None:
                found.append((s["cancel_at"], s["id"], partial(self._end, s)))
            if s["status"] == "trialing":
                found.append((s["trial_end"], s["id"], partial(self._convert, s)))
            if (resumes := (s["pause_collection"] or {}).get("resumes_at")) is not None:
                found.append((resumes, s["id"], partial(self._change, s, _collect_again)))
            renewal = min(item["current_period_end"] for item in s["items"])
            found.append((renewal, s["id"], partial(self._renew, s)))
        for plan in self.records["subscription_schedules"].values():
            if plan["status"] == "active":
                later = [f for f in plan["phases"] if f["start_date"] > plan["current_phase"]["start_date"]]
                found.extend((f["start_date"], plan["id"], partial(self._phase, plan, f)) for f in later)
                found.append((plan["phases"][-1]["end_date"], plan["id"], partial(self._complete, plan)))
        if not found:
            return None
        at, _, act = min(found, key=lambda one: one[:2])
        moment = datetime.fromtimestamp(at, UTC)
        return (max(moment, self.now), act) if moment <= end else None

    @property
    def _stamp(self) -> int:
        return int(self.now.timestamp())

    def _id(self, prefix: str) -> str:
        self._numbers += 1
        return f"{prefix}_{self._numbers:06d}"

    # ---- things to sell and to take off -------------------------------------------------------------------------

    def add_product(self, name: str, role: str | None = "seat") -> str:
        """A product; its role is metadata that the pipeline is told to read."""
        metadata = {} if role is None else {"seat_role": role}
        return self._add(
            "products", "prod", {"object": "product", "name": name, "active": True, "metadata": metadata}
        )

    def add_price(
        self,
        product: str,
        amount: str | None = "1000",
        *,
        currency: str = "usd",
        interval: str = "month",
        interval_count: int = 1,
        metered: bool = False,
        tiers: Sequence[Mapping[str, Any]] | None = None,
        tiers_mode: str | None = None,
        transform: Mapping[str, Any] | None = None,
        active: bool = True,
        inline: bool = False,
    ) -> str:
        """A price in minor units; `tiers` make it a tiered one, `inline` keeps it out of every list."""
        price = {
            "object": "price",
            "active": active,
            "billing_scheme": "tiered" if tiers else "per_unit",
            "currency": currency,
            "metadata": {},
            "nickname": None,
            "product": product,
            "recurring": {
                "interval": interval,
                "interval_count": interval_count,
                "usage_type": "metered" if metered else "licensed",
            },
            "tiers": list(tiers) if tiers else None,
            "tiers_mode": tiers_mode,
            "transform_quantity": dict(transform) if transform else None,
            "type": "recurring",
            "unit_amount": int(amount) if amount is not None and amount.isdigit() and not tiers else None,
            "unit_amount_decimal": None if tiers else amount,
        }
        price_id = self._add("prices", "price", price)
        if inline:
            self.inline_prices.add(price_id)
        return price_id

    def add_coupon(
        self, *, percent: float | None = None, amount: int | None = None, duration: str = "forever"
    ) -> str:
        """A coupon that takes off a percentage or an amount in US cents."""
        coupon = {
            "object": "coupon",
            "duration": duration,
            "percent_off": percent,
            "amount_off": amount,
            "currency": None if amount is None else "usd",
            "name": None,
            "valid": True,
        }
        return self._add("coupons", "coupon", coupon)

    def add_customer(
        self, name: str, organisation: str | None = None, *, livemode: bool = True, **more: Any
    ) -> str:
        """A customer whose metadata names its organisation."""
        customer = {
            "object": "customer",
            "name": name,
            "email": f"billing@{name.lower()}.example",
            "currency": "usd",
            "address": {
                "city": "Nowhere",
                "country": "DE",
                "line1": "Secret Street 1",
                "postal_code": "00000",
            },
            "phone": "+49 000 000",
            "discount": None,
            "metadata": {} if organisation is None else {"organisation_id": organisation},
            **more,
        }
        customer_id = self._add("customers", "cus", customer)
        self.records["customers"][customer_id]["livemode"] = livemode
        return customer_id

    def delete_customer(self, customer_id: str) -> None:
        """Delete a customer: its subscriptions end at once and it vanishes from the list."""
        with self.lock:
            for s in list(self.records["subscriptions"].values()):
                if s["customer"] == customer_id and s["status"] != "canceled":
                    self._end(s)
            customer = self.records["customers"].pop(customer_id)
            self._tell("customer.deleted", customer, None)

    def _add(self, kind: str, prefix: str, record: dict[str, Any]) -> str:
        with self.lock:
            record_id = self._id(prefix)
            self.records[kind][record_id] = {
                "id": record_id,
                "created": self._stamp,
                "livemode": True,
                **record,
            }
            return record_id

    # ---- subscriptions ------------------------------------------------------------------------------------------

    def subscribe(
        self,
        customer: str,
        items: Sequence[tuple[str, int | None]],
        *,
        trial_days: int = 0,
        status: str = "active",
        coupon: str | None = None,
    ) -> str:
        """Begin a subscription of (price, quantity) items."""
        with self.lock:
            now = self._stamp
            trial_end = now + trial_days * 86_400 if trial_days else None
            subscription: dict[str, Any] = {
                "id": self._id("sub"),
                "object": "subscription",
                "cancel_at": None,
                "cancel_at_period_end": False,
                "canceled_at": None,
                "cancellation_details": {"comment": None, "feedback": None, "reason": None},
                "collection_method": "charge_automatically",
                "created": now,
                "currency": self.records["prices"][items[0][0]]["currency"],
                "customer": customer,
                "discounts": [],
                "ended_at": None,
                "items": [],
                "latest_invoice": self._id("in"),
                "livemode": self.records["customers"][customer]["livemode"],
                "metadata": {},
                "pause_collection": None,
                "pending_update": None,
                "schedule": None,
                "start_date": now,
                "status": "trialing" if trial_days else status,
                "trial_end": trial_end,
                "trial_start": now if trial_days else None,
            }
            for price, quantity in items:
                subscription["items"].append(self._item(subscription["id"], price, quantity, trial_end))
            self.records["subscriptions"][subscription["id"]] = subscription
            if coupon is not None:
                subscription["discounts"] = [self._discount(coupon, subscription)]
            self._tell("customer.subscription.created", subscription, None)
            self._write_truth(subscription)
            return str(subscription["id"])

    def _item(
        self, subscription: str, price: str, quantity: int | None, end: int | None = None
    ) -> dict[str, Any]:
        priced = self.records["prices"][price]
        length = _DAYS[priced["recurring"]["interval"]] * priced["recurring"]["interval_count"] * 86_400
        item: dict[str, Any] = {
            "id": self._id("si"),
            "object": "subscription_item",
            "created": self._stamp,
            "current_period_start": self._stamp,
            "current_period_end": end or self._stamp + length,
            "discounts": [],
            "metadata": {},
            "price": {key: value for key, value in priced.items() if key != "tiers"},
            "quantity": quantity,
            "subscription": subscription,
        }
        if quantity is None:
            del item["quantity"]
        return item

    def set_quantity(self, subscription: str, quantity: int, position: int = 0) -> None:
        """Change the quantity of an item."""
        self._change(self._get(subscription), lambda s: s["items"][position].update(quantity=quantity))

    def add_item(self, subscription: str, price: str, quantity: int | None) -> None:
        """Add an item."""
        self._change(
            self._get(subscription), lambda s: s["items"].append(self._item(s["id"], price, quantity))
        )

    def remove_item(self, subscription: str, position: int) -> None:
        """Take an item away."""
        self._change(self._get(subscription), lambda s: s["items"].pop(position))

    def replace_item(self, subscription: str, position: int, price: str, quantity: int) -> None:
        """Switch the price by a new item: the old one ends where the new one begins."""

        def switch(s: dict[str, Any]) -> None:
            s["items"][position] = self._item(s["id"], price, quantity)

        self._change(self._get(subscription), switch)

    def ask_for_quantity(self, subscription: str, quantity: int) -> None:
        """Ask for a change that waits for its payment: nothing else changes."""
        update = {"expires_at": self._stamp + 86_400, "subscription_items": [{"quantity": quantity}]}
        self._change(self._get(subscription), lambda s: s.update(pending_update=update))

    def cancel(
        self, subscription: str, *, at_period_end: bool = False, reason: str = "cancellation_requested"
    ) -> None:
        """End it, now or when its first term ends."""
        s = self._get(subscription)
        details = {"comment": "too dear", "feedback": "too_expensive", "reason": reason}
        if not at_period_end:
            with self.lock:
                s["cancellation_details"] = details
                self._end(s)
            return
        end = min(item["current_period_end"] for item in s["items"])
        change = {
            "cancel_at": end,
            "cancel_at_period_end": True,
            "canceled_at": self._stamp,
            "cancellation_details": details,
        }
        self._change(s, lambda x: x.update(change))

    def keep(self, subscription: str) -> None:
        """Take a cancellation at the end of the term back."""
        details = {"comment": None, "feedback": None, "reason": None}
        change = {
            "cancel_at": None,
            "cancel_at_period_end": False,
            "canceled_at": None,
            "cancellation_details": details,
        }
        self._change(self._get(subscription), lambda s: s.update(change))

    def set_status(self, subscription: str, status: str) -> None:
        """Give it another status, such as past_due, unpaid or paused; a trial ends with it, as ``trial_end=now`` ends one."""

        def give(s: dict[str, Any]) -> None:
            if s["status"] == "trialing":
                self._end_trial(s)
            s["status"] = status

        self._change(self._get(subscription), give)

    def pause_collection(self, subscription: str, behavior: str = "void", days: int | None = None) -> None:
        """Send no invoices; the service runs on."""
        pause = {"behavior": behavior, "resumes_at": self._stamp + days * 86_400 if days else None}
        self._change(self._get(subscription), lambda s: s.update(pause_collection=pause))

    def discount(self, subscription: str, coupon: str, position: int | None = None) -> None:
        """Take a coupon off a subscription, or off one of its items."""

        def apply(s: dict[str, Any]) -> None:
            target = s if position is None else s["items"][position]
            target["discounts"] = [*target["discounts"], self._discount(coupon, s)]

        self._change(self._get(subscription), apply)

    def schedule(
        self, subscription: str, phases: Sequence[tuple[int, int]], end_behavior: str = "release"
    ) -> str:
        """Plan phases of (days from now, quantity of the first item); the last one ends 30 days after it began."""
        with self.lock:
            s = self._get(subscription)
            price = s["items"][0]["price"]["id"]
            starts = [self._stamp, *(self._stamp + days * 86_400 for days, _ in phases)]
            quantities = [s["items"][0]["quantity"], *(quantity for _, quantity in phases)]
            ends = [*starts[1:], starts[-1] + 30 * 86_400]
            planned = [
                {"start_date": start, "end_date": end, "items": [{"price": price, "quantity": quantity}]}
                for start, end, quantity in zip(starts, ends, quantities, strict=True)
            ]
            plan = {
                "object": "subscription_schedule",
                "status": "active",
                "customer": s["customer"],
                "subscription": subscription,
                "released_subscription": None,
                "end_behavior": end_behavior,
                "current_phase": {"start_date": starts[0], "end_date": ends[0]},
                "phases": planned,
            }
            plan_id = self._add("subscription_schedules", "sub_sched", plan)
            self._tell("subscription_schedule.created", self.records["subscription_schedules"][plan_id], None)
            self._change(s, lambda x: x.update(schedule=plan_id))
            return plan_id

    def lose_events(self, since: int = 0) -> None:
        """Forget all events from the `since`-th on, as if they had never been sent."""
        with self.lock:
            del self.events[since:]

    def _get(self, subscription: str) -> dict[str, Any]:
        return self.records["subscriptions"][subscription]

    def _discount(self, coupon: str, s: Mapping[str, Any]) -> str:
        discount = {
            "object": "discount",
            "customer": s["customer"],
            "subscription": s["id"],
            "start": self._stamp,
            "end": None,
            "source": {"type": "coupon", "coupon": coupon},
        }
        return self._add("discounts", "di", discount)

    def _change(
        self, s: dict[str, Any], change: Callable[[dict[str, Any]], None], event: str = "updated"
    ) -> None:
        with self.lock:
            before = copy.deepcopy(s)
            change(s)
            self._tell(f"customer.subscription.{event}", s, before)
            self._write_truth(s)

    def _end(self, s: dict[str, Any]) -> None:
        ended = {
            "status": "canceled",
            "ended_at": self._stamp,
            "canceled_at": s["canceled_at"] or self._stamp,
        }
        self._change(s, lambda x: x.update(ended), "deleted")

    def _convert(self, s: dict[str, Any]) -> None:
        self._change(s, self._end_trial)

    def _end_trial(self, s: dict[str, Any]) -> None:
        """The paid terms begin now: a trial's end is never in the future of a subscription that is in none."""
        s.update(status="active", trial_end=self._stamp)
        for item in s["items"]:
            item.update(self._item(s["id"], item["price"]["id"], item.get("quantity")) | {
                key: item[key] for key in ("id", "created", "discounts", "metadata")
            })  # fmt: skip

    def _renew(self, s: dict[str, Any]) -> None:
        def next_term(x: dict[str, Any]) -> None:
            x["latest_invoice"] = self._id("in")
            for item in x["items"]:
                if item["current_period_end"] <= self._stamp:
                    length = item["current_period_end"] - item["current_period_start"]
                    item["current_period_start"] = item["current_period_end"]
                    item["current_period_end"] += length

        self._change(s, next_term)

    def _phase(self, plan: dict[str, Any], phase: dict[str, Any]) -> None:
        before = copy.deepcopy(plan)
        plan["current_phase"] = {key: phase[key] for key in ("start_date", "end_date")}
        self._tell("subscription_schedule.updated", plan, before)
        s = self._get(plan["subscription"])
        if s["status"] != "canceled":
            self._change(s, lambda x: x["items"][0].update(quantity=phase["items"][0]["quantity"]))

    def _complete(self, plan: dict[str, Any]) -> None:
        before = copy.deepcopy(plan)
        s = self._get(plan["subscription"])
        if plan["end_behavior"] == "cancel":
            plan["status"] = "completed"
            if s["status"] != "canceled":
                self._end(s)
        else:
            plan.update(status="released", released_subscription=plan["subscription"], subscription=None)
            self._change(s, lambda x: x.update(schedule=None))
        self._tell(f"subscription_schedule.{plan['status']}", plan, before)

    # ---- events and shapes --------------------------------------------------------------------------------------

    def _tell(self, kind: str, record: Mapping[str, Any], before: Mapping[str, Any] | None) -> None:
        shown = self.shape(record, self.version)
        data: dict[str, Any] = {"object": shown}
        if before is not None:
            old = self.shape(before, self.version)
            data["previous_attributes"] = {
                key: {"data": old[key]["data"]} if key == "items" else old.get(key)
                for key in shown
                if shown[key] != old.get(key)
            }
        event = {
            "id": self._id("evt"),
            "object": "event",
            "api_version": self.version,
            "created": self._stamp,
            "data": data,
            "livemode": record["livemode"],
            "pending_webhooks": 0,
            "request": {"id": None, "idempotency_key": None},
            "type": kind,
        }
        self.events.append(copy.deepcopy(event))

    def shape(self, record: Mapping[str, Any], version: str, expand: Iterable[str] = ()) -> dict[str, Any]:
        """A record as an API version shows it, with these paths expanded."""
        paths = set(expand)
        shown = copy.deepcopy(dict(record))
        kind = shown["object"]
        if kind == "price" and "tiers" not in paths:
            shown.pop("tiers")
        if kind in ("subscription", "subscription_item"):
            whole = "discounts" in paths or version < ITEM_TERMS
            coupon = "discounts.source.coupon" in paths
            shown["discounts"] = [
                self._shown_discount(one, version, coupon) if whole else one for one in shown["discounts"]
            ]
        if kind == "subscription":
            items = shown["items"]
            inner = {p.removeprefix("items.data.") for p in paths if p.startswith("items.data.")}
            shown["items"] = {
                "object": "list",
                "data": [self.shape(item, version, inner) for item in items[:INLINE_ITEMS]],
                "has_more": len(items) > INLINE_ITEMS,
                "total_count": len(items),
                "url": f"/v1/subscription_items?subscription={shown['id']}",
            }
            if version < ITEM_TERMS:
                shown["current_period_start"] = min(item["current_period_start"] for item in items)
                shown["current_period_end"] = min(item["current_period_end"] for item in items)
                shown["discount"] = shown["discounts"][0] if shown["discounts"] else None
        if kind == "subscription_item" and version < ITEM_TERMS:
            del shown["current_period_start"], shown["current_period_end"]
        if kind == "discount":
            return self._shown_discount(shown["id"], version, "source.coupon" in paths)
        return shown

    def _shown_discount(self, discount_id: str, version: str, with_coupon: bool) -> dict[str, Any]:
        shown = copy.deepcopy(self.records["discounts"][discount_id])
        coupon = shown["source"]["coupon"]
        if version < DISCOUNT_SOURCES:
            del shown["source"]
            shown["coupon"] = copy.deepcopy(self.records["coupons"][coupon])
        elif with_coupon:
            shown["source"]["coupon"] = copy.deepcopy(self.records["coupons"][coupon])
        return shown


def _collect_again(subscription: dict[str, Any]) -> None:
    subscription["pause_collection"] = None


#: What may be asked of each list beside limit, starting_after, ending_before, created and expand.
_PARAMETERS = {
    "subscriptions": {"status", "customer", "price"},
    "subscription_items": {"subscription"},
    "subscription_schedules": {"customer"},
    "customers": {"email"},
    "products": {"active"},
    "prices": {"active", "product", "type"},
    "coupons": set(),
    "events": {"type", "types[]", "delivery_success"},
}
_EXPANDABLE = {
    "subscriptions": {
        "discounts", "discounts.source", "discounts.source.coupon", "items.data.discounts", "customer", "schedule",
    },
    "subscription_items": {"discounts", "discounts.source.coupon"},
    "prices": {"tiers", "product"},
    "customers": {"discount.source.coupon"},
}  # fmt: skip


class StripeSimulator(Simulator):
    """One account behind the API.

    Args:
        account: the data served; it may be changed while the server runs.
        token: the key that is accepted.
        reads_per_second: reads allowed in each second.

    Attributes:
        forbidden: lists that the key may not read, such as ``coupons``.
    """

    def __init__(
        self,
        account: StripeAccount,
        *,
        token: str = DEMO_KEY,
        clock: SimulatorClock | None = None,
        latency_ms: float = 0.0,
        faults: Faults | None = None,
        reads_per_second: int = 100,
    ) -> None:
        super().__init__(token=token, clock=clock, latency_ms=latency_ms, faults=faults)
        self.account = account
        self.forbidden: set[str] = set()
        self._window = SlidingWindow(reads_per_second, 1.0, self.clock)

    def routes(self) -> Iterable[Route]:
        """All paths of the account that are simulated; anything else is 404."""
        lists = [self.route(f"/v1/{kind}", "GET", self._listing(kind)) for kind in _PARAMETERS]
        return [*lists, self.route("/v1/prices/{id}", "GET", self._price)]

    def error(self, status: int, message: str, code: str | None = None, param: str | None = None) -> Reply:
        """An error in Stripe's shape."""
        body: dict[str, Any] = {"message": message, "type": "invalid_request_error"}
        if code is not None:
            body["code"] = code
        if param is not None:
            body["param"] = param
        return _printed({"error": body}, status)

    def rate_limited(self, retry_after: str | None) -> Reply:
        """A 429; Stripe promises no Retry-After."""
        reply = self.error(429, "Too many requests in a given amount of time.", "rate_limit")
        if retry_after is not None:
            reply.headers["Retry-After"] = retry_after
        return reply

    def admit(self, request: Request) -> dict[str, str]:
        """Key, permission, version, then the limit of each second."""
        if request.headers.get("authorization") != f"Bearer {self.token}":
            given = request.headers.get("authorization", "").removeprefix("Bearer ")
            raise Refusal(self.error(401, f"Invalid API Key provided: {given}", "api_key_invalid"))
        kind = request.url.path.split("/")[2]
        if kind in self.forbidden:
            raise Refusal(
                self.error(
                    403,
                    "The provided key does not have the required permissions for this endpoint. Having the "
                    f"'rak_{kind}_read' permission would allow this request to continue.",
                )
            )
        version = request.headers.get("stripe-version", VERSIONS[-1])
        if version not in VERSIONS:
            raise Refusal(self.error(400, f"Invalid Stripe API version: {version}"))
        if not self._window.admit():
            raise Refusal(self.rate_limited(None))
        return {"Request-Id": self.identifier(), "Stripe-Version": version}

    def _price(self, request: Request, _: Any) -> Reply:
        price = self.account.records["prices"].get(request.path_params["id"])
        if price is None:
            raise Refusal(
                self.error(404, f"No such price: '{request.path_params['id']}'", "resource_missing", "price")
            )
        return _printed(
            self.account.shape(price, self._version(request), request.query_params.getlist("expand[]"))
        )

    def _version(self, request: Request) -> str:
        return request.headers.get("stripe-version", VERSIONS[-1])

    def _listing(self, kind: str) -> Callable[[Request, Any], Reply]:
        def answer(request: Request, _: Any) -> Reply:
            with self.account.lock:
                return self._list(kind, request)

        return answer

    def _list(self, kind: str, request: Request) -> Reply:
        query = request.query_params
        known = {"limit", "starting_after", "ending_before", "expand[]", *_PARAMETERS[kind]}
        for name in query:
            if name not in known and not name.startswith("created["):
                raise Refusal(
                    self.error(400, f"Received unknown parameter: {name}", "parameter_unknown", name)
                )
        limit = query.get("limit", "10")
        if not limit.isdigit() or not 1 <= int(limit) <= MAX_PAGE:
            raise Refusal(
                self.error(400, f"This value must be less than or equal to {MAX_PAGE}.", None, "limit")
            )
        version = self._version(request)
        paths = self._expansions(kind, query.getlist("expand[]"), version)
        records = sorted(
            self._records(kind, request), key=lambda pair: (pair[1].get("created", 0), pair[0]), reverse=True
        )
        found = [record for _, record in records]
        after = query.get("starting_after")
        if after is not None:
            position = next((n for n, record in enumerate(found) if record["id"] == after), None)
            if position is None:
                singular = kind.removesuffix("s")
                raise Refusal(
                    self.error(400, f"No such {singular}: '{after}'", "resource_missing", "starting_after")
                )
            found = found[position + 1 :]
        page = found[: int(limit)]
        shown = page if kind == "events" else [self.account.shape(record, version, paths) for record in page]
        return _printed(
            {"object": "list", "data": shown, "has_more": len(found) > len(page), "url": request.url.path}
        )

    def _expansions(self, kind: str, wanted: Sequence[str], version: str) -> list[str]:
        paths = []
        for path in wanted:
            if path.count(".") + 1 > MAX_EXPANSION:
                raise Refusal(self.error(400, f"You cannot expand more than 4 levels of a property: {path}"))
            inner = path.removeprefix("data.")
            sources = "source" not in inner or version >= DISCOUNT_SOURCES
            by_id = not inner.endswith("discounts") or version >= ITEM_TERMS
            if inner == path or inner not in _EXPANDABLE.get(kind, set()) or not (sources and by_id):
                raise Refusal(self.error(400, f"This property cannot be expanded ({path})."))
            paths.append(inner)
            paths.extend(inner.rsplit(".", n)[0] for n in range(1, inner.count(".") + 1))
        return paths

    def _records(self, kind: str, request: Request) -> list[tuple[int, dict[str, Any]]]:
        query, account = request.query_params, self.account
        if kind == "events":
            return self._events(request)
        if kind == "subscription_items":
            owner = query.get("subscription")
            if owner is None:
                raise Refusal(self.error(400, "Missing required param: subscription.", "parameter_missing"))
            items = account.records["subscriptions"].get(owner)
            if items is None:
                raise Refusal(self.error(400, f"No such subscription: '{owner}'", "resource_missing"))
            return [(-n, item) for n, item in enumerate(items["items"])]
        found = list(enumerate(account.records[kind].values()))
        if kind == "subscriptions":
            status = query.get("status", "not canceled")
            if status not in STATUSES | {"not canceled"}:
                raise Refusal(
                    self.error(400, f"Invalid status: must be one of {', '.join(sorted(STATUSES))}")
                )
            if status == "not canceled":
                found = [pair for pair in found if pair[1]["status"] != "canceled"]
            elif status != "all":
                found = [pair for pair in found if pair[1]["status"] == status]
        if kind == "prices":
            found = [pair for pair in found if pair[1]["id"] not in account.inline_prices]
            active = query.get("active", "true") == "true"
            found = [pair for pair in found if pair[1]["active"] is active]
        return found

    def _events(self, request: Request) -> list[tuple[int, dict[str, Any]]]:
        query = request.query_params
        types = query.getlist("types[]")
        if len(types) > 20:
            raise Refusal(self.error(400, "You may pass at most 20 types.", None, "types"))
        oldest = self.account.now.timestamp() - EVENT_DAYS * 86_400
        since = max(oldest, float(query.get("created[gte]", "0")))
        return [
            (number, event)
            for number, event in enumerate(self.account.events)
            if event["created"] >= since and (not types or event["type"] in types)
        ]


def _printed(payload: Any, status: int = 200) -> Reply:
    body = msgspec.json.format(msgspec.json.encode(payload), indent=2)
    return Reply(body, status=status, media_type="application/json")
