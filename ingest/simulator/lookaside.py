"""The provider's download host: `GET /whatsapp_business/attachments/?mid&ext&hash`."""

import re
from dataclasses import dataclass, field
from urllib.parse import quote, urlencode, urlsplit

from starlette.types import Receive, Scope, Send

from ingest.simulator.bodies import BodySender, served_content
from ingest.simulator.faults import Body, DownloadAuth, Faults, RangeMode, Redirect
from ingest.simulator.forms import format_type
from ingest.simulator.hosts import send_text, while_connected
from ingest.simulator.links import ATTACHMENTS, LinkState
from ingest.simulator.media import Medium
from ingest.simulator.provider import Credential, Provider
from ingest.simulator.traffic import HostName, first_header, header_values, note, query

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


@dataclass(frozen=True, slots=True)
class _Refusal(Exception):
    status: int
    text: str
    headers: dict[str, str] = field(default_factory=dict)


class Lookaside:
    """Answers downloads, also under the name that it redirects to."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; transport faults need a real server, see `ingest.simulator.server`."""
        try:
            sender, status, headers = self._answer(scope)
        except _Refusal as refusal:
            await send_text(send, refusal.status, refusal.text, refusal.headers)
        else:
            await while_connected(receive, sender.respond(scope, receive, send, status, headers))

    def _answer(self, scope: Scope) -> tuple[BodySender, int, dict[str, str]]:
        if scope["method"] != "GET" or scope["path"].rstrip("/") != ATTACHMENTS.rstrip("/"):
            raise _Refusal(404, "Not Found")
        media_id = query(scope, "mid") or ""
        faults = self._provider.plan.of(media_id)
        self._check_error(media_id, faults)
        _check_user_agent(scope, faults)
        self._check_credential(scope, faults)
        medium = self._check_link(scope, media_id, faults)
        self._redirect(scope, faults)
        return _body(scope, medium, faults)

    def _check_error(self, media_id: str, faults: Faults) -> None:
        times = faults.download_error_times
        if faults.download_error is None or not self._provider.plan.strikes(HostName.LOOKASIDE, media_id, times):
            return
        headers = {} if faults.retry_after is None else {"retry-after": str(faults.retry_after)}
        raise _Refusal(faults.download_error, "Error", headers)

    def _check_credential(self, scope: Scope, faults: Faults) -> None:
        if self._is_elsewhere(scope) or faults.download_auth is DownloadAuth.UNCHECKED:
            return
        credential = self._provider.credential(scope)
        if faults.download_auth is DownloadAuth.REFUSED:
            if credential is not Credential.MISSING:
                raise _Refusal(400, "Only one auth mechanism allowed")
        elif credential is Credential.MISSING:
            raise _Refusal(faults.missing_token_status, "No token")
        elif credential is Credential.WRONG:
            raise _Refusal(faults.wrong_token_status, "Bad token")

    def _is_elsewhere(self, scope: Scope) -> bool:
        """Tell whether the request was made to the other host, where the URL alone opens the door."""
        return first_header(scope, "host") == urlsplit(self._provider.elsewhere_url).netloc

    def _check_link(self, scope: Scope, media_id: str, faults: Faults) -> Medium:
        ext, link_hash = query(scope, "ext") or "", query(scope, "hash") or ""
        state = self._provider.links.state(media_id, ext, link_hash, now=self._provider.now())
        if state is LinkState.EXPIRED:
            raise _Refusal(faults.expired_url_status, "URL signature expired")
        medium = self._provider.find(media_id)
        if state is LinkState.FORGED or medium is None:
            raise _Refusal(404, "Not Found")
        return medium

    def _redirect(self, scope: Scope, faults: Faults) -> None:
        hop = note(scope, at=self._provider.now(), host_name=HostName.LOOKASIDE).hop
        hops = {Redirect.NONE: 0, Redirect.LOOP: hop + 1}.get(faults.redirect, faults.redirect_hops)
        if hop >= hops:
            return
        again = {name: query(scope, name) or "" for name in ("mid", "ext", "hash")} | {"hop": str(hop + 1)}
        here = f"{ATTACHMENTS}?{urlencode(again)}"
        targets = {
            Redirect.OTHER_HOST: self._provider.elsewhere_url + here,
            Redirect.INWARD: faults.redirect_target,
        }
        raise _Refusal(302, "", {"location": targets.get(faults.redirect, here)})


def _check_user_agent(scope: Scope, faults: Faults) -> None:
    """Refuse what is known to be refused: no User-Agent, and one that grows with every request of a client."""
    lines = list(header_values(scope, "user-agent"))
    products = " ".join(lines).split()
    if faults.user_agent_status is not None and (len(lines) != 1 or not products or len(set(products)) < len(products)):
        raise _Refusal(faults.user_agent_status, "Bad Request")


def _body(scope: Scope, medium: Medium, faults: Faults) -> tuple[BodySender, int, dict[str, str]]:
    content = served_content(medium, faults)
    headers = _describe(medium, faults)
    start, stop, status = 0, content.size, 200
    wanted = _RANGE.fullmatch(first_header(scope, "range") or "")
    if wanted and faults.range is not RangeMode.IGNORED:
        start, stop = _slice(wanted.group(1), wanted.group(2), content.size)
        if faults.range is RangeMode.REFUSED or start >= stop:
            raise _Refusal(416, "", {"content-range": f"bytes */{content.size}"})
        status, headers["content-range"] = 206, f"bytes {start}-{stop - 1}/{content.size}"
    return BodySender(medium=medium, faults=faults, content=content, start=start, stop=stop), status, headers


def _slice(first: str, last: str, size: int) -> tuple[int, int]:
    """Turn the ends of a byte range (RFC 9110 section 14.1.2) into start and stop; not satisfiable: start >= stop."""
    if not first:
        return (max(0, size - int(last)), size) if last else (0, 0)
    return int(first), min(int(last) + 1, size) if last else size


def _describe(medium: Medium, faults: Faults) -> dict[str, str]:
    mime_type = "text/html; charset=utf-8" if faults.body is Body.HTML else format_type(medium, faults.content_type)
    headers = {} if mime_type is None else {"content-type": mime_type}
    if faults.content_disposition:
        headers["content-disposition"] = f'attachment; filename="{quote(medium.filename or medium.id)}"'
    return headers
