"""One request against servers that misbehave on real sockets."""

from __future__ import annotations

import contextlib
import datetime as dt
import email.utils
import gzip
import json
import socket
import ssl
import subprocess
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from hub_pipeline.errors import ConfigurationError, SourceUnavailableError
from hub_pipeline.sources import transport
from hub_pipeline.sources.hubspot.client import observe_limits
from hub_pipeline.sources.transport import (
    Budget,
    CancelledError,
    ForbiddenError,
    NoAnswerError,
    Pacer,
    RejectedError,
    asked_wait,
    checked_address,
)
from hub_pipeline_tests.sources.wires import TOKEN, Asker, answer, drip, gaps, silence, wire


@pytest.fixture
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "BACKOFF_SECONDS", 0.01)


def test_a_good_answer_is_decoded_and_counted() -> None:
    with wire(answer()) as server:
        asker = Asker(server.address)
        assert asker.ask() == {"ok": True}
        assert (asker.transport.total.requests, asker.transport.total.retries) == (1, 0)
        assert b"Accept-Encoding: gzip" in server.heads[0]


def test_a_compressed_answer_is_decoded() -> None:
    with wire(answer(gzip.compress(b'{"ok":true}'), "200 OK", "Content-Encoding: gzip")) as server:
        assert Asker(server.address).ask() == {"ok": True}


@pytest.mark.parametrize(
    "bad",
    [
        answer(b"", "502 Bad Gateway"),
        answer(b"<html>", "503 Service Unavailable"),
        answer(b'{"ok":tr', length=5000),
        answer(b'{"ok":tr'),
        answer(b"<html>maintenance</html>"),
        answer(b"[]"),
        answer(b"not gzip", "200 OK", "Content-Encoding: gzip"),
        answer(gzip.compress(b'{"ok":true}')[:-14], "200 OK", "Content-Encoding: gzip"),
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"",
    ],
    ids=[
        "502",
        "503",
        "cut off",
        "half JSON",
        "HTML",
        "other form",
        "not gzip",
        "cut gzip",
        "half head",
        "nothing",
    ],
)
def test_an_answer_that_is_none_is_asked_for_again(bad: bytes, hurry: None) -> None:
    with wire(bad, answer()) as server:
        asker = Asker(server.address)
        assert asker.ask() == {"ok": True}
        assert (asker.transport.total.requests, asker.transport.total.retries) == (2, 1)


def test_attempts_are_bounded_and_the_error_says_what_was_asked_and_what_came(hurry: None) -> None:
    with wire(answer(b"<html>")) as server:
        with pytest.raises(
            NoAnswerError, match="GET /things in 4 attempts: its answer is not valid JSON"
        ) as error:
            Asker(server.address).ask()
        assert error.value.exit_code == 3
        assert len(server.times) == 4
    with wire(answer(b"", "503 Service Unavailable")) as server:
        with pytest.raises(NoAnswerError, match="6 attempts: HTTP 503"):
            Asker(server.address).ask()
        assert len(server.times) == 6


def test_a_body_in_another_form_is_an_error_and_never_an_empty_result(hurry: None) -> None:
    with wire(answer(b'{"results":null}')) as server, pytest.raises(NoAnswerError, match="another form"):
        Asker(server.address).ask(kind=dict[str, list[int]])


def test_retry_after_is_waited_for() -> None:
    limited = answer(b"{}", "429 Too Many Requests", "Retry-After: 1")
    with wire(limited, answer()) as server:
        assert Asker(server.address).ask() == {"ok": True}
        assert all(gap >= 1.0 for gap in gaps(server.times))


def test_a_limit_without_retry_after_backs_off_more_and_more() -> None:
    with wire(*[answer(b"{}", "429 Too Many Requests")] * 3, answer()) as server:
        assert Asker(server.address).ask() == {"ok": True}
        first, second, third = gaps(server.times)
        assert 0.25 <= first <= 0.8
        assert 0.5 <= second <= 1.3
        assert 1.0 <= third <= 2.3


def test_what_servers_say_about_waiting_is_clamped() -> None:
    date = "Sat, 31 Oct 2026 12:00:00 GMT"
    assert asked_wait({"Retry-After": "2"}) == 2
    assert asked_wait({"Retry-After": "Sat, 31 Oct 2026 12:00:07 GMT", "Date": date}) == 7
    epoch = email.utils.parsedate_to_datetime(date).timestamp()
    assert asked_wait({"X-RateLimit-Reset": str(epoch + 9), "Date": date}) == 9
    for useless in ("0", "-5", "abc", "nan", "inf", ""):
        assert asked_wait({"Retry-After": useless}) is None
    assert asked_wait({"Retry-After": "Sat, 31 Oct 2026 11:00:00 GMT", "Date": date}) is None


def test_a_wait_of_a_day_is_not_waited_for_but_told() -> None:
    with wire(answer(b"{}", "429 Too Many Requests", "Retry-After: 86400")) as server:
        with pytest.raises(
            SourceUnavailableError, match=r"86,400 s.*run again after \d{4}-\d\d-\d\d \d\d:\d\d UTC"
        ):
            Asker(server.address).ask()
        assert len(server.times) == 1


def test_a_used_up_daily_limit_ends_at_once() -> None:
    body = b'{"status":"error","message":"You have reached your daily limit.","policyName":"DAILY"}'
    with wire(answer(body, "429 Too Many Requests")) as server:
        with pytest.raises(
            SourceUnavailableError, match=r"daily request limit is used up.*run again tomorrow"
        ) as error:
            Asker(server.address).ask()
        assert (error.value.exit_code, len(server.times)) == (3, 1)


def test_a_rejected_token_is_named_by_its_variable_and_asked_once() -> None:
    with wire(answer(f'{{"message":"{TOKEN} expired"}}'.encode(), "401 Unauthorized")) as server:
        with pytest.raises(ConfigurationError, match="TESTING_TOKEN") as error:
            Asker(server.address).ask()
        assert (error.value.exit_code, len(server.times)) == (2, 1)


def test_a_missing_scope_is_named() -> None:
    body = (
        b'{"category":"MISSING_SCOPES","message":"missing","errors":[{"message":"x","context":'
        b'{"requiredGranularScopes":["crm.objects.deals.read"]}}]}'
    )
    with wire(answer(body, "403 Forbidden")) as server:
        with pytest.raises(ForbiddenError, match=r"missing: crm\.objects\.deals\.read") as error:
            Asker(server.address).ask()
        assert error.value.scopes == ("crm.objects.deals.read",)


def test_a_token_that_the_server_echoes_appears_in_no_message_and_no_traceback(hurry: None) -> None:
    echo = f'{{"message":"bad {TOKEN}"}}'.encode()
    answers = [
        answer(echo, "400 Bad Request"),
        answer(echo, "403 Forbidden"),
        answer(echo, "401 Unauthorized"),
        answer(echo, "503 Unavailable"),
        answer(b"{}", "302 Found", f"Location: https://{TOKEN}.example.com/{TOKEN}"),
        answer(f"<html>{TOKEN}".encode(), "200 OK"),
        answer(f'{{"{TOKEN}":"{TOKEN}"}}'.encode()),
        answer(echo, "429 Too Many Requests", f"X-Echo: {TOKEN}", "Retry-After: 9999"),
    ]
    for one in answers:
        with wire(one) as server:
            with pytest.raises((ConfigurationError, SourceUnavailableError)) as error:
                Asker(server.address).ask(f"/things/{TOKEN}")
            assert TOKEN not in "".join(traceback.format_exception(error.value))


def test_a_refused_request_gives_its_status_and_reason() -> None:
    with wire(answer(b'{"message":"unknown property x"}', "400 Bad Request")) as server:
        with pytest.raises(RejectedError, match="HTTP 400: unknown property x") as error:
            Asker(server.address).ask()
        assert (error.value.status, len(server.times)) == (400, 1)


def test_a_redirect_is_not_followed_because_the_token_would_go_along() -> None:
    with wire(answer()) as elsewhere:
        location = f"Location: http://localhost:{elsewhere.port}/things"
        with (
            wire(answer(b"", "302 Found", location)) as server,
            pytest.raises(ConfigurationError, match=r"redirected /things to localhost.*TESTING_URL"),
        ):
            Asker(server.address).ask()
        assert elsewhere.times == []


def test_dripping_bodies_and_heads_are_cut_at_the_attempts_deadline(hurry: None) -> None:
    for content in (answer(b'{"ok":true}'), answer(b"x" * 1000)):
        with wire(drip(content, 0.1), answer()) as server:
            started = time.monotonic()
            assert Asker(server.address, attempt=0.6, read=0.5).ask() == {"ok": True}
            assert time.monotonic() - started < 2.0


def test_silence_after_the_head_is_a_timeout(hurry: None) -> None:
    with wire(silence(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"), silence(), answer()) as server:
        started = time.monotonic()
        assert Asker(server.address, read=0.3).ask() == {"ok": True}
        assert time.monotonic() - started < 2.0


def test_nothing_outlasts_the_budget_of_the_source() -> None:
    with wire(drip(answer(b"x" * 5000), 0.05)) as server:
        started = time.monotonic()
        with pytest.raises(SourceUnavailableError, match=r"could not be read within 0.7 s"):
            Asker(server.address, budget=0.7).ask()
        assert time.monotonic() - started < 1.5
    with wire(answer(b"{}", "503 Unavailable", "Retry-After: 60")) as server:
        started = time.monotonic()
        with pytest.raises(SourceUnavailableError, match=r"within 2 s \(HTTP 503\)"):
            Asker(server.address, budget=2).ask()
        assert time.monotonic() - started < 1.0, "a wait that cannot fit is not begun"


def test_an_address_nobody_listens_at_is_unavailable(hurry: None) -> None:
    with wire(answer()) as server:
        pass
    with pytest.raises(NoAnswerError, match="the connection was refused"):
        Asker(server.address).ask()


def test_a_huge_answer_and_a_compressed_bomb_are_given_up(hurry: None) -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    for content in (answer(b" " * 2_000_000), answer(bomb, "200 OK", "Content-Encoding: gzip")):
        with wire(content) as server, pytest.raises(NoAnswerError, match="larger than 1,000,000 bytes"):
            Asker(server.address).ask()


def test_a_certificate_that_cannot_be_verified_ends_with_a_plain_sentence(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = subprocess.run(
        [
            *[
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-subj",
                "/CN=localhost",
                "-days",
                "1",
            ],
            "-keyout",
            str(key),
            "-out",
            str(certificate),
        ],
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip("openssl is not installed")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    listener = socket.create_server(("127.0.0.1", 0))
    received: list[bytes] = []

    def serve() -> None:
        connection, _ = listener.accept()
        try:
            with context.wrap_socket(connection, server_side=True) as secure:
                received.append(secure.recv(1000))
        except OSError:
            return

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with pytest.raises(ConfigurationError, match="certificate of localhost") as error:
        Asker(f"https://localhost:{listener.getsockname()[1]}").ask()
    thread.join(2)
    listener.close()
    assert "the token was not sent" in str(error.value)
    assert not any(TOKEN.encode() in content for content in received)


def test_a_cancelled_source_stops_its_waiting_and_its_running_requests() -> None:
    with wire(silence()) as server:
        asker = Asker(server.address)
        threading.Timer(0.2, asker.budget.cancel).start()
        started = time.monotonic()
        with pytest.raises(CancelledError):
            asker.ask()
        assert time.monotonic() - started < 1.5


def test_only_loopback_addresses_may_be_without_encryption() -> None:
    assert checked_address("http://127.0.0.1:8000/", "X") == "http://127.0.0.1:8000"
    assert checked_address("https://api.hubapi.com", "X") == "https://api.hubapi.com"
    for bad in ("http://api.hubapi.com", "ftp://localhost", "api.hubapi.com", ""):
        with pytest.raises(ConfigurationError, match="HUBSPOT_BASE_URL"):
            checked_address(bad, "HUBSPOT_BASE_URL")


def test_no_window_of_the_server_ever_counts_more_than_the_limit() -> None:
    arrivals: list[float] = []
    lock = threading.Lock()
    pacer, budget = Pacer(10, 0.3), Budget("Testing", 20)

    def work(number: int) -> None:
        for _ in range(5):
            with pacer.slot(budget):
                time.sleep(0.002 * number)  # a request travels for a while before it is counted
                with lock:
                    arrivals.append(time.monotonic())

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    arrivals.sort()
    assert len(arrivals) == 40
    assert all(later - earlier >= 0.3 for earlier, later in zip(arrivals[:-10], arrivals[10:], strict=True))
    assert arrivals[-1] - arrivals[0] < 2.0, "forty requests need little more than three windows"


def test_the_reserve_and_other_users_of_the_token_lower_the_capacity() -> None:
    budget = Budget("Testing", 20)

    def taken(pacer: Pacer) -> float:
        started = time.monotonic()
        for _ in range(6):
            with pacer.slot(budget):
                pass
        return time.monotonic() - started

    assert taken(Pacer(10, 0.4)) < 0.3
    assert taken(Pacer(10, 0.4, reserve=0.5)) >= 0.4
    shared = Pacer(10, 0.4)
    shared.observe(limit=10, seconds=0.4, remaining=4)  # six requests of which none was ours
    assert taken(shared) >= 0.3
    shared = Pacer(10, 0.4)
    shared.observe(limit=5, seconds=0.4, remaining=5)
    assert taken(shared) >= 0.4


def test_times_come_with_a_zone() -> None:
    assert transport._header_time("Sat, 31 Oct 2026 12:00:00 GMT") == dt.datetime(
        2026, 10, 31, 12, tzinfo=dt.UTC
    )
    assert transport._header_time("yesterday") is None


def test_a_connection_that_is_never_accepted_is_given_up(hurry: None) -> None:
    with contextlib.ExitStack() as opened:
        listener = opened.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        port = listener.getsockname()[1]
        for _ in range(3):  # what the kernel takes before it lets newcomers wait
            waiting = opened.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        started = time.monotonic()
        with pytest.raises(SourceUnavailableError, match=r"within 1.5 s|no connection in time"):
            Asker(f"http://127.0.0.1:{port}", budget=1.5).ask()
        assert time.monotonic() - started < 2.5


def test_json_nested_without_end_is_no_answer(hurry: None) -> None:
    nested = b"[" * 100_000
    with wire(answer(b'{"ok":' + nested), answer()) as server:
        assert Asker(server.address).ask(kind=dict[str, Any]) == {"ok": True}
    with (
        wire(answer(b'{"errors":[{"context":{"x":' + nested, "400 Bad Request")) as server,
        pytest.raises(RejectedError, match="HTTP 400"),
    ):
        Asker(server.address).ask()


HEADER = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=40) | st.sampled_from(
    ["0", "-5", "abc", "86400", "1e308", "9" * 5000, "Fri, 31 Dec 9999 23:59:59 GMT", "\u00b2", "Sat, 31 Oct"]
)


@given(HEADER, HEADER, HEADER)
@hypothesis_settings(max_examples=100, deadline=None)
def test_no_header_of_a_server_is_an_error_of_ours(after: str, reset: str, now: str) -> None:
    for headers in ({"Retry-After": after, "Date": now}, {"X-RateLimit-Reset": reset, "Date": now}):
        wait = asked_wait(headers)
        assert wait is None or 0 < wait < float("inf")
        if wait is not None:
            assert transport._clock(wait).startswith(("after 2", "when it allows"))
    pacer = Pacer(100)
    observe_limits(pacer, {f"X-HubSpot-RateLimit-{name}": after for name in ("Max", "Remaining")})
    observe_limits(pacer, {"X-HubSpot-RateLimit-Interval-Milliseconds": reset})
    with pacer.slot(Budget("Testing", 5)):
        pass


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["message", "errors", "context", "policyName", "requiredScopes", "code"]), inner
        )
    ),
    max_leaves=12,
)


@given(JSON | st.binary(max_size=30))
@hypothesis_settings(max_examples=100, deadline=None)
def test_no_error_body_of_a_server_is_an_error_of_ours(body: Any) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    said = transport._said(content)
    assert isinstance(said.text, str)
    assert all(isinstance(scope, str) for scope in said.scopes)
