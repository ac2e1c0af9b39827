"""Whose a webhook is: nobody's secret opens another workspace, and nobody's events are lost to another's typo."""

import hmac
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from ingest.subscriptions import Subscriptions
from ingest.whatsapp.provider import Provider
from ingest.workspaces import Workspace

BODY = b'{"object":"whatsapp_business_account","entry":[]}'


def workspace(workspace_id: str, *, secrets: tuple[str, ...] = (), numbers: tuple[str, ...] = ()) -> Workspace:
    return Workspace(
        id=workspace_id,
        provider=Provider(),
        account=None,
        phone_number_ids=numbers,
        app_secrets=tuple(map(SecretStr, secrets)),
        verify_token=SecretStr(f"verify-{workspace_id}" if secrets else ""),
    )


def signed(secret: str) -> str:
    """Sign by the words of Meta's documentation."""
    return "sha256=" + hmac.new(secret.encode(), BODY, sha256).hexdigest()


# ours and the default one use one app; acme has two secrets, of which one replaces the other
DEFAULT = workspace("default", secrets=("app",), numbers=("1",))
OURS = workspace("ours", secrets=("app",), numbers=("2",))
ACME = workspace("acme", secrets=("acme", "acme-former"), numbers=("3", "4"))
BETA = workspace("beta", secrets=("beta",), numbers=("5",))
SILENT = workspace("silent", numbers=("6",))
ALL = Subscriptions([DEFAULT, OURS, ACME, BETA, SILENT])
UNKNOWN = "9"


@pytest.mark.parametrize(
    ("address", "secret", "number", "recipient"),
    [
        pytest.param(None, "acme", "3", "acme", id="shared: by its owner's secret"),
        pytest.param(None, "acme-former", "4", "acme", id="shared: by its owner's former secret"),
        pytest.param(None, "app", "2", "ours", id="shared: by a secret of two, to the owner"),
        pytest.param(None, "app", "1", "default", id="shared: by a secret of two, to the other owner"),
        pytest.param(None, "acme", "5", None, id="shared: by another's secret"),
        pytest.param(None, "app", "3", None, id="shared: by the default one's secret to another's number"),
        pytest.param(None, "acme", "1", None, id="shared: by another's secret to the default one's number"),
        pytest.param(None, "acme", "6", None, id="shared: to a number whose owner has no secret"),
        pytest.param(None, "app", UNKNOWN, "default", id="shared: unknown number, the default one's secret"),
        pytest.param(None, "acme", UNKNOWN, "acme", id="shared: unknown number, the secret of one"),
        pytest.param(None, "app", None, "default", id="shared: no number"),
        pytest.param("acme", "acme", "3", "acme", id="own: its number"),
        pytest.param("acme", "acme", UNKNOWN, "acme", id="own: unknown number"),
        pytest.param("acme", "acme", None, "acme", id="own: no number"),
        pytest.param("acme", "acme", "5", None, id="own: another's number"),
        pytest.param("acme", "acme", "1", None, id="own: the default one's number"),
        pytest.param("ours", "app", "1", "default", id="own: the number of who has the same secret"),
        pytest.param("ours", "app", UNKNOWN, "ours", id="own: unknown number, a secret of two"),
    ],
)
def test_an_event_goes_to_the_owner_of_its_number_if_the_owner_can_have_signed_it(
    address: str | None, secret: str, number: str | None, recipient: str | None
) -> None:
    routing = ALL.routing(BODY, signed(secret), address)
    assert routing is not None
    assert routing(number) == recipient


def test_an_unknown_number_is_nobody_s_where_several_others_can_have_signed() -> None:
    routing = Subscriptions([SILENT, OURS, workspace("twin", secrets=("app",))]).routing(BODY, signed("app"), None)
    assert routing is not None
    assert (routing(UNKNOWN), routing("2")) == (None, "ours")


@pytest.mark.parametrize(
    ("address", "secret"),
    [(None, "nobody"), (None, ""), ("acme", "beta"), ("acme", "app"), ("default", "acme"), ("silent", "")],
)
def test_what_only_others_can_have_signed_is_refused(address: str | None, secret: str) -> None:
    assert ALL.routing(BODY, signed(secret), address) is None


@given(
    st.sampled_from([None, "default", "ours", "acme", "beta"]),
    st.sampled_from(["app", "acme", "acme-former", "beta"]),
    st.sampled_from([*"1234569", None]),
)
def test_nobody_gets_what_none_of_its_secrets_has_signed(address: str | None, secret: str, number: str | None) -> None:
    routing = ALL.routing(BODY, signed(secret), address)
    recipient = routing(number) if routing is not None else None
    holders = {each.id for each in (DEFAULT, OURS, ACME, BETA) if SecretStr(secret) in each.app_secrets}
    assert recipient is None or recipient in holders


@pytest.mark.parametrize(
    ("address", "token", "verified"),
    [
        (None, "verify-default", True),
        (None, "verify-acme", True),
        (None, "verify-nobody", False),
        (None, "", False),
        (None, "vérify", False),
        ("acme", "verify-acme", True),
        ("acme", "verify-beta", False),
        ("silent", "", False),
    ],
)
def test_a_verify_token_is_the_workspace_s_or_at_the_shared_address_anybody_s(
    address: str | None, token: str, *, verified: bool
) -> None:
    assert ALL.is_verified(token, address) is verified


def test_only_configured_workspaces_have_an_address() -> None:
    assert "acme" in ALL
    assert "nobody" not in ALL
