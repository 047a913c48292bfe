"""The OpenAPI document of what ``deliver`` sends is fresh, and valid by another's validator."""

from typing import Any

import yaml
from openapi_spec_validator import OpenAPIV31SpecValidator

from schemas.topics import BY_NAME
from streams.deliver.bodies import KINDS
from tests.asyncapi import name_of
from tests.webhooks_openapi import PATH, rendered

DOCUMENT: dict[str, Any] = yaml.safe_load(PATH.read_text(encoding="utf-8"))


def test_document_is_fresh() -> None:
    """It is what the code gives: ``python -m tests.webhooks_openapi``."""
    assert PATH.read_text(encoding="utf-8") == rendered()


def test_document_is_valid() -> None:
    """By the OpenAPI 3.1 schema; and the validator finds a fault where there is one."""
    assert list(OpenAPIV31SpecValidator(DOCUMENT).iter_errors()) == []
    broken = {**DOCUMENT, "webhooks": {"x": {"post": {"responses": "none"}}}}
    assert list(OpenAPIV31SpecValidator(broken).iter_errors())


def test_every_topic_that_is_sent_is_described() -> None:
    """With its signature's headers."""
    assert set(DOCUMENT["webhooks"]) == {name_of(BY_NAME[name]) for name in KINDS}
    for webhook in DOCUMENT["webhooks"].values():
        names = {one["name"] for one in webhook["post"]["parameters"]}
        assert names == {"webhook-id", "webhook-timestamp", "webhook-signature"}
