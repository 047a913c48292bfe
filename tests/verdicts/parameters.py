"""Parameters of the simulation, each with its source.

«Measured» is a figure that a source gives; «fit» was fitted to published points; «assumed» is
ours, without a source, and results should not hang on it.
"""

from tests.verdicts.delays import Delay, LogNormal, LogUniform, Mixture, Weibull

HOUR = 3600.0

OPEN_DELAYS: dict[str, tuple[Delay, ...]] = {
    "lognormal": (
        LogNormal(4.1 * HOUR, 2.32),
        LogNormal(6.1 * HOUR, 1.60),
        LogNormal(3.7 * HOUR, 2.60),
        LogNormal(3.3 * HOUR, 2.04),
    ),
    "weibull": (Weibull(9.5 * HOUR, 0.48), Weibull(10 * HOUR, 0.42)),
}
"""From delivery to a person's first view, by family. Fits: MailerMailer 2012 (1.4 billion mails),
i-Emailer (about 2,000 campaigns), Inntopia (4 million mails), and an average of them. Nothing
below an hour is published, so the families differ there by a factor of ten."""
OPEN_DELAY_MAX_S = 6 * 86_400.0
"""Later views are not simulated. Assumed."""

MACHINE_SHARES = (0.05, 0.30, 0.65)
"""Of a campaign's clicks. Measured: AWeber about 5 %, Omeda 63 to 65 %; the middle is assumed."""
LINKS = (1, 2, 5, 20)
"""Links in a mail. Assumed; asked for by the project."""

OPENS = 0.35
"""Share of people who look at a mail. Assumed."""
CLICKS_OF_OPENS = 0.12
"""Share of those who look that click. Assumed."""
CLICK_AFTER_VIEW = LogNormal(20.0, 1.2)
"""Assumed; no source was found."""
CLICKED_LINKS = ((0.85, 1), (0.97, 2), (0.99, 3), (0.997, 4), (1.0, 6))
"""Cumulative share -> distinct links that a person clicks: 1 in 85 %, 2 in 12 %, more in 3 %.
Assumed."""
DOUBLE_CLICKS = 0.02
"""Of clicks: the same again within the second, from a hand that double-clicks. Assumed."""
DOUBLE_CLICK_DELAY = LogNormal(0.25, 0.35)
"""Assumed."""
UNSUBSCRIBES = 0.004
"""Of people who look: follow the unsubscribe link. Assumed."""
BETWEEN_CLICKS = LogNormal(25.0, 1.0)
"""Assumed."""
TABS_SHARE = 0.4
"""Of people with several clicks: open links in new tabs, one after another, before reading any.
Assumed; asked for by the project (three tabs in four seconds)."""
BETWEEN_TABS = LogNormal(1.4, 0.45)
"""Three tabs take about three to four seconds. Assumed."""
AGAIN_SHARE = 0.08
"""Of views and of clicks, one more of the same later. Assumed."""
AGAIN_DELAY = LogNormal(2 * HOUR, 1.8)
"""Assumed."""

CODE_OPENS, CODE_CLICKS = 0.9, 0.7
"""Mails that people wait for, with a link or code: shares who look, and of those who click.
Assumed."""
CODE_VIEW_DELAY = LogNormal(7.0, 1.1)
"""From delivery to the view of a mail that is waited for: 4 % within the first second. Assumed;
asked for by the project (one-time codes read after a second)."""
CODE_CLICK_DELAY = LogNormal(2.2, 0.6)
"""From that view to the click. Assumed."""

FORWARDED = 0.005
"""Of those who look: forward the mail. Assumed."""
FORWARD_DELAY = LogNormal(0.8 * HOUR, 2.68)
"""Until the other person looks: as replies, whose median is 47 min. Fit: Kooti 2015."""
FORWARDED_CLICKS = 0.3
"""Assumed."""
FORWARDED_SCANNED = 0.05
"""Of forwarded mails: the other person is behind a gateway, which scans. Assumed."""

APPLE_OPTED_IN = 0.97
"""Of Apple Mail's users. Measured: SparkPost."""
APPLE_FETCHED = 0.95
"""Of mails to them, within the time simulated. Assumed."""
APPLE_DELAY = Mixture(0.5, LogNormal(180.0, 1.5), LogNormal(5 * HOUR, 1.0))
"""From delivery to the fetch: at once when on power and Wi-Fi, else at the next charge. Assumed
(that it waits for power and Wi-Fi: SparkPost)."""
GMAIL_PREFETCHED = (0.01, 0.06)
"""Share of a sender's Gmail opens, least and most. Measured: SparkPost."""
GMAIL_PREFETCH_DELAY = LogNormal(2.0, 0.5)
"""Assumed (that it is at arrival: SparkPost)."""
SEEN_AFTER_PREFETCH = 0.5
"""Views that reach the sender's server although Gmail had prefetched: it caches. Assumed."""
IMAGES_SHOWN = 0.5
"""Of Outlook desktop's users: let images load. Assumed."""

DELIVERY_DELAY = LogNormal(1.5, 0.6)
"""From the send to the delivery, to which scanners' delays are not related. Assumed."""
SCAN_OPEN_DELAY = LogNormal(9.0, 0.76)
"""From the send to a scanner's fetch of the image. Fit: craft-campaign issue 546."""
SCAN_LATE = 0.03
"""Bursts that come late. Measured there: 1.9 % in 5 to 30 min, 0.7 % in 1 to 24 h."""
SCAN_DELAY = LogNormal(48.0, 0.44)
"""From the send to the burst of clicks, of the others. Fit: the same (median 43 s, 0.5 % within
10 s)."""
SCAN_SLOW_DELAY = LogNormal(100.0, 0.8)
"""The same of fleets that come «tens of seconds to minutes after delivery» (MillionSend pull
request 22, measured). The fit is assumed."""
CHECKED_AT_CLICK = 0.2
"""Of clicks by people behind a gateway that rewrites links: the gateway fetches the link itself
before it lets the browser through. Documented that links are checked (Safe Links); that the sender
sees it, and how often, is assumed."""
CHECK_BEFORE_S = (0.15, 1.5)
"""How long before. Assumed."""
SCAN_LATE_DELAY = LogUniform(300.0, 86_400.0)
"""Fit: the same."""
BURST_S = (0.004, 0.95)
"""Length of a burst of all links, log-uniform. Measured: «a few ms» (MillionSend), «under a
second» (craft-campaign)."""
WAVES = 3
"""Hours in a row in which a wave fleet comes, at the top of each. Measured that it happens:
Shoplift; the number is assumed."""

REPORTED_LATE = ((0.955, LogNormal(2.0, 1.0)), (0.99, LogNormal(1200.0, 1.2)),
                 (1.0, LogNormal(5 * HOUR, 0.7)))  # fmt: skip
"""Cumulative share -> how long after an event its report arrives. Assumed."""
REPORTED_LATE_MAX_S = 23 * HOUR
REPORTED_TWICE = 0.02
"""Reports that come again. Assumed."""
TWICE_DELAY = LogNormal(600.0, 1.0)
"""Assumed."""

APPLE_FLAG_MISSED = 0.03
"""SendGrid misses Apple's fetches where a TLS proxy hides the client. Documented that it happens:
SendGrid; the share is assumed."""
SCANNER_FLAGGED = 0.6
"""Scanners that a provider with a flag for them knows (Mailgun's ``generic``). Assumed."""
