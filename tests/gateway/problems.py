"""What every error looks like, by the contract."""

import httpx

from tests.running import ACCESS_TOKEN, API_KEY, APP_SECRET, SIGNING_KEY, VERIFY_TOKEN

SECRETS = (API_KEY, SIGNING_KEY, APP_SECRET, VERIFY_TOKEN, ACCESS_TOKEN, "test-s3-secret-access-key", "AKIDEXAMPLE")
INSIDES = ("Traceback", "X-Amz", "Signature=", "bucket-", "://", "hash=", "/tmp", ".py", "127.0.0.1", "localhost")  # noqa: S108 looked for


def problem_type(response: httpx.Response) -> str:
    """Return the type of a problem document, after holding the whole answer against the contract."""
    document = response.json()
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    assert int(response.headers["content-length"]) == len(response.content)
    assert {"type", "title", "status", "detail", "request_id"} <= set(document)
    assert document["status"] == response.status_code
    assert document["request_id"] == response.headers["x-request-id"]
    assert document["title"]
    assert document["detail"]
    assert not {"etag", "last-modified", "accept-ranges", "x-media-source", "set-cookie"} & set(response.headers)
    told = response.text + str(response.headers)
    assert [secret for secret in (*SECRETS, *INSIDES) if secret in told] == []
    kind: str = document["type"]
    return kind
