"""What is said of each kind of event in the history of a recipient."""

from analytics.history.words import Words
from schemas.event import BounceClass, BounceReason, EventType


def test_every_event_has_words() -> None:
    """All types, classes and reasons; none names a column or leaves a place empty."""
    base = {
        "recipient": "", "campaign_id": "", "provider": "ses", "native_type": "x", "actor": "none",
        "actor_reason": "", "actor_certainty": "none", "unsubscribe_link": False, "message_id": "",
        "smtp_code": 550, "enhanced_status": "5.1.1", "diagnostic": "", "click_url": "",
        "time_suspect": True, "suppression_scope": "", "source": "news",
    }  # fmt: skip
    words = Words(whole=False)
    for kind in EventType:
        for bounce in BounceClass:
            for reason in BounceReason:
                for actor in ("human", "machine", "scanner", "unknown", "none"):
                    row = {
                        **base, "event_type": str(kind), "bounce_class": str(bounce),
                        "bounce_reason": str(reason), "actor": actor,
                    }  # fmt: skip
                    said = words.sentence(row)
                    assert said.endswith(".")
                    assert said[0].isupper() or said.startswith("ses")
                    assert "{" not in said
                    assert "_" not in said
    left = {
        **base, "event_type": "unsubscribed", "suppression_scope": "group:7",
        "bounce_class": "none", "bounce_reason": "none",
    }  # fmt: skip
    assert words.sentence(left) == "The recipient unsubscribed, for group:7 of news alone."
    listed = {**left, "event_type": "suppression_added", "suppression_scope": ""}
    listed["bounce_reason"] = "suppressed_complaint"
    assert words.sentence(listed) == (
        "The address was put on the suppression list of ses (because of a spam report)."
    )
