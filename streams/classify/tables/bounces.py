"""Rules for diagnostics: wording of the receiving server -> class and reason of the bounce.

Invariants:
1. Rules are tried in order and the first match wins, so narrow rules come before broad ones.
2. A rule matches if the text contains any of ``any_of``, none of ``none_of``, and ``pattern`` if it
   has one. The text is in lower case, with one space between words, and without addresses, ids,
   links and repeated reply codes (``streams.classify.bounce.words_of``); for rules with ``links``
   it ends with host and path of each link.
3. ``bounce_class`` is the class of a permanent refusal; a 4yz reply, or words of ``PASSING``, make
   it soft.
4. A ``certain`` rule outranks an unambiguous status code: its wording has one meaning only, and
   servers do send 5.1.1 with «has sent to too many recipients this hour».
5. A rule needs wording that says what is wrong: «rejected» or «access denied» alone is no evidence.
"""

import re
from typing import NamedTuple

VERSION = 3


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
    r"ok\b|registered|a member|member of|listed|in the directory|in our|available)|has moved|"
    r"no exists?|(?:can|could|do|does|did)(?: ?not|n'?t) "
    r"(?:be )?(?:exist|found|have an account|verified|resolved))"
)
_UNKNOWN_BEFORE = re.compile(
    r"\b(?:unknown|invalid|no such|no valid|no|wrong|bad|nonexistent|not an?|not any|not our) "
    r"(?:\w+ ){0,2}?(?:" + _WHOM + r"|customer|member)"
    r"|\bnot have an? (?:account|mailbox)"
)
_CLOSED = re.compile(
    _WHOM + r"[^.;:]{0,25}?\b(?:disabled|inactive|inactivated|suspended|locked|closed|expired?|"
    r"deactivated|frozen|archived|terminated|cancell?ed|not activated|not active|on hold|deleted|"
    r"removed|dormant|overdue|restricted|retired|due to inactivity)"
    r"|\bmailbox (?:\w+ ){0,3}blocked"
    r"|\b(?:inactive|suspended|disabled|expired|closed|deleted|dormant|frozen) "
    r"(?:user|recipient|mailbox|account|address)"
)
_FULL = re.compile(
    _WHOM + r"[^.;:]{0,30}?\b(?:full|overfull|no (?:more |free |enough )?space|out of space|"
    r"exceed\w* (?:\w+ ){0,3}(?:size|storage|space|limit)s?|not enough space)"
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
    r"|\b(?:your|the sending) (?:host|server|network|mail server|mta)\b[^;.]{0,25}?"
    r"\b(?:block|banned|denied|listed|history)"
)

PASSING = re.compile(
    r"\btemporar(?:y|ily)\b|\b(?:try|retry)(?: \w+)? later\b|\bthis hour\b|\bfor the day\b"
    r"|\b(?:daily|hourly) limit\b|\btoday\b"
)
"""Words that say that a refusal will pass, whatever the reply code."""
LASTING = re.compile(r"\bpermanently deferred\b|\bwill not succeed\b")
"""Words that say that it won't; they outrank both the code and ``PASSING``."""

_SENDERS_QUOTA = re.compile(
    r"(?:daily|weekly|monthly|hourly|package|plan|sending|sender)[ _](?:\w+[ _]){0,2}quota"
)


_NO_PERSON = (
    "domain name", "domain does not", "domain not", "domain must", "recipient domain",
    "nonexistent domain", "nonexistentdomain", "non-existent domain", "mail domain",
    "hostname", "host name", "host not", "host does", "host unknown", "unknown host",
    "no such host", "client host", "non-existent host", "dns", "mx ", "sender", "mail from",
    "ip address", "message-id", "message id",
)  # fmt: skip
"""«not found» is said of domains, hosts, senders and messages too."""

_SENDER_SIDE = (
    Rule("suppressed_list", "suppressed", "other",
         ("suppressed due to customer policy", "suppressed due to system policy",
          "due to blacklist user"),
         none_of=("complaint", "fbl", "unsubscribe", "bounce"), certain=True),
    Rule("suppressed_complaint", "suppressed", "suppressed_complaint",
         ("marked your messages as spam", "complained about your", "policy (spam complaint",
          "policy (fbl", "spam reporting address"),
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

_PATH = (
    Rule("restricted_recipient", "block", "policy",
         ("resolver.rst.authrequired", "resolver.rst.notauthorized",
          "resolver.rst.restrictedtorecipients", "resolver.rst.sendernotauthenticated"),
         certain=True),
    Rule("relay_denied", "block", "relay_denied",
         ("relaying denied", "relay denied", "relay access denied", "relay not permitted",
          "relay prohibited", "relaying prohibited", "relaying disallowed", "relaying not",
          "unable to relay", "permitted to relay", "allowed to relay", "cannot relay",
          "do not relay", "don't relay", "configured to relay", "refuse to relay",
          "not a gateway", "non-local", "not local host", "user not local", "domain not local",
          "isn't local", "local user only", "open relay", "relay not allowed", "relay check",
          "relay operation rejected", "credentials for relay", "as a relay",
          "insecure mail relay", "allowed rcpthost", "my rcpthosts", "handle mail for",
          "accept mail for that domain", "not in my domain", "pop before smtp"),
         none_of=("accept mail from",), certain=True),
)  # fmt: skip

_AUTHENTICATION = (
    Rule("tls_needed", "block", "policy",
         ("starttls", "tls required", "tls is required", "requires encryption", "requires tls",
          "requiretls", "must support tls", "use tls/ssl", "over a tls connection",
          "encryption required", "dane validation", "tls version", "mta-sts"),
         none_of=("message expired",), certain=True),
    Rule("dmarc", "block", "auth", ("dmarc",), certain=True),
    Rule("spf_dkim", "block", "auth",
         ("spf check", "spf record", "spf policy", "spf validation", "spf fail", "spf authenti",
          "mismatches client ip", "mismatch client ip", "ip for sending mail of domain", "mi:spf",
          "mi:dma", "ip not match domain", "spf or dkim", "spf and dkim", "spf/dkim", "fails spf",
          "pass spf", "spf:", "sender policy framework", "sender id", "purported responsible",
          "dkim", "authentication checks", "is unauthenticated", "unauthenticated email",
          "unauthenticated sender", "not permitted by the domain owner"),
         certain=True),
    Rule("spoofed", "block", "auth",
         ("spoof", "fake sender", "forged sender", "forged mail", "sender is forged",
          "sender address forged", "impersonat", "unauthorized use of sender", "not owned by",
          "send as this sender", "senderdenied", "sendasdenied",
          "is not allowed to send mail from", "is not allowed to send from",
          "email address is not verified", "possibly forged", "forged hostname",
          "not authorized to send from", "not authorized to send on behalf"),
         certain=True),
    Rule("reverse_dns", "block", "auth",
         ("ptr record", "ptr resource record", "ptr-record", "no ptr", "unresolvable relay host",
          "reverse dns", "reverse lookup", "reverse hostname", "reverse name", "reverse record",
          "reverse mapping", "rdns", "fcrdns", "find your hostname", "find your reverse",
          "ipv6 sending guidelines", "forward dns entry", "ip name lookup failed",
          "resolve your address", "resolve your ip", "does not match ip", "ptr lookup", "cxdns",
          "unverifyable sending"),
         none_of=("get mx info",), certain=True),
    Rule("login_needed", "block", "auth",
         ("authentication required", "authentification requise", "authentication not allowed",
          "authentication unsuccessful", "authentication data", "credentials",
          "failed to authenticate", "fail authentication", "authentication fail", "auth failed",
          "auth error", "auth support error", "password not accepted", "smtp authentication",
          "login attempts", "authentification invalide", "cannot authenticate",
          "sender verification required", "client was not authenticated",
          "client not authenticated", "must authenticate", "requires authentication",
          "auth required", "not logged in", "please log in"),
         none_of=("proper authentication required", "credential leak")),
)  # fmt: skip

_LIMITS = (
    Rule("recipient_rate", "soft", "policy",
         ("receiving mail too quickly", "receiving email too quickly", "receiving mail at a rate",
          "receiving email at a rate", "message receive limit", "recipient rate limit"),
         certain=True),
    Rule("ip_reputation_limit", "block", "reputation",
         ("due to ip reputation", "user complaints", "unusual rate of", "low reputation",
          "permanently deferred", "unexpected volume or", "untrusted ip", "null sender rate",
          "errors from your ip"),
         certain=True),
    Rule("too_many_bad", "block", "reputation",
         ("too many invalid recipients", "excessive unknown recipients",
          "too many unknown recipients", "too many bad recipients", "too many invalid addresses",
          "dictionary attack", "directory harvest", "harvesting"), certain=True),
    Rule("senders_quota", "soft", "policy", ("quota",), none_of=("mailbox",),
         pattern=_SENDERS_QUOTA, certain=True),
    Rule("sending_quota", "soft", "policy",
         ("sending quota", "submission quota", "sending limit", "relay limit exceeded",
          "daily limit", "send limit exceeded", "frequency limited", "hourly limit", "send rate",
          "rate exceeded", "message rate", "sending rate", "emails per hour", "per hour",
          "per minute", "per day", "this hour", "messages per", "message per", "mails per"),
         certain=True),
    Rule("too_many", "soft", "policy",
         ("too many recipients", "too many connections", "too many sessions", "too many errors",
          "too many concurrent", "too many messages from", "too many messages this",
          "too many messages sent", "received too many messages", "too many mails",
          "sent too many", "too many emails", "too much mail from", "hl:icc", "hl:itc", "hl:mep",
          "hl:ifc", "mi:cel", "mi:dmc", "mi:ccl", "mi:sfq", "mi:stc", "rp:drc", "rp:ccl",
          "rp:qrc", "rp:cel", "cxcnct", "cxthrt", "thread limit", "exceeded limit for receiving",
          "rate limit", "ratelimit", "rate-limit", "throttl", "permitted limits",
          "excessive volume", "connection limit", "max connections", "in one session",
          "number of connections", "number of sessions", "number of recipients",
          "allow rcpt numbers", "slow down", "slower", "too fast", "too quickly", "too frequent",
          "too often", "trop de connexions", "concurrent connections", "numerous attempts",
          "flood", "recipient limit", "connections from your", "connections from this"),
         none_of=("quota exceeded", "on the server", "spams", "are not accepted"), certain=True),
    Rule("greylisted", "soft", "policy",
         ("greylist", "graylist", "grey list", "grey-list", "gray-list"), certain=True),
    Rule("come_back", "soft", "policy",
         ("try again in", "retry in", "come back", "please retry after"), certain=True),
)  # fmt: skip

_REPUTATION = (
    Rule("recipient_block_list", "block", "policy",
         ("customer block list", "blocked senders", "header based manually",
          "blacklisted by recipient", "blocked by the recipient", "blocked by recipient",
          "recipient's blacklist", "recipient's black list", "user's blacklist",
          "users black list", "badmailfrom", "black mail address", "personal blacklist"),
         certain=True),
    Rule("listed", "block", "reputation",
         ("spamhaus", "spamcop", "sorbs.net", "barracudacentral", "barracuda reputation",
          "invaluement", "senderscore", "ipcheck.proofpoint", "csi.cloudmark", "mail-abuse.com",
          "dnsbl", "uceprotect", "abuseat.org", "surriel", "hostkarma", "njabl", "spamrats",
          "trend micro", "denyip", "drbl.", "dsbl.",
          "postmaster.comcast.net/smtp-error-codes.php#bl"),
         none_of=("uribl", "spam_16.htm"), certain=True, links=True),
    Rule("block_list", "block", "reputation",
         ("blacklist", "black list", "black-list", "block list", "block listed", "blocklist",
          "blocked using", " rbl", "rblmx", "banned", "is listed by", "is listed on",
          "is listed at", "is listed in", "is_blocked", "black ip", "bad ip", "on our list of",
          "listed as abusive", "real-time block", "realtime block"),
         none_of=("not in blacklist", "unconfigured", "url listed", "containing url",
                  "blacklisted url", "url is listed", "blacklisted link", "spam pattern",
                  "spam content", "banned content", "banned file", "banned attach",
                  "banned ext"), certain=True),
    Rule("reputation", "block", "reputation",
         ("poor reputation", "bad reputation", "ip reputation", "reputation of",
          "reputation score", "sender reputation", "domain reputation", "reputation is",
          "low-reputation", "intrusion prevention"),
         certain=True),
    Rule("known_spammer", "block", "reputation",
         ("sending spam", "sending too much spam", "low sender score", "dynamic address",
          "sent spam", "block for spam", "blocked for spam", "for spamming", "spam abuse",
          "spammer", "spam sender", "spam source", "source of spam", "spam from your",
          "spams from your", "spam ips", "spamming", "for abuse", "abusive", "abus detecte",
          "abuse detected", "due to abuse", "open proxy", "dynamic ip", "dynamic/",
          "dynamically assigned", "dial-up", "dialup", "from your network", "mail from your ip",
          "by your ip", "bad outbound sender", "tenant has exceeded", "complaints we",
          "complaints about", "spam complaint", "complaint rate", "too many complaint",
          "due to complaint", "unwanted messages", "weren't sent", "this ip has been", "rly:b",
          "dyn:t", "con:b", "hl:rep", "dt:rbl", "mi:spb", "wm:bl", "cxbl", "ask your postmaster",
          "traffic not accepted from this ip"),
         none_of=("not a spammer", "authorized to send email directly"), certain=True),
)  # fmt: skip

_MAILBOX_STATE = (
    Rule("host_address_bad", "block", "reputation",
         ("ip ", "your ", "the sending "), none_of=("mailbox", "[blocked ip"),
         pattern=_ADDRESS_OF_HOST_BAD, certain=True),
    Rule("system_full", "soft", "other",
         ("insufficient system", "insufficient disk space", "insufficient resources",
          "no space left", "space on the disk", "enough disk space", "system storage",
          "out of disk"), certain=True),
    Rule("mailbox_full", "soft", "mailbox_full",
         ("mailbox full", "full mailbox", "mailbox quota", "inbox full", "is full",
          "is over the limit", "over quota", "overquota", "over-quota", "over storage quota",
          "quota exceeded", "quota usage", "quota violation", "quota limit", "exceeded quota",
          "exceeds quota", "exceed quota", "quota full", "exceeded its quota",
          "exceeded their quota", "storage quota", "user quota", "disk quota", "diskspace quota",
          "disk space", "out of storage", "storage space", "exceeded storage", "exceeds storage",
          "exceed storage", "storage limit", "storage allocation", "maximum allowed storage",
          "insufficient storage", "not enough storage", "enough space", "space has been used",
          "too much mail data", "mailbox would exceed", "reached its limit", "account over size",
          "mailbox limit exceeded", "mailbox size limit", "local limit",
          "too many messages on the server", "mailbox has too many messages",
          "user has too many messages", "no more space", "for exceeding receiving",
          "postfach voll", "postfach ist voll", "speichervolumen", "speicherplatz", "pleine",
          "casella piena", "buzon lleno", "caixa cheia", "casilla de mail"),
         none_of=("message size", "queue is full"), certain=True),
    Rule("full", "soft", "mailbox_full",
         ("full", "space", "exceed"), none_of=("message", "recipients", "number of", "rate"),
         pattern=_FULL, certain=True),
    Rule("too_large", "soft", "too_large",
         ("message too large", "message size", "message too big", "message is too",
          "message length exceeds", "maximum message size", "maximum size", "size limit",
          "max size", "too large", "too big", "size exceed", "oversize", "taille limite",
          "larger than", "maximum fixed size", "exceeds maximum", "attachment is too",
          "exceeds the maximum size", "exceeds size"),
         none_of=("header", "mailbox size", "mail file size exceeds"), certain=True),
    Rule("inactive", "hard", "inactive",
         ("account disabled", "account is disabled", "account has been disabled",
          "account closed", "account has been closed", "account is closed", "account suspended",
          "account is suspended", "account is blocked", "account is locked", "account inactive",
          "account is inactive", "account is not active", "account has been suspended",
          "account expired", "account has expired", "mailbox disabled", "mailbox is closed",
          "mailbox is disabled", "mailbox is inactive", "mailbox suspended", "mailbox is frozen",
          "mailbox currently suspended", "mailbox is blocked", "user is inactive",
          "user is locked", "user suspended", "user disabled", "user is disabled",
          "user is blocked", "to reach is disabled", "to reach is inactive", "inactive user",
          "inactive recipient", "recipient disabled", "recipient suspend", "mailbox frozen",
          "extended inactivity", "is terminated", "blocked due to inactivity",
          "mail receiving disabled", "receiving is disabled", "deactivated", "discontinued",
          "temporary locked", "destinataire archive", "compte du destinataire est bloque"),
         none_of=("sender", "sending", "your account"), certain=True),
)  # fmt: skip

_CONTENT = (
    Rule("malware", "block", "content",
         ("virus", "malware", "infected", "phish", "trojan", "illegal attachment",
          "blocked attachment", "prohibited attachment", "attachment type", "file type",
          "file extension", "banned file", "banned attach", "banned ext"),
         none_of=("from spam and phishing",), certain=True),
    Rule("malformed_message", "block", "content",
         ("rfc 5322", "rfc 2822", "rfc compliant", "malformed header", "malformed message",
          "malformed mime", "malformed from", "bare linefeed", "bare line feed", "bare lf",
          "bare newline", "from: header", "from header", "address in from", "as a from:",
          "message-id: header", "message-id header", "missing header", "date header",
          "duplicate header", "headers too large", "disallowed header", "header error",
          "invalid header", "bad header", "not rfc", "non-rfc"),
         none_of=("isn't aligned", "address is not", "envelope"), certain=True),
    Rule("content", "block", "content",
         ("unsolicited", "ube,", "data refused", "spam pattern", "content rejected",
          "content denied", "content reject", "objectionable content", "banned content",
          "content restriction", "content polic", "content presents", "content filter",
          "message content", "contains url", "blacklisted url", "message filtered", "junk mail",
          "junkmail", "dt:spm", "containing url", "credential leak", "bulk mail", "bulk email",
          "as bulk", "suspicious link", "content examination", "mail rejete",
          "suspicious content", "forbidden word", "message body", "bulk.advertising",
          "recurrent pattern", "uribl", "surbl", "executable file",
          "to reduce the amount of spam", "mcspamsignature"),
         certain=True),
    Rule("spam", "block", "content",
         ("spam message rejected", "as spam", "is spam", "of spam", "suspected spam",
          "spam detected", "spam denied", "spam or virus", "- spam", "looks like spam",
          "classified as spam", "spam content", "spam score", "suspicion of spam", "spammy",
          "spam classification", "spam message", "spam filter", "considered spam",
          "spam signature"),
         none_of=("source of spam", "users from spam", "address not accepted"), certain=True),
)  # fmt: skip

_SENDER_REFUSED = (
    Rule("sender_refused", "block", "policy",
         ("sender address rejected", "sender rejected", "sender denied", "invalid sender",
          "sender domain", "unconfigured sending domain", "valid from:", "from domain",
          "from: domain", "domain of sender", "domain in mail from", "from: addresses",
          "sender verify failed", "sender verification failed", "could not verify sender",
          "sender address blocked", "sender address does not exist", "unroutable sender",
          "unrouteable sender", "malformed sender", "normalize sender", "bogus mail from",
          "invalid dns mx or a", "envelope blocked", "envelope rejected", "envelope sender",
          "allowed-senders", "sender is not allowed", "sender not allowed", "emetteur invalide",
          "null sender", "null reverse-path", "backscatter", "batv", "returned mail not accepted",
          "third-party dsns"),
         certain=True),
    Rule("host_refused", "block", "policy",
         ("not allowed to connect", "name was rejected", "connection denied",
          "connection rejected", "client host rejected", "rejecting connect",
          "not authorized to send", "geographical", "geoip", "helo/ehlo", "helo command", "helo:",
          "ehlo command", "helohost", "bad helo", "invalid helo", "mail exchanger",
          "mail server of your isp", "smtp server of your isp", "mass mailer"),
         none_of=("loop",), certain=True),
    Rule("recipient_refused", "block", "policy",
         ("recipient preferences", "rejected by recipient", "user refused", "recipient refused",
          "rejected by this user", "user refuse", "user rejected", "user reject", "user rules",
          "rejected by the recipient", "administrative prohibition", "administratively",
          "doesn't want your", "does not want your", "only accepting mail from", "badrcptto",
          "closed mailing list", "badrecipientto", "envelope recipient has been denied",
          "you have been blocked", "organizational settings", "members-only", "members only",
          "non-member", "not subscribed to this group", "not pre-approved", "moderated",
          "private list", "post to this", "posting to", "recipient id refuse",
          "recipient refuses", "customized-block", "block-send", "list of senders to accept",
          "external senders aren't permitted", "is protected by"),
         certain=True),
    Rule("policy", "block", "policy",
         ("policy reasons", "policy restriction", "policy error", "failure policy",
          "policy violation", "local policy", "site policy", "company policy", "by policy",
          "to policy", "organization policy", "security policies", "has a policy",
          "transport.rules", "over ipv6", "country"),
         certain=True),
)  # fmt: skip

_ADDRESS = (
    Rule("bad_syntax", "hard", "invalid_address",
         ("address syntax", "mailbox syntax", "fully-qualified address",
          "fully qualified address", "fully qualified email address", "not a valid rfc 5321",
          "invalid address", "malformed address", "illegal address", "address is invalid",
          "bad email address", "bad address", "invalid email address", "mailbox name is invalid",
          "mailbox name not allowed", "mailbox name invalid", "malformed recipient",
          "syntax error in recipient", "recipient syntax", "illegal character",
          "invalid character", "bad chars", "invalid format", "invalidinsmtp"),
         none_of=("sender", "helo", "from", "subject", "header", "message",
                  "invalid address lookup")),
    Rule("no_mailbox", "hard", "no_mailbox",
         ("user unknown", "unknown user", "unknown recipient", "recipient unknown", "userunknown",
          "addressee unknown", "address unknown", "unknown address", "unknown local part",
          "unknown or illegal", "no valid recipients", "unknown mailbox", "user is unknown",
          "no such user", "no such recipient", "no such mailbox", "no such address",
          "no such person", "no such account", "user not found", "recipient not found",
          "recipient notfound", "mailbox not found", "account not found", "address not found",
          "user doesn't have", "user does not exist", "user doesn't exist", "user not exist",
          "mailbox does not exist", "recipient does not exist", "account does not exist",
          "to reach does not exist", "address does not exist", "not exist", "invalid recipient",
          "invalid-recipient", "invalid mailbox", "invalid user", "recipients are invalid",
          "non-existent", "nonexistent", "not a valid recipient", "not a valid mailbox",
          "not a valid user", "no mailbox here", "no mail box", "is not local",
          "user missing home", "no one at this address", "mailbox not present", "not present in",
          "unavailable mail user", "account unavailable", "account is unavailable",
          "not our customer", "not listed in", "not in directory", "not in our directory",
          "in name directory", "in domain map failed", "validrcptto", "can't accept user",
          "recipient verification failed", "cannot verify recipient", "recipient is not accepted",
          "rejected recipients", "recipient is not local", "no longer valid",
          "no longer available", "no longer in use", "no longer with", "no longer works",
          "no longer employed", "no longer accept", "no longer active", "has been replaced by",
          "not a known user", "unable to find user", "not find recipient", "not find user",
          "not have a user", "has left the company", "address lookup failed",
          "recipient rejected", "address rejected: access denied", "address rejected.",
          "addresses rejected : access denied", "address rejected: undeliverable",
          "unrouteable address", "unroutable address", "recipnotfound", "recipientnotfound",
          "destinataire invalide", "utilisateur inconnu"),
         none_of=(*_NO_PERSON, "temporarily", "rejected by")),
    Rule("mailbox_unavailable", "hard", "no_mailbox",
         ("mailbox unavailable", "mailbox unavaiable", "mailbox not available",
          "mailbox is unavailable"),
         none_of=("access deni",), soft_reason="other"),
)  # fmt: skip

_NETWORK = (
    Rule("dns_trouble", "soft", "dns",
         ("dns query failed", "not found, try again", "lookup did not complete", "cname_lookup",
          "cname lookup", "dns error", "mx lookup error", "temporary lookup failure",
          "temporary dns", "dns temporary", "dnssec", "servfail", "dns timeout",
          "dns lookup fail", "lookup failure", "lookup fail", "lookup time", "name server reply",
          "nameserver query", "name server time", "name server error", "get mx info",
          "resolver error", "dns server", "unable to resolve route", "resolution temporar",
          "resolve temporar"),
         none_of=("nxdomain", "returned answer with no data", "null mx", "policy check",
                  "client host", "sender", "helo", "address lookup", "address rejected"),
         certain=True),
    Rule("no_domain", "hard", "dns",
         ("host not found", "domain not found", "domain name not found", "nxdomain", "null mx",
          "no mx ", "find mx", "mx record not found", "domain does not exist", "dns domain",
          "invalid domain", "unknown domain", "domain unknown", "unknown host", "host unknown",
          "hostname unknown", "bad destination system", "dead domain", "domain must exist",
          "domain doesn't exist", "domain is invalid", "domain is not valid",
          "mail domain mentioned", "destination computer could not", "recursive cname",
          "find a mail exchanger", "nonexistent domain", "nonexistentdomain",
          "non-existent domain", "non-existent host", "no smtp service", "invalid host name",
          "domain lookup failed", "no such domain", "no such host", "find any host",
          "find the recipient domain", "doesn't receive email", "not accept mail",
          "not accept email", "resolving mx", "no valid mx", "no mx or a", "not found in dns",
          "be found in dns", "unrouteable mail dom", "unrouteable domain", "unroutable domain",
          "unroutable mail dom", "no mail server", "name or service not known",
          "no mail exchange", "domain has no", "domain expired", "domain has expired",
          "domain not registered"),
         none_of=("accept mail from", "accept email from", "sender", "mail from", "helo", "ehlo",
                  "client host", "servfail", "from:", "try again", "nemesis")),
    Rule("loop", "soft", "other",
         ("mail loop", "routing loop", "hop count", "too many hops", " hops", "looping",
          "forwarding loop", "loop count", "loop detected", "loops back", "loop was found",
          "points back", "points to local host", "is the local host", "best-preference mx",
          "received: headers", "received headers"),
         certain=True),
    Rule("timeout", "soft", "timeout",
         ("timed out", "timeout", "time-out", "connection refused", "connection reset",
          "lost connection", "connection dropped", "connection was dropped", "connection expired",
          "connection closed", "closed connection", "connection died", "connection lost",
          "hung up", "delivery attempts", "not be reached", "not initiate smtp", "did not answer",
          "unable to contact", "handshake failed", "message delayed", "connection failed",
          "no route to host", "network is unreachable", "host unreachable", "unreachable",
          "not reachable", "message expired", "time expired", "too old", "queue too long",
          "establish an smtp connection", "unable to connect", "could not connect",
          "cannot connect", "can't connect", "couldn't connect", "failed to connect",
          "did not respond", "not responding", "no response", "no answer", "retry time not",
          "retry timeout", "multiple retries", "for a long time", "has been delayed",
          "queue period", "delivered for more than", "i/o error", "broken pipe",
          "not accepting connections", "maximum retries", "number of retries", "delivery time"),
         certain=True),
    Rule("passing_trouble", "soft", "other",
         ("temporary failure", "temporary system", "temporary server", "temporarily unavailable",
          "temporarily rejected", "server busy", "busy", "service not available",
          "service unavailable", "service currently unavailable", "service is currently",
          "local error", "internal system error", "internal error", "system config error",
          "system error", "system failure", "server error", "mailer error", "software error",
          "server configuration", "configuration error", "configuration problem", "pipelining",
          "home directory", "cannot open", "can not open", "can't create", "command died",
          "unable to chdir", "mailbox database", "send hello first", "try again later",
          "try later", "out of memory", "protocol violation", "processing error",
          "database error", "queue full", "queue is full", "could not be stored", "maintenance",
          "not accepting network messages", "protocol error", "syntax error",
          "sequence of commands", "command not implemented", "not implemented",
          "command unrecognized", "unrecognized command", "unrecognised command",
          "command not recognized", "unavailable to take delivery", "license expired",
          "our database", "overload", "shutting down", "queue has been stopped",
          "unable to process")),
)  # fmt: skip

_TURNS = (
    Rule("sender_bad", "block", "policy", ("sender", "mail from", "mailfrom", "from "),
         pattern=_SENDER_BAD, none_of=("reputation", "accept mail from", "user unknown")),
    Rule("rbl", "block", "reputation", ("rbl",), pattern=re.compile(r"\brbls?\b"), certain=True),
    Rule("closed", "hard", "inactive",
         ("disabled", "nactiv", "suspended", "locked", "closed", "expired", "deactivated",
          "frozen", "archived", "terminated", "cancel", "not activated", "not active", "on hold",
          "restricted", "deleted", "removed", "dormant", "overdue", "retired", "expire",
          "inactiv", "mailbox blocked", "mailbox has been blocked", "mailbox is blocked"),
         none_of=("sender", "your account", "not found"), pattern=_CLOSED),
    Rule("unknown_after", "hard", "no_mailbox",
         ("unknown", "recogni", "invalid", "undeliverable", "exist", "not", "n't", "moved"),
         none_of=(*_NO_PERSON, "user rules", "not allowed", "is not verified",
                  "not been verified"),
         pattern=_UNKNOWN_AFTER),
    Rule("unknown_before", "hard", "no_mailbox",
         ("unknown", "invalid", "no ", "wrong", "bad ", "nonexistent", "not a", "not our",
          "not have"),
         none_of=(*_NO_PERSON, "access denied", "gateway", "command", "hops"),
         pattern=_UNKNOWN_BEFORE),
    Rule("unknown_abroad", "hard", "no_mailbox",
         ("desconocid", "no existe", "inexistente", "inesistente", "sconosciut", "inconnu",
          "unbekannt", "existiert nicht", "onbekend", "nie istnieje", "nie ma takiego",
          "introuvable", "n'existe pas", "nicht gefunden", "kein postfach", "non esiste",
          "nessun utente", "não existe", "nao existe", "bestaat niet", "не существует",
          "не найден", "用户不存在", "存在しません")),
)  # fmt: skip

_BROAD = (
    # single words, tried when no phrase matches; none is certain
    Rule("broad_spam", "block", "content", ("spam",), none_of=("from spam", "of spam sent")),
    Rule("broad_auth", "block", "auth",
         ("authenticat", "authentificat", "spf ", "unverif", "not verified", "login",
          "password")),
    Rule("broad_relay", "block", "relay_denied", ("relay", "rcpthost"),
         none_of=("smtp relay at", "relay=")),
    Rule("broad_quota", "soft", "mailbox_full", ("quota", "mailbox limit", "storage")),
    Rule("broad_limit", "soft", "policy",
         ("too many", "limit exceeded", "exceeded limit", "exceeding", "frequency", "concurrent",
          "limit reached", "over limit", "limits", "limited", "too much")),
    Rule("broad_inactive", "hard", "inactive",
         ("inactive", "disabled", "suspended", "deactivat", "frozen", "locked", "archived"),
         none_of=("blocked", "sender", "sending", "command", "your ", "relay", "vrfy",
                  "feature")),
    Rule("broad_no_mailbox", "hard", "no_mailbox",
         ("not found", "no such", "no mailbox", "no longer", "undeliverable address",
          "undeliverable recipient"),
         none_of=(*_NO_PERSON, "host", "domain", "helo", "command", "error", "file", "record",
                  "signature", "from your")),
    Rule("broad_content", "block", "content",
         ("content", "attachment", "header", "mime", "filtered", "executable", "8bit", "8-bit",
          "base64", "our filter"),
         none_of=("header line too long",)),
    Rule("broad_policy", "block", "policy",
         ("policy", "policies", "not allowed", "not permitted", "prohibited", "not authorized",
          "not authorised", "unauthorized", "not accepted from", "restricted", "helo",
          "whitelist", "encryption")),
    Rule("broad_size", "soft", "too_large", ("too long", "too big", "maximum size", "size exceed")),
    Rule("broad_timeout", "soft", "timeout",
         ("expired", "unreachable", "connect to", "connection", "not responding", "no answer")),
    Rule("broad_passing", "soft", "other",
         ("temporar", "later", "internal", "overload", "loop", "server problem")),
    Rule("broad_refused", "block", "policy",
         ("access denied", "access deni", "denied", "refused", "forbidden", "no permit",
          "blocked", "go away", "not accepted", "not acceptable", "not accepting mail",
          "no access", "message rejected", "mail rejected", "is rejected", "has been rejected",
          "rejected your", "not welcome", "confirmation"),
         none_of=("unavailable or",)),
)  # fmt: skip

RULES: tuple[Rule, ...] = (
    _SENDER_SIDE
    + _PATH
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
