"""Where a bucket is, and what the answers of its store mean."""

import pytest

from storage.errors import ObjectFrozen, ObjectNotFound, StorageError, StoreForbidden, StoreFull, StoreUnavailable
from storage.s3 import R2Store, S3Config, S3Store
from storage.s3.answers import read_sizes, s3_error
from storage.store import ByteRange


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        pytest.param(S3Config(bucket="b", region="eu-west-1"), "https://b.s3.eu-west-1.amazonaws.com", id="AWS"),
        pytest.param(
            S3Config(bucket="b", region="cn-north-1"), "https://b.s3.cn-north-1.amazonaws.com.cn", id="AWS in China"
        ),
        pytest.param(
            S3Config(bucket="b.c", region="eu-west-1"),
            "https://s3.eu-west-1.amazonaws.com/b.c",
            id="a name with dots fits no certificate",
        ),
        pytest.param(S3Config(bucket="b", endpoint_url="http://minio:9000/"), "http://minio:9000/b", id="endpoint"),
        pytest.param(
            S3Config(bucket="b", endpoint_url="https://store.example", addressing_style="virtual"),
            "https://b.store.example",
            id="endpoint, virtual-hosted",
        ),
        pytest.param(
            S3Config.for_r2(account_id="0af", bucket="b", access_key_id="i", secret_access_key="s"),
            "https://0af.r2.cloudflarestorage.com/b",
            id="R2",
        ),
        pytest.param(
            S3Config.for_r2(
                account_id="0af",
                bucket="b",
                access_key_id="i",
                secret_access_key="s",
                endpoint_url="https://0af.eu.r2.cloudflarestorage.com",
            ),
            "https://0af.eu.r2.cloudflarestorage.com/b",
            id="R2 in the European Union",
        ),
    ],
)
def test_where_a_bucket_is(config: S3Config, expected: str) -> None:
    assert config.bucket_url == expected


def test_a_record_names_backend_bucket_and_key() -> None:
    config = S3Config.for_r2(account_id="0af", bucket="b", access_key_id="i", secret_access_key="s")

    assert R2Store(config).url("media/a b=") == "r2://b/media/a b="
    assert S3Store(config).url("media/a b=") == "s3://b/media/a b="


RANGE = ByteRange(2, 6)


@pytest.mark.parametrize(
    ("status", "headers", "byte_range", "expected"),
    [
        pytest.param(200, {"Content-Length": "10"}, None, (10, 10), id="whole"),
        pytest.param(200, {"Content-Length": "0"}, None, (0, 0), id="empty"),
        pytest.param(206, {"Content-Length": "4", "Content-Range": "bytes 2-5/10"}, RANGE, (10, 4), id="RFC 9110 14.4"),
        pytest.param(206, {"Content-Length": "2", "Content-Range": "bytes 2-3/4"}, RANGE, (4, 2), id="cut to the end"),
    ],
)
def test_the_bytes_that_were_asked_for_are_taken(
    status: int, headers: dict[str, str], byte_range: ByteRange | None, expected: tuple[int, int]
) -> None:
    assert read_sizes(status, headers, byte_range) == expected


@pytest.mark.parametrize(
    ("status", "headers", "byte_range"),
    [
        pytest.param(200, {"Content-Length": "10"}, RANGE, id="all of it instead of a range"),
        pytest.param(206, {"Content-Length": "4", "Content-Range": "bytes 2-5/10"}, None, id="a range instead of all"),
        pytest.param(200, {}, None, id="no size"),
        pytest.param(200, {"Content-Length": "-1"}, None, id="no number"),
        pytest.param(206, {"Content-Length": "4"}, RANGE, id="which range"),
        pytest.param(206, {"Content-Length": "4", "Content-Range": "bytes 0-3/10"}, RANGE, id="another start"),
        pytest.param(206, {"Content-Length": "3", "Content-Range": "bytes 2-4/10"}, RANGE, id="too short"),
        pytest.param(206, {"Content-Length": "8", "Content-Range": "bytes 2-9/10"}, RANGE, id="too long"),
        pytest.param(206, {"Content-Length": "5", "Content-Range": "bytes 2-5/10"}, RANGE, id="a body of another size"),
        pytest.param(206, {"Content-Length": "4", "Content-Range": "bytes 2-5/*"}, RANGE, id="of what"),
        pytest.param(206, {"Content-Length": "0", "Content-Range": "bytes 2-1/2"}, RANGE, id="nothing"),
    ],
)
def test_any_other_bytes_are_refused(status: int, headers: dict[str, str], byte_range: ByteRange | None) -> None:
    with pytest.raises(StoreUnavailable):
        read_sizes(status, headers, byte_range)


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (404, "NoSuchKey", ObjectNotFound),
        (404, "", ObjectNotFound),
        (404, "NoSuchBucket", StoreUnavailable),
        (404, "NoSuchUpload", StoreUnavailable),
        (403, "AccessDenied", StoreForbidden),
        (403, "", StoreForbidden),
        (403, "InvalidObjectState", ObjectFrozen),
        (401, "Unauthorized", StoreForbidden),
        (409, "ConditionalRequestConflict", StoreUnavailable),
        (416, "InvalidRange", StoreUnavailable),
        (429, "TooManyRequests", StoreUnavailable),
        (500, "InternalError", StoreUnavailable),
        (501, "NotImplemented", StoreUnavailable),
        (503, "SlowDown", StoreUnavailable),
        (507, "XMinioStorageFull", StoreFull),
        (301, "PermanentRedirect", StoreUnavailable),
        (400, "ExpiredToken", StoreUnavailable),
    ],
)
def test_what_an_answer_means(status: int, code: str, expected: type[StorageError]) -> None:
    assert type(s3_error(status, code)) is expected


@pytest.mark.parametrize(("field", "expected"), [("7", 7.0), (None, None), ("Wed, 21 Oct 2026 07:28:00 GMT", None)])
def test_a_store_may_say_when_to_ask_again(field: str | None, expected: float | None) -> None:
    refusal = s3_error(503, "SlowDown", field)

    assert isinstance(refusal, StoreUnavailable)
    assert refusal.retry_after == expected
