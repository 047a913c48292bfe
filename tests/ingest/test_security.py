"""Every provider refuses what is not signed by its key, and 10,000 random changes of what is."""

import random

import pytest

from ingest.providers import REGISTRY
from tests.ingest.keys import example
from tests.ingest.provider_suite import NOW, ProviderSuite, accepted, mutations, says_the_same

MUTATIONS_TOTAL = 10_000


@pytest.mark.parametrize("name", sorted(REGISTRY))
class TestSecurity(ProviderSuite):
    """The shared suite, once per provider."""

    def test_no_random_change_of_a_signed_request_is_accepted(self, name: str) -> None:
        """Bits turned, bytes put in, taken out, cut off and reversed, in headers and body."""
        provider, one = REGISTRY[name], example(name)
        dice = random.Random(f"mutations of {name}")
        tried = 0
        wanted = -(-MUTATIONS_TOTAL // len(REGISTRY))
        request = provider.sample(one.source, NOW, 1, one.signing_key)
        for changed in mutations(request, wanted * 20, dice):
            if says_the_same(name, request, changed):
                continue
            assert not accepted(provider, changed, one), changed
            tried += 1
            if tried == wanted:
                break
        assert tried == wanted
