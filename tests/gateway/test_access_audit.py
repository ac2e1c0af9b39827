"""The audit over HTTP: every act and every refusal has its line, in its workspace, and no log ever holds a secret."""

import hashlib
import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.gateway.access import ACCESS, CDN, JWT_SECRET, OLD_ORIGIN_SECRET, ORIGIN_SECRET, bearer, cookie, token
from tests.gateway.issuer import document, signing
from tests.gateway.problems import SECRETS
from tests.gateway.scene import Message, OpenScene, Scene
from tests.gateway.test_access_edge_urls import RSA, SECRET, cloudfront
from tests.running import API_KEY

Line = dict[str, Any]


AUDITED = ACCESS | {"MEDIA_AUDIT": "*", "MEDIA_TRUSTED_PROXIES": "127.0.0.1"}


def audited(capsys: pytest.CaptureFixture[str]) -> list[Line]:
    """Return the audit's lines since the last time, without what is new in each."""
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    told = [line for line in lines if line.get("logger") == "audit"]
    assert all(line.pop("timestamp") and line.pop("request_id") for line in told)
    return [{name: value for name, value in line.items() if name not in {"logger", "level"}} for line in told]


def digest(text: str, digits: int = 16) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:digits]


def said(event: str, message: Message, **others: Any) -> Line:
    """Return the line about an act of the host application."""
    expected = {"event": event, "actor": "api-key", "credential": digest(API_KEY, 8), "address": "127.0.0.1"}
    about = {"workspace_id": "default", "message_id": message.id, "status": None}
    return {name: value for name, value in (expected | about | others).items() if value != ""}


async def test_every_act_of_the_host_application_has_its_line(
    open_scene: OpenScene, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_scene(**AUDITED) as scene:
        message = await scene.message()
        assert audited(capsys) == [said("register", message)]
        client, path = scene.client, message.path
        acts = [
            (client.get(path), said("read", message, variant="original")),
            (client.head(f"{path}?variant=thumbnail"), said("read", message, variant="original")),  # what was served
            (client.get(f"{path}/info"), said("read", message, variant="info")),
            (client.post(f"{path}/url", json={"variant": "small"}), said("mint", message, variant="small")),
            (client.get("/media/messages"), said("list", message, message_id="")),
            (client.post(f"{path}/retry"), said("retry", message)),
            (client.delete(path), said("delete", message)),
        ]
        for act, line in acts:
            assert (await act).is_success
            assert audited(capsys) == [line]


async def test_a_whole_history_has_a_line_for_each_url_that_was_minted(
    open_scene: OpenScene, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_scene(**AUDITED) as scene:
        ours, theirs = await scene.message(), await scene.message(workspace_id="acme")
        audited(capsys)
        orders = [{"message_id": ours.id, "variant": "webp"}, {"message_id": theirs.id}, {"message_id": "unknown"}]
        await scene.nobody.post("/media/urls", json={"urls": orders}, headers=bearer(token()))
        ana = {"actor": "token", "credential": digest("ana")}
        assert audited(capsys) == [
            said("mint", ours, variant="webp", **ana),
            said("refused", theirs, workspace_id="acme", status=404, variant="original", **ana),
        ]


async def test_a_line_says_by_which_kind_of_credential_and_from_where(
    open_scene: OpenScene, capsys: pytest.CaptureFixture[str]
) -> None:
    async with open_scene(**AUDITED) as scene:
        message = await scene.message()
        signed = scene.gateway.signer.mint(message.id).url
        query = parse_qs(urlsplit(signed).query)
        audited(capsys)
        asks = [
            (message.path, {"X-API-Key": API_KEY}, ("api-key", digest(API_KEY, 8))),
            (message.path, bearer(token()), ("token", digest("ana"))),
            (message.path, cookie(token(sub="bob")), ("token", digest("bob"))),
            (signed, {}, ("signed-url", digest(f"{query['kid'][0]}:{query['sig'][0]}"))),
            (message.path, CDN, ("cdn", "")),
        ]
        for number, (url, fields, (kind, label)) in enumerate(asks):
            address = f"192.0.2.{number}"
            await scene.nobody.get(url, headers=fields | {"X-Forwarded-For": f"10.0.0.1, {address}"})
            line = said("read", message, variant="original", actor=kind, address=address)
            assert audited(capsys) == [line | {"credential": label}]


async def test_every_refusal_has_its_line(open_scene: OpenScene, capsys: pytest.CaptureFixture[str]) -> None:
    async with open_scene(**AUDITED) as scene:
        message = await scene.message()
        audited(capsys)
        path = message.path
        refusals = [
            ("GET", path, {}, 401, "original"),
            ("HEAD", f"{path}?variant=small", {}, 401, "small"),
            ("GET", path, {"X-API-Key": "wrong"}, 403, "original"),
            ("GET", path, bearer(token(exp=1)), 403, "original"),
            ("GET", f"{path}?exp=1&kid=k1&sig=x", {}, 403, "original"),
            ("GET", f"{path}/hls/master.m3u8", CDN | {"X-Origin-Verify": "wrong"}, 403, "hls"),
            ("GET", f"{path}/info", {}, 401, None),
            ("POST", f"{path}/url", bearer("wrong"), 403, None),
            ("PUT", path, bearer(token()), 401, None),
            ("DELETE", path, {"X-API-Key": "wrong"}, 403, None),
            ("POST", f"{path}/retry", CDN, 401, None),
        ]
        for method, url, fields, status, variant in refusals:
            assert (await scene.nobody.request(method, url, headers=fields)).status_code == status
            (line,) = audited(capsys)
            expected = said("refused", message, actor="nobody", status=status, workspace_id="", variant=variant or "")
            assert line == expected | {"credential": ""}


async def test_who_tries_somebody_elses_message_is_named(
    open_scene: OpenScene, capsys: pytest.CaptureFixture[str]
) -> None:
    """The answer is that of a message that does not exist; the line is not."""
    async with open_scene(**AUDITED) as scene:
        message = await scene.message(workspace_id="acme")
        audited(capsys)
        fields = bearer(token())
        for method, below, variant in (("GET", "", "original"), ("GET", "/info", ""), ("POST", "/url", "")):
            assert (await scene.nobody.request(method, message.path + below, headers=fields)).status_code == 404
            ana = {"actor": "token", "credential": digest("ana"), "workspace_id": "acme"}
            assert audited(capsys) == [said("refused", message, status=404, variant=variant, **ana)]
        assert (await scene.nobody.get("/media/messages/unknown", headers=fields)).status_code == 404
        assert audited(capsys) == []


@pytest.mark.parametrize(("audit", "lines"), [("", 0), ("acme", 1), ("default", 1), ("acme,default", 2), ("*", 2)])
async def test_a_workspace_has_its_own_audit_and_no_others(
    open_scene: OpenScene, capsys: pytest.CaptureFixture[str], audit: str, lines: int
) -> None:
    async with open_scene(**ACCESS, MEDIA_AUDIT=audit) as scene:
        ours, theirs = await scene.message(), await scene.message(workspace_id="acme")
        told = audited(capsys)
        assert [line["event"] for line in told] == ["register"] * lines
        wanted = {"default", "acme"} if audit == "*" else set(audit.split(",")) - {""}
        assert {line["workspace_id"] for line in told} == wanted
        for path in (ours.path, theirs.path, "/media/messages"):
            await scene.client.get(path)
        told = audited(capsys)
        assert {line["workspace_id"] for line in told if line["event"] == "read"} == wanted
        assert {line["workspace_id"] for line in told if line["event"] == "list"} == wanted
        await scene.nobody.get(ours.path)  # whose it is, is not known yet
        assert len(audited(capsys)) == bool(audit)


async def test_a_session_of_every_credential_leaves_none_in_any_log(
    open_scene: OpenScene, capsys: pytest.CaptureFixture[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    jwks = tmp_path_factory.mktemp("issuer") / "jwks.json"
    jwks.write_bytes(document(signing("ES256").jwk()))
    variables = cloudfront() | {"MEDIA_JWKS": str(jwks), "MEDIA_AUDIT": "*", "MEDIA_LOG_LEVEL": "debug"}
    async with open_scene(**variables, MEDIA_CDN_SECRET=SECRET, MEDIA_OPERATIONS_TOKEN="operators-token") as scene:
        used = await everything(scene)
    told = capsys.readouterr().err
    assert len(told.splitlines()) > 30
    pem = RSA.private_numbers().d.to_bytes(256, "big").hex()
    secrets = [*SECRETS, JWT_SECRET, ORIGIN_SECRET, OLD_ORIGIN_SECRET, SECRET, "operators-token", "PRIVATE KEY", pem]
    assert [secret for secret in (*secrets, *used, "sig=", "Signature=", "verify=", "exp=") if secret in told] == []


async def everything(scene: Scene) -> list[str]:
    """Use every credential, good and bad, on every route; return what must be in no log."""
    message = await scene.store(await scene.message())
    tokens = [token(), token(workspace_ids=[]), token(exp=1), signing("ES256").token({"sub": "eve"}), "bm90LmEudG9rZW4"]
    signed = [scene.gateway.signer.mint(message.id, variant).url for variant in ("original", "small")]
    minted = (await scene.client.post(f"{message.path}/url")).json()["url"]
    signatures = [url.rpartition("sig=")[2] for url in signed] + parse_qs(urlsplit(minted).query)["Signature"]
    wrong = ["a-wrong-key", "a-wrong-edge", "c" * 43]
    fields = [bearer(each) for each in tokens] + [cookie(each) for each in tokens] + [CDN]
    fields += [{"X-API-Key": API_KEY}, {"X-API-Key": wrong[0]}, {"X-Origin-Verify": wrong[1]}]
    queries = [f"exp=9999999999&kid=k1&sig={wrong[2]}", f"token={tokens[0]}"]
    asks = [("GET", url) for url in (*signed, *(f"{message.path}?{query}" for query in queries))]
    asks += [("GET", f"{message.path}/info"), ("PUT", message.path), ("POST", "/media/urls"), ("GET", "/metrics")]
    for carried in fields:
        for method, url in asks:
            await scene.nobody.request(method, url, headers=carried, json={"urls": []})
    await scene.nobody.get("/metrics", headers=bearer("operators-token"))
    await scene.client.delete(message.path)
    return [*tokens, *(part for each in tokens for part in each.split(".")[1:]), *signatures, *wrong]
