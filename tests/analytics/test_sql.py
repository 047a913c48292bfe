"""Our own SQL scripts are split into statements."""

import pytest

from analytics.sql import statements


def test_scripts_are_cut_at_their_own_semicolons() -> None:
    """Semicolons in strings and comments do not split; a comment stays with its statement."""
    script = "-- one; really\nSELECT ';';\n\n/* two; */ SELECT 2;\n-- nothing follows\n"
    assert statements(script) == ["-- one; really\nSELECT ';'", "/* two; */ SELECT 2"]
    script = "SELECT 'it''s; \\'; x', `a;b`, \"c;d\", 1 - 2 / 3 /* ' */ ;SELECT 4"
    assert statements(script) == [script[:-9].strip(), "SELECT 4"]
    assert statements(";;\n;") == []


@pytest.mark.parametrize("script", ["SELECT 'x", "SELECT `x", 'SELECT "x', "SELECT 1 /* x"])
def test_what_never_ends_is_told(script: str) -> None:
    """A truncated script is an error of ours, found before it runs."""
    with pytest.raises(ValueError, match="not closed"):
        statements(script)
