"""What a person sees in Prefect's pages, in a real browser: the deployment, its run, and a round's table.

The screenshots stay in the tests' temporary folder, for a look.
"""

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.services.chromium import Page, chromium
from tests.services.conftest import Deployed, Services

pytestmark = pytest.mark.services

FEWEST_COLOURS = 50
"""A blank page has one; text alone, with its smoothed edges, has hundreds."""


@pytest.fixture(scope="module")
def page(services: Services, weekly: Mapping[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    """A browser in which the operator has logged in, as one does: with the server's auth string."""
    with chromium(tmp_path_factory.mktemp("browser")) as page:
        page.open(services.prefect.ui)
        page.wait_for("Login")
        page.type_into("input[type=password]", services.prefect.auth)
        page.press_enter()
        page.wait_for("Dashboard", "Deployments", "Logout")
        yield page


@pytest.fixture(scope="module")
def ui(services: Services) -> str:
    """Address of the pages that Prefect 3.8 shows by default."""
    return f"{services.prefect.ui}/v2"


def shown(page: Page, path: str, *texts: str, name: str) -> None:
    """Opens a page of the UI, waits for the texts, and takes a picture that must not be blank."""
    page.open(path)
    page.wait_for(*texts)
    page.settle()
    assert page.colours(page.screenshot(name)) > FEWEST_COLOURS


def artifact(services: Services, key: str) -> Mapping[str, Any]:
    query = {"artifacts": {"key": {"any_": [key]}}, "sort": "CREATED_DESC", "limit": 1}
    (found,) = services.prefect.ask("artifacts/filter", query)
    return found


def greatest_gain(services: Services, deployed: Deployed, number: int) -> Mapping[str, Any]:
    """The row of the published ledger with the greatest gain."""
    ledgers = services.store.files(f"{deployed.out}/ledger/round={number}")
    (content,) = ledgers.values()
    rows = [row for row in pq.read_table(io.BytesIO(content)).to_pylist() if row["entry"] == "model"]
    return max(rows, key=lambda row: row["payout"] - row["burn"])


def test_ui__turns_away_who_does_not_know_the_auth_string(services: Services, tmp_path: Path) -> None:
    with chromium(tmp_path) as page:
        page.open(services.prefect.ui)
        page.wait_for("Login")
        page.type_into("input[type=password]", "operator:guessed")
        page.press_enter()
        page.open(f"{services.prefect.ui}/v2/deployments")
        page.wait_for("Login")
        assert "resolve-due" not in page.text


def test_ui__shows_the_deployments(page: Page, ui: str) -> None:
    shown(page, f"{ui}/deployments", "resolve-due", "score-open", "backfill", name="deployments")


def test_ui__shows_the_run_of_a_deployment_and_when_the_next_one_is_due(
    page: Page, ui: str, weekly: Mapping[str, Any]
) -> None:
    texts = ("resolve-due", str(weekly["name"]), "Completed", "only on Saturday", "Next Run")
    shown(page, f"{ui}/deployments/deployment/{weekly['deployment_id']}", *texts, name="deployment")


@pytest.mark.parametrize(
    ("tab", "texts"),
    [
        ("TaskRuns", ("Task runs", "price_bag", "score")),
        ("Artifacts", ("round-1", "round-2", "round-3")),
    ],
)
def test_ui__shows_a_run_with_its_units_and_its_rounds(
    page: Page, ui: str, weekly: Mapping[str, Any], tab: str, texts: tuple[str, ...]
) -> None:
    address = f"{ui}/runs/flow-run/{weekly['id']}?tab={tab}"
    shown(page, address, str(weekly["name"]), "Completed", *texts, name=f"run-{tab}")


def test_ui__shows_the_table_of_a_round_with_the_numbers_of_its_ledger(
    page: Page, ui: str, services: Services, deployed: Deployed
) -> None:
    row = greatest_gain(services, deployed, 1)
    texts = (row["model"], str(row["at_risk"]), str(row["payout"] - row["burn"]), "round-1", "models 60")
    shown(page, f"{ui}/artifacts/artifact/{artifact(services, 'round-1')['id']}", *texts, name="round-1")
