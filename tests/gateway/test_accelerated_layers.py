"""What is promised of every layer, where nginx sends the bytes: the very same tests."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.gateway import test_media_conditionals as conditionals
from tests.gateway import test_media_headers as headers
from tests.gateway import test_media_ranges as ranges
from tests.gateway.layers import ACCELERATED, Layer, LayerName, open_accelerated
from tests.gateway.scene import OpenScene

# But for several lines of one condition, which nginx itself refuses with 400.
PROMISES: tuple[Callable[[Layer], Awaitable[None]], ...] = (
    ranges.test_every_layer_serves_the_ranges_of_rfc_9110,
    ranges.test_no_layer_looks_at_the_range_of_a_head,
    ranges.test_a_range_may_be_asked_for_on_condition,
    ranges.test_what_is_not_verified_yet_is_not_to_be_kept_unless_its_last_byte_was_held_back,
    conditionals.test_every_layer_keeps_the_order_of_rfc_9110,
    conditionals.test_a_head_is_answered_like_a_get,
    conditionals.test_not_modified_repeats_what_a_cache_needs_and_nothing_else,
    conditionals.test_a_failed_condition_is_a_problem_document,
    conditionals.test_conditions_do_not_turn_an_error_into_something_else,
    headers.test_a_head_says_what_the_get_will_say,
    headers.test_a_variant_that_is_not_ready_is_stood_in_for_by_name_and_not_kept,
)


@pytest.mark.parametrize("name", ACCELERATED)
async def test_nginx_keeps_the_promises_of_every_layer(
    name: LayerName, open_scene: OpenScene, s3: dict[str, str], tmp_path: Path
) -> None:
    async with open_accelerated(name, open_scene, s3, tmp_path / "nginx") as layer:
        for promise in PROMISES:
            await promise(layer)
        for method in ("GET", "HEAD"):
            await headers.test_success_carries_what_the_contract_names(layer, method)
