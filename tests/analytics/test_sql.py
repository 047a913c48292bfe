"""Our own scripts cut into statements."""

import pytest

from analytics.sql import statements


def test_scripts_are_cut_at_their_own_semicolons() -> None:
    """Semicolons in strings and comments cut nothing; the comment stays with its statement."""
    script = "-- one; really\nSELECT ';';\n\n/* two; */ SELECT 2;\n-- nothing follows\n"
    assert statements(script) == ["-- one; really\nSELECT ';'", "/* two; */ SELECT 2"]
    with pytest.raises(ValueError, match="never ends"):
        statements("SELECT 'x")
