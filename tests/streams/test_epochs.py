"""Which rules apply to which record, and which revision takes precedence."""

from schemas.versions import REVISION_EPOCH_SHIFT, ROW_OFFSET_BITS
from streams.enrich.derive import LookUps
from streams.enrich.epochs import History, Ruling, Span
from tests.streams.folding import LOG
from tests.streams.replaying import LAX, STRICT, epoch, ruling


def test_rules_by_offset_are_those_of_the_last_epoch_that_covers_it() -> None:
    """A later epoch that begins earlier replaces the one before it; one that begins later does
    not."""
    both = ruling(LAX, epoch(1, STRICT, Span(100, 200)), epoch(2, LAX, Span(150, 300)))
    assert [(at, ups.epoch) for at, ups in both.changes(LOG, 0, LOG)] == [
        (0, 0),
        (100, 1),
        (150, 2),
    ]
    hidden = ruling(LAX, epoch(1, STRICT, Span(100, 200)), epoch(2, LAX, Span(50, 300)))
    assert [(at, ups.epoch) for at, ups in hidden.changes(LOG, 0, LOG)] == [(0, 0), (50, 2)]
    assert [(at, ups.epoch) for at, ups in both.changes("newer", 0, "newer")] == [(0, 2)]
    assert [(at, ups.epoch) for at, ups in both.changes("older", 0, LOG)] == [(0, 0)]


def test_of_two_epochs_announced_at_once_the_first_record_holds() -> None:
    """The other one is ignored, whatever its offsets."""
    one, two = epoch(1, LAX, Span(1, 2)), epoch(1, STRICT, Span(3, 4))
    history = History([one.record(), two.record()])
    assert history.epochs == [one]
    assert not history.has_gone_back(one, LOG, 0)
    history.add([one.gone_back(0, Span(1, 5))])
    assert history.has_gone_back(one, LOG, 0)
    assert history.span(one, 0) == Span(1, 5)


def test_of_an_abort_and_a_beginning_the_first_record_holds() -> None:
    """An aborted epoch judges nothing, and its number is not used again."""
    one, two = epoch(1, STRICT, Span(10, 20)), epoch(2, STRICT, Span(10, 30))
    gone_back = one.gone_back(0, Span(10, 25))
    aborted = History([one.record(), one.aborted(), gone_back])
    assert aborted.is_aborted(1)
    assert not aborted.has_gone_back(one, LOG, 0)
    assert (aborted.newest, aborted.number) == (None, 1)
    begun = History([one.record(), gone_back, one.aborted()])
    assert not begun.is_aborted(1)
    assert begun.newest == one
    aborted.add([two.record()])
    assert aborted.newest == two
    later = Ruling.of(aborted, LookUps())
    assert [(at, ups.epoch) for at, ups in later.changes(LOG, 0, LOG)] == [(0, 0), (10, 2)]
    assert [(at, ups.epoch) for at, ups in later.changes("newer", 0, "newer")] == [(0, 2)]
    assert (later.number, later.now.epoch, later.before_newest().number) == (2, 2, 0)


def test_an_epoch_outranks_every_revision_before_it() -> None:
    """In ClickHouse's version the epoch takes precedence over the number of corrections."""
    corrected_often = (1 << REVISION_EPOCH_SHIFT) - 1
    assert corrected_often << ROW_OFFSET_BITS < 1 << REVISION_EPOCH_SHIFT + ROW_OFFSET_BITS
