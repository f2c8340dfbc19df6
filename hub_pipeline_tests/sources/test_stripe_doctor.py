"""What doctor says about Stripe, and what a run without it says."""

from __future__ import annotations

from pathlib import Path

from pydantic import SecretStr

from hub_pipeline.demo.serve import serving
from hub_pipeline.demo.stripe_server import DEMO_KEY, StripeAccount, StripeSimulator
from hub_pipeline.settings import Environment, Settings
from hub_pipeline.sources.doctor import Finding, doctor
from hub_pipeline_tests.sources.stripe_house import START


def findings(data_dir: Path, simulator: StripeSimulator | None, key: str = DEMO_KEY) -> dict[str, Finding]:
    settings = Settings()
    if simulator is None:
        found = doctor(settings, Environment.model_validate({"data_dir": data_dir}))
    else:
        with serving(simulator.app) as (url,):
            values = {"data_dir": data_dir, "stripe_api_key": SecretStr(key), "stripe_base_url": url}
            found = doctor(settings, Environment.model_validate(values))
    return {one.subject: one for one in found if one.subject.startswith(("stripe", "billing"))}


def test_doctor_says_what_the_key_may_read_and_that_stripe_need_not_be(tmp_path: Path) -> None:
    without = findings(tmp_path, None)
    assert (without["stripe"].level, without["billing"].level) == ("ok", "warning")
    simulator = StripeSimulator(StripeAccount(START))
    simulator.forbidden = {"coupons", "subscriptions"}
    found = findings(tmp_path, simulator)
    levels = {subject: one.level for subject, one in found.items()}
    assert levels == {
        "billing": "ok",
        "stripe subscriptions": "error",
        "stripe subscription_schedules": "ok",
        "stripe customers": "ok",
        "stripe products": "ok",
        "stripe prices": "ok",
        "stripe coupons": "warning",
        "stripe events": "ok",
    }
    assert found["stripe subscriptions"].exit_code == 2


def test_doctor_warns_about_a_key_that_may_do_everything_and_names_one_that_is_refused(
    tmp_path: Path,
) -> None:
    simulator = StripeSimulator(StripeAccount(START), token="sk_live_everything")
    found = findings(tmp_path, simulator, "sk_live_everything")
    assert found["stripe key"].level == "warning"
    refused = findings(tmp_path, simulator, "rk_live_wrong")["stripe"]
    assert (refused.level, refused.exit_code) == ("error", 2)
    assert "rk_live_wrong" not in refused.message
