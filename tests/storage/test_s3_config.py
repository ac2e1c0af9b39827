"""What is refused of a bucket's configuration before anything is asked of it: what botocore would refuse later."""

import pytest
from botocore.utils import is_valid_endpoint_url, is_valid_ipv6_endpoint_url

from storage.s3 import S3Config


@pytest.mark.parametrize(
    "url",
    [
        *("https://store.example", "http://127.0.0.1:9000", "https://store.example/", "http://[::1]:9000"),
        *("http://minio", "https://store.example./path", "store.example", "https://", "http://a_b:9000"),
        *("http://-a.example", "http://a..b", "http://sto\nre", f"http://{'a' * 64}.example", "http://[::zz]"),
    ],
)
def test_an_endpoint_is_refused_as_botocore_refuses_it(url: str) -> None:
    try:
        wanted = bool(is_valid_endpoint_url(url) or is_valid_ipv6_endpoint_url(url))
    except ValueError:
        wanted = False
    if wanted:
        assert S3Config(bucket="media", endpoint_url=url).endpoint == url.rstrip("/")
    else:
        with pytest.raises(ValueError, match="Invalid endpoint"):
            S3Config(bucket="media", endpoint_url=url)


@pytest.mark.parametrize("region", ["eu west", "-eu", "eu-", "12345", "e" * 64])
def test_a_region_that_is_no_label_of_a_host_is_refused(region: str) -> None:
    with pytest.raises(ValueError, match="region_name"):
        S3Config(bucket="media", region=region)
