"""Rules for diagnostics: wording of the receiving server -> class and reason of the bounce.

Invariants:
1. Rules are tried in order and the first match wins, so narrow rules come before broad ones.
2. A rule matches if the text contains any of ``any_of``, none of ``none_of``, and ``pattern`` if it
   has one. The text is in lower case, with one space between words, and without addresses, ids,
   links and repeated reply codes (``streams.classify.bounce.words_of``); for rules with ``links``
   it ends with host and path of each link.
3. ``bounce_class`` is the class of a permanent refusal; a 4yz reply makes it soft.
4. A ``certain`` rule outranks an unambiguous status code: its wording has one meaning only, and
   servers do send 5.1.1 with «has sent to too many recipients this hour».
5. A rule needs wording that says what is wrong: «rejected» or «access denied» alone is no evidence.
"""

import re
from typing import NamedTuple

VERSION = 2


class Rule(NamedTuple):
    """One rule. ``name`` is unique and stable: examples in the tests refer to it.

    ``soft_reason`` replaces ``bounce_reason`` if the reply is 4yz.
    """

    name: str
    bounce_class: str
    bounce_reason: str
    any_of: tuple[str, ...]
    none_of: tuple[str, ...] = ()
    certain: bool = False
    links: bool = False
    pattern: re.Pattern[str] | None = None
    soft_reason: str = ""


# Phrases with too many variants to list: who («user», «mailbox» …) and what («unknown», «does not
# exist» …), a few words apart, in either order.
_WHOM = (
    r"\b(?:user|recipient|mailbox|account|address|addressee|alias|person|local[ -]?part|id|"
    r"mail address|destination|target)s?\b"
)
_UNKNOWN_AFTER = re.compile(
    _WHOM
    + r"[^.;:]{0,30}?\b(?:unknown|unrecogni[sz]ed|invalid|undeliverable|nonexist\w*|inexist\w*|"
    r"no longer exists?|no(?:t|n) (?:be )?(?:exists?|found|known|valid|recogni[sz]ed|verified|"
    r"ok\b|registered|a member|listed)|no exists?|(?:can|could|do|does|did)(?: ?not|n'?t) "
    r"(?:be )?(?:exist|found|have an account|verified|resolved))"
)
_UNKNOWN_BEFORE = re.compile(
    r"\b(?:unknown|invalid|no such|no valid|no|wrong|bad|nonexistent|not an?|not any|not our) "
    r"(?:\w+ ){0,2}?(?:" + _WHOM + r"|customer|member)"
    r"|\bnot have an? (?:account|mailbox)"
)
_CLOSED = re.compile(
    _WHOM + r"[^.;:]{0,25}?\b(?:disabled|inactive|inactivated|suspended|locked|closed|expired|"
    r"deactivated|frozen|archived|terminated|cancell?ed|not activated|not active|on hold)"
)
_SENDER = r"(?:sender|mail ?from|envelope[ -]from|return[ -]path|from address|from domain)"
_SENDER_BAD = re.compile(
    r"\b" + _SENDER + r"\b[^;]{0,40}?\b(?:reject|refus|denied|deny|invalid|unvalidated|fail|fake|"
    r"forge|restrict|not allowed|not permitted|not in |not exist|must exist|has no |mismatch|"
    r"blocked|unknown|unresolv)"
    r"|\b(?:fake|invalid|forged|bad|unknown|denies the|verify|refuse the) (?:\w+ )?" + _SENDER
)
_ADDRESS_OF_HOST_BAD = re.compile(
    r"\bip(?: address)?\b[^;]{0,25}?\b(?:reject|block|banned|denied|refused|forbidden|hangup)"
)


_SENDERS_QUOTA = re.compile(
    r"(?:daily|weekly|monthly|hourly|package|plan|sending|sender)[ _](?:\w+[ _]){0,2}quota"
)


_SENDER_SIDE = (
    Rule("suppressed_list", "suppressed", "other",
         ("suppressed due to customer policy", "suppressed due to system policy",
          "due to blacklist user"),
         none_of=("complaint", "fbl", "unsubscribe", "bounce"), certain=True),
    Rule("suppressed_complaint", "suppressed", "suppressed_complaint",
         ("marked your messages as spam", "complained about your", "policy (spam complaint",
          "policy (fbl"),
         certain=True),
    Rule("suppressed_unsubscribe", "suppressed", "suppressed_unsubscribe",
         ("unsubscribed address", "unsubscribed recipient", "recipient has unsubscribed",
          "user who unsubscribed", "due to unsubscribed user", "customer is unsubscribed",
          "policy (unsubscribe", "policy (list unsubscribe"),
         certain=True),
    Rule("suppressed_bounce", "suppressed", "suppressed_bounce",
         ("bounced address", "suppression list", "suppressed sending", "previously bounced",
          "marked as inactive", "recent history of bouncing", "policy (bounce"),
         certain=True),
)  # fmt: skip

_AUTHENTICATION = (
    Rule("tls_needed", "block", "policy",
         ("starttls", "tls required", "requires encryption", "requires tls", "must support tls",
          "use tls/ssl", "over a tls connection", "dnssec", "dane validation", "tls version"),
         none_of=("message expired",)),
    Rule("dmarc", "block", "auth", ("dmarc",), certain=True),
    Rule("spf_dkim", "block", "auth",
         ("spf check", "spf record", "spf policy", "spf validation", "spf fail",
          "mismatches client ip", "mismatch client ip",
          "spf authentication", "spf or dkim", "spf and dkim", "spf/dkim", "fails spf",
          "pass spf", "spf:", "sender policy framework", "dkim", "authentication checks",
          "is unauthenticated", "unauthenticated email", "unauthenticated sender",
          "not permitted by the domain owner"),
         certain=True),
    Rule("reverse_dns", "block", "auth",
         ("ptr record", "reverse dns", "reverse lookup", "reverse hostname", "rdns",
          "find your hostname", "find your reverse", "ipv6 sending guidelines"),
         none_of=("get mx info",), certain=True),
    Rule("login_needed", "block", "auth",
         ("authentication required", "authentification requise", "authentication not allowed",
          "authentication unsuccessful", "authentication failed", "auth failed",
          "password not accepted", "smtp authentication",
          "client was not authenticated", "client not authenticated", "must authenticate",
          "requires authentication", "auth required"),
         none_of=("proper authentication required",)),
)  # fmt: skip

_LIMITS = (
    Rule("recipient_rate", "soft", "policy",
         ("receiving mail too quickly", "receiving email too quickly", "receiving mail at a rate",
          "receiving email at a rate", "message receive limit", "recipient rate limit"),
         certain=True),
    Rule("ip_reputation_limit", "block", "reputation",
         ("due to ip reputation", "user complaints", "unusual rate of", "low reputation",
          "permanently deferred", "unexpected volume or"),
         certain=True),
    Rule("senders_quota", "block", "policy", ("quota",), none_of=("mailbox",),
         pattern=_SENDERS_QUOTA, certain=True),
    Rule("sending_quota", "block", "policy",
         ("sending quota", "submission quota", "sending limit", "relay limit exceeded",
          "daily limit", "send limit exceeded", "frequency limited", "hourly limit"),
         certain=True),
    Rule("too_many_bad", "block", "reputation",
         ("too many invalid recipients", "excessive unknown recipients",
          "too many unknown recipients", "too many bad recipients")),
    Rule("too_many", "block", "policy",
         ("too many recipients", "too many connections", "too many sessions", "too many errors",
          "too many concurrent", "too many login", "too many messages this", "sent too many",
          "too many emails", "hl:icc", "rate limit", "ratelimit", "throttl",
          "message per connection", "messages per connection", "messages per session",
          "permitted limits", "excessive volume", "connection limit", "number of connections",
          "slow down", "trop de connexions"),
         none_of=("quota exceeded",), certain=True),
    Rule("greylisted", "soft", "policy",
         ("greylist", "graylist", "grey list", "grey-list"), certain=True),
)  # fmt: skip

_REPUTATION = (
    Rule("recipient_block_list", "block", "policy",
         ("customer block list", "rejected by header based blocked senders",
          )),
    Rule("listed", "block", "reputation",
         ("spamhaus", "spamcop", "sorbs.net", "barracudacentral", "barracuda reputation",
          "invaluement", "senderscore", "ipcheck.proofpoint", "csi.cloudmark", "mail-abuse.com",
          "dnsbl", "uceprotect", "abuseat.org",
          "postmaster.comcast.net/smtp-error-codes.php#bl"),
         none_of=("uribl",), certain=True, links=True),
    Rule("block_list", "block", "reputation",
         ("blacklist", "black list", "block list", "blocklist", "blocked using", " rbl", "rblmx",
          "banned send", "is listed by",
          "is listed on", "is listed at", "is_blocked", "black ip",
          "bad ip"),
         none_of=("not in blacklist", "unconfigured", "url listed", "containing url",
                  "spam pattern", "spam content"), certain=True),
    Rule("reputation", "block", "reputation",
         ("poor reputation", "bad reputation", "ip reputation", "reputation of",
          "sender reputation", "domain reputation", "intrusion prevention"),
         certain=True),
    Rule("known_spammer", "block", "reputation",
         ("sending spam", "sent spam", "block for spam", "blocked for spam", "for spamming",
          "spam abuse", "spammer", "source of spam",
          "bad outbound sender", "tenant has exceeded", "traffic not accepted from this ip"),
         certain=True),
)  # fmt: skip

_MAILBOX_STATE = (
    Rule("mailbox_full", "soft", "mailbox_full",
         ("mailbox full", "mailbox is full", "mailbox size", "mailbox quota", "account is full",
          "inbox is full", "folder is full", "is full", "over quota", "overquota", "over-quota",
          "over storage quota", "quota exceeded", "quota limit", "exceeded quota", "exceeds quota",
          "user quota", "disk quota", "disk space", "out of storage", "storage space",
          "exceeded storage", "exceeds storage", "storage limit", "insufficient storage",
          "insufficient system storage", "too many messages on the server", "postfach voll",
          "speichervolumen", "speicherplatz"),
         none_of=("message size",), certain=True),
    Rule("too_large", "soft", "too_large",
         ("message too large", "message size", "message too big", "message is too big",
          "message length exceeds", "maximum message size", "size limit", "too large",
          "taille limite",
          "larger than the", "attachment is too", "exceeds the maximum size"),
         none_of=("headers too large",), certain=True),
    Rule("inactive", "hard", "inactive",
         ("account disabled", "account is disabled", "account has been disabled",
          "account closed", "account has been closed", "account is closed", "account suspended",
          "account is suspended", "account is blocked", "account is locked", "account inactive",
          "account is inactive", "account is not active", "mailbox disabled",
          "mailbox is disabled", "mailbox is inactive", "mailbox suspended",
          "mailbox currently suspended", "mailbox is blocked", "user is inactive",
          "user is locked", "user suspended", "user disabled", "user is disabled",
          "user is blocked", "to reach is disabled", "to reach is inactive", "inactive user",
          "inactive recipient", "recipient disabled",
          "deactivated", "discontinued", "temporary locked",
          "compte du destinataire est bloque"),
         none_of=(), certain=True),
)  # fmt: skip

_CONTENT = (
    Rule("malware", "block", "content",
         ("virus", "malware", "infected", "phish", "illegal attachment", "blocked attachment"),
         none_of=("from spam and phishing",)),
    Rule("malformed_message", "block", "content",
         ("rfc 5322", "rfc compliant", "malformed", "bare linefeed", "bare line feed",
          "from: header", "blank from:", "as a from:", "message-id: header", "duplicate header",
          "headers too large", "disallowed header", "header error"),
         none_of=("isn't aligned",)),
    Rule("content", "block", "content",
         ("unsolicited", "ube,", "data refused", "spam pattern", "content rejected",
          "content denied", "content reject",
          "content restriction", "content polic", "content presents",
          "content filter", "message content", "message filtered",
          "junk mail", "junkmail", "dt:spm", "containing url",
          "executable file", "to reduce the amount of spam", "mcspamsignature", ":blocked)")),
    Rule("spam", "block", "content",
         ("spam message rejected", "as spam", "is spam", "of spam", "suspected spam",
          "spam detected", "spam denied", "spam or virus", "- spam", "looks like spam",
          "classified as spam", "spam content", "spam score", "suspicion of spam",
          "spam classification"),
         none_of=("source of spam", "users from spam")),
)  # fmt: skip

_SENDER_REFUSED = (
    Rule("relay_denied", "block", "relay_denied",
         ("relaying denied", "relay denied", "relay access denied", "relay not permitted",
          "relay prohibited", "relaying not", "unable to relay", "permitted to relay",
          "allowed to relay", "not configured to relay", "configured to relay", "not local host",
          "not a gateway", "non-local", "open relay",
          "relay not allowed", "credentials for relay", "allowed rcpthosts"),
         certain=True),
    Rule("sender_refused", "block", "policy",
         ("sender address rejected", "sender rejected", "sender denied", "invalid sender",
          "sender domain", "unconfigured sending domain", "valid from:", "from domain",
          "from: domain", "domain of sender",
          "sender verify failed", "sender address blocked", "sender address does not exist",
          "invalid dns mx or a", "envelope blocked", "envelope rejected",
          "spoof", "allowed-senders", "sender is not allowed", "sender not allowed"),
         certain=True),
    Rule("host_refused", "block", "policy",
         ("not allowed to connect",
          "connection denied", "connection rejected", "client host rejected",
          "not authorized to send", "geographical", "geoip", "helo/ehlo", "helo command",
          "mail exchanger")),
    Rule("recipient_refused", "block", "policy",
         ("recipient preferences", "rejected by recipient", "user refused", "recipient refused",
          "rejected by this user",
          "rejected by the recipient", "administrative prohibition",
          "external senders aren't permitted", "restrictedtorecipients"),
         certain=True),
    Rule("policy", "block", "policy",
         ("policy reasons", "policy restriction", "policy error", "failure policy",
          "policy violation", "local policy",
          "by policy", "to policy", "organization policy", "security policies", "has a policy"),
         certain=True),
)  # fmt: skip

_ADDRESS = (
    Rule("bad_syntax", "hard", "invalid_address",
         ("address syntax", "mailbox syntax", "fully-qualified address", "not a valid rfc 5321",
          "invalid address", "malformed address", "illegal address", "address is invalid")),
    Rule("no_mailbox", "hard", "no_mailbox",
         ("user unknown", "unknown user", "unknown recipient", "recipient unknown",
          "addressee unknown", "address unknown", "unknown address", "unknown local part",
          "unknown or illegal", "unknown mailbox", "user is unknown", "no such user",
          "no such recipient", "no such mailbox", "no such address", "no such person",
          "no such account", "user not found", "recipient not found", "mailbox not found",
          "account not found", "address not found", "user doesn't have", "user does not exist",
          "user doesn't exist", "user not exist", "mailbox does not exist",
          "recipient does not exist", "account does not exist",
          "to reach does not exist", "address does not exist",
          "not exist", "invalid recipient", "invalid mailbox", "invalid user",
          "not a valid recipient", "not a valid mailbox", "not a valid user", "no mailbox here",
          "unavailable mail user", "not our customer", "not listed in",
          "no longer valid", "not a known user",
          "recipient rejected", "address rejected: access denied", "address rejected.",
          "address rejected: undeliverable", "unrouteable address", "unroutable address",
          "recipnotfound", "recipientnotfound", "destinataire invalide", "utilisateur inconnu"),
         none_of=("domain name", "domain does not", "sender address", "access deni", "host",
                  "dns")),
    Rule("mailbox_unavailable", "hard", "no_mailbox",
         ("mailbox unavailable", "mailbox not available", "mailbox is unavailable"),
         none_of=("access deni",), soft_reason="other"),
    Rule("access_denied_address", "hard", "no_mailbox", ("address rejected: access denied",)),
)  # fmt: skip

_NETWORK = (
    Rule("dns_trouble", "soft", "dns",
         ("dns query failed", "host not found, try again",
          "temporary lookup failure", "temporary dns", "dns temporary")),
    Rule("no_domain", "hard", "dns",
         ("host not found", "domain not found", "domain name not found", "nxdomain", "null mx",
          "no mx for", "find mx", "mx record not found", "get mx info", "domain does not exist",
          "dns domain", "invalid domain",
          "no such domain", "find any host", "find the recipient domain",
          "doesn't receive email", "not accept mail", "resolving mx", "no valid mx")),
    Rule("loop", "soft", "other",
         ("mail loop", "routing loop", "hop count", "too many hops", " hops", "looping",
          )),
    Rule("timeout", "soft", "timeout",
         ("timed out", "timeout", "time-out", "connection refused", "connection reset",
          "lost connection", "connection dropped", "connection expired", "no route to host",
          "network is unreachable", "message expired", "time expired",
          "too old", "queue too long", "establish an smtp connection", "unable to connect",
          "could not connect", )),
    Rule("passing_trouble", "soft", "other",
         ("temporary failure", "temporary system", "temporary server", "temporarily unavailable",
          "temporarily rejected", "server busy", "busy", "service not available",
          "service unavailable", "service currently unavailable", "service is currently",
          "local error", "internal system error", "internal error", "system config error",
          "system error", "try again later", "try later", "out of memory",
          "syntax error", "sequence of commands")),
)  # fmt: skip

_TURNS = (
    Rule("sender_bad", "block", "policy", ("sender", "mail from", "mailfrom", "from "),
         pattern=_SENDER_BAD, none_of=("reputation",)),
    Rule("host_address_bad", "block", "reputation", ("ip ",), pattern=_ADDRESS_OF_HOST_BAD),
    Rule("rbl", "block", "reputation", ("rbl",), pattern=re.compile(r"\brbls?\b")),
    Rule("closed", "hard", "inactive",
         ("disabled", "nactiv", "suspended", "locked", "closed", "expired", "deactivated",
          "frozen", "archived", "terminated", "cancel", "not activated", "not active", "on hold"),
         pattern=_CLOSED),
    Rule("unknown_after", "hard", "no_mailbox",
         ("unknown", "recogni", "invalid", "undeliverable", "exist", "not", "n't"),
         none_of=("domain name", "sender"), pattern=_UNKNOWN_AFTER),
    Rule("unknown_before", "hard", "no_mailbox",
         ("unknown", "invalid", "no ", "wrong", "bad ", "nonexistent", "not a", "not our",
          "not have"),
         none_of=("domain name", "sender"), pattern=_UNKNOWN_BEFORE),
    Rule("unknown_abroad", "hard", "no_mailbox",
         ("desconocid", "no existe", "inexistente", "inesistente", "sconosciut", "inconnu",
          "unbekannt", "existiert nicht", "onbekend", "nie istnieje", "nie ma takiego")),
)  # fmt: skip

_BROAD = (
    # single words, tried when no phrase matches; none is certain
    Rule("broad_spam", "block", "content", ("spam",), none_of=("from spam", "of spam sent")),
    Rule("broad_auth", "block", "auth",
         ("authenticat", "spf", "reverse name", "reverse record"),
         none_of=("temporar",)),
    Rule("broad_relay", "block", "relay_denied", ("relay",)),
    Rule("broad_quota", "soft", "mailbox_full", ("quota", "mailbox limit", "storage")),
    Rule("broad_limit", "block", "policy",
         ("too many", "limit exceeded", "exceeded limit", "exceeding", "frequency", "concurrent")),
    Rule("broad_inactive", "hard", "inactive",
         ("inactive", "disabled", "suspended", "deactivat", "frozen", "locked", "archived"),
         none_of=("blocked", "sender", "sending", "command")),
    Rule("broad_no_mailbox", "hard", "no_mailbox",
         ("not found", "no such", "no mailbox", "no longer", "undeliverable"),
         none_of=("host", "domain", "dns", "sender", "helo", "command", "error")),
    Rule("broad_content", "block", "content",
         ("content", "attachment", "header", "mime", "filtered", "executable", "8bit", "8-bit"),
         none_of=("header line too long",)),
    Rule("broad_policy", "block", "policy",
         ("policy", "policies", "not allowed", "not permitted", "prohibited", "not authorized",
          "unauthorized", "not accepted from", "restricted", "helo", "whitelist", "encryption")),
    Rule("broad_size", "soft", "too_large", ("too long", "too big", "maximum size", "size exceed")),
    Rule("broad_timeout", "soft", "timeout",
         ("expired", "unreachable", "connect to", "connection", "not responding", "no answer")),
    Rule("broad_passing", "soft", "other", ("temporar", "later", "internal", "overload", "loop")),
)  # fmt: skip

RULES: tuple[Rule, ...] = (
    _SENDER_SIDE
    + _AUTHENTICATION
    + _LIMITS
    + _REPUTATION
    + _MAILBOX_STATE
    + _CONTENT
    + _SENDER_REFUSED
    + _ADDRESS
    + _NETWORK
    + _TURNS
    + _BROAD
)
"""Every rule, in the order in which they are tried."""
