"""The sample of each topic is a record that could be on it."""

import pytest

from schemas.codec import Codec
from schemas.samples import sample
from schemas.topics import BY_NAME


@pytest.mark.parametrize("topic", BY_NAME.values(), ids=lambda topic: topic.name)
def test_a_sample_is_a_whole_record(topic: object) -> None:
    """It encodes as the newest version and decodes to itself; it is not a record of zeros."""
    codec, found = Codec(), sample(topic.name)  # type: ignore[attr-defined]
    schema = topic.schema  # type: ignore[attr-defined]
    assert codec.decode(codec.encode(schema, found), schema) == found
    assert sum(bool(value) for value in found.values()) >= 2
