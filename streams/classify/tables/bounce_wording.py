"""What a rule for diagnostics is, and wording that several rules share.

Invariant: pure data. Texts are as ``streams.classify.bounce.words_of`` makes them: lower case, with
one space between words, without addresses and ids.
"""

import re
from typing import NamedTuple


class Rule(NamedTuple):
    """One rule. It fits a text that holds one of ``any_of``, none of ``none_of``, and ``pattern``.

    Attributes:
        name: unique and stable: examples in the tests refer to it.
        bounce_class, bounce_reason: the verdict on a permanent refusal.
        any_of: texts of three characters or more, by which rules are looked up.
        certain: it outranks an unambiguous status code.
        links: it is tried on host and path of links too.
        soft_reason: in place of ``bounce_reason`` where the verdict becomes soft.
        yields_to: subjects or details of a status that say more than such general words.
        only_with: details of a status of which one is needed for the verdict.
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
    yields_to: tuple[str, ...] = ()
    only_with: tuple[str, ...] = ()


# Phrases with too many variants to list: who («user», «mailbox» …) and what («unknown», «does not
# exist» …), a few words apart, in either order.
WHOM = (
    r"\b(?:user|recipient|mail-?box|account|address|addressee|alias|person|local[ -]?part|id|"
    r"mail address|destination|target|rcpt|subscriber|customer|username|user name|inbox)s?\b"
)
UNKNOWN_AFTER = re.compile(
    WHOM
    + r"[^.;:]{0,30}?\b(?:unknown|unrecogni[sz]ed|invalid|undeliverable|nonexist\w*|inexist\w*|"
    r"unallocated|unassigned|(?:does|do)(?: not|n't) belong|not (?:al)?located|not assigned|"
    r"not on this (?:server|system)|"
    r"no longer exists?|no(?:t|n) (?:be )?(?:exists?|found|known|valid|recogni[sz]ed|verified|"
    r"registered|a member|member of|listed|in the directory|in our|available)|has moved|"
    r"no exists?|(?:can|could|do|does|did)(?: ?not|n'?t) "
    r"(?:be )?(?:exist|found|have an account|verified|resolved))"
)
UNKNOWN_BEFORE = re.compile(
    r"\b(?:unknown|invalid|no such|no valid|no|wrong|bad|nonexistent|non[- ]existent|not an?|"
    r"not any|not our) "
    r"(?:\w+ ){0,2}?(?:" + WHOM + r"|customer|member)"
    r"|\bnot have an? (?:account|mailbox)"
    r"|\b(?:(?:can|could|do|does|did)(?: ?not|n'?t)|unable to|cannot) "
    r"(?:find|know|locate|recogni[sz]e)[^.;:]{0,25}?"
    + WHOM
    + r"|\bnot (?:\w+ )?(?:user|customer|member|mailbox|recipient) (?:of|on|in|at) "
    r"|(?:n'?t| not) exists? (?:\w+ ){0,2}" + WHOM
)
CLOSED = re.compile(
    WHOM + r"[^.;:]{0,25}?\b(?:disabled|inactive|inactivated|suspended|locked|closed|expired?|"
    r"deactivated|frozen|archived|terminated|cancell?ed|not activated|not (?:an )?active|"
    r"no longer active|hangup|abandoned|on hold|deleted|"
    r"removed|dormant|overdue|retired|due to inactivity)"
    r"|\b(?:mailbox|account) (?:\w+ ){0,3}blocked"
    r"|\b(?:inactive|suspended|disabled|expired|closed|deleted|dormant|frozen) "
    r"(?:user|recipient|mailbox|account|address)"
)
FULL = re.compile(
    WHOM + r"[^.;:]{0,30}?\b(?:full\b|overfull|no (?:more |free |enough )?space|out of space|"
    r"exceed\w* (?:\w+ ){0,3}(?:size|storage|space|limit)s?|not enough space)"
)
_SENDER = r"(?:sender|mail ?from|envelope[ -]from|return[ -]path|from address|from domain)"
SENDER_BAD = re.compile(
    r"\b" + _SENDER + r"\b[^;]{0,40}?\b(?:reject|refus|denied|deny|invalid|unvalidated|fail|fake|"
    r"forge|restrict|not allowed|not permitted|not in |not exist|must exist|must contain|has no |"
    r"mismatch|"
    r"null mx|have any mx|have an? mx|"
    r"blocked|unknown|unresolv)"
    r"|\b(?:fake|invalid|forged|bad|unknown|denies the|verify|refuse the) (?:\w+ )?" + _SENDER
)
HOST_UNKNOWN = re.compile(
    r"(?:\A|\s)[a-z0-9-]+(?:\.[a-z0-9-]+)+ (?:does not exist|doesn't exist|not found|unknown)\b"
)
"""A name with dots, which is no address, is not there."""
MAILBOX_UNAVAILABLE = re.compile(
    r"\b(?:mailbox|mail box|account) (?:is |was |currently |is currently )?"
    r"(?:unavail?able|not available)\b"
)
EITHER_OR = re.compile(
    r"\b(?:unavailable|not found|unknown|invalid|not exist)\b[^.;:]{0,20}\bor\b[^.;:]{0,20}"
    r"\b(?:access deni|denied|blocked|refused|not allowed|restricted)"
)
"""«Mailbox unavailable or access denied»: of two readings the one that costs no address."""
CLIENT_REFUSED = re.compile(
    r"\b(?:client host|connections?|ip|ip address|client ip|source ip|server ip)"
    r"(?: (?:from|of|address|is|was|has|been|are|your|you|will|not|be|the|this)){0,5} "
    r"(?:rejected|denied|refused by|blocked|forbidden|invalid|accepted|banned|hangup)\b"
    r"|\b(?:invalid|bad|illegal|forbidden|blocked) (?:client |source |sender )?ip\b"
    r"|\bnot allowed to connect\b|\baccess to [^.;]{0,40}\b(?:rejected|denied|refused)\b"
    r"|\brejecting connect"
    r"|\b(?:hosts?|servers?|client|network|mta|ip) (?:is|was|has been|are) "
    r"(?:blocked|rejected|banned|denied)\b"
    r"|\b(?:denied|refused|rejected|blocked|banned) (?:to|for|from) (?:your|the|this) "
    r"(?:ip|host|server|network|mail server)\b"
)
"""The client is refused, and no more is said."""
BLOCK_LIST_NAME = re.compile(
    r"\b(?:(?:dns|ip)?rbls?|dnsbls?|cbl|xbl|sbl|pbl|psbl)\b|\b(?:by|on|using|at|in) (?:the )?"
    r"(?:zen|ivmsip|abusix|mailspike|gbudb|backscatterer|barracuda|sorbs)\b"
)
LIMITED = re.compile(
    r"\b(?:too many|too much|exceed\w*|maximum|max|limit(?:ed)? (?:on|of|for|to))\b[^.;:]{0,40}?"
    r"\b(?:recipients|connections?|sessions?|messages?|mails|e-?mails|errors|commands|threads|"
    r"requests|rate|rates|log-?ins?|attempts|volume|transactions?|posts)\b"
    r"|\b(?:recipients|connections|messages?|mails|e-?mails|sessions|rate|volume|thread|sending|"
    r"relay|submission) (?:\w+ ){0,2}(?:limit|threshold|quota)\b"
)
"""A limit of rate or number."""
SENDER_MISMATCH = re.compile(
    r"\b(?:mail ?from|sender|envelope|from|client ip)\b[^.;]{0,50}?"
    r"(?:\b(?:mis-?match\w*|not match|differs?|must be the same|must match)|n't match)\b"
)
"""Who the sender claims to be does not fit who it is."""
SPF = re.compile(r"\bspf\d?\b")
SECURE_CHANNEL = re.compile(
    r"\b(?:start)?tls\b|\bencrypt\w*|\btlsa\b|\bdane\b|\bmta-sts\b|\bciphers?\b|\bcertificates?\b"
)
REVERSE_NAME = re.compile(
    r"\bptr\b|\br-?dns\b|\bfcrdns\b|\breverse[ -](?:dns|lookup|name|record|host|map|resol|entry)"
)
MESSAGE_REFUSED = re.compile(
    r"\b(?:message|mail|email|e-mail)s?\b[^.;:]{0,30}?"
    r"\b(?:rejected|refused|denied|declined|blocked|bounced|discarded|not accepted|not allowed)\b"
)
"""The message is refused, and no more is said."""
SENDING_ACCOUNT = re.compile(
    r"\b(?:sending|outbounds?|outgoing|submission|submitter)\b[^.;:]{0,40}?"
    r"\b(?:disabled|suspended|blocked|denied|not allowed|deactivated)\b"
)
"""An account that may not send is the sender's."""
ADDRESS_FORM = re.compile(
    r"\b(?:address|mailbox|recipient|local[ -]?part|mailbox name|rcpt)\b[^.;:]{0,30}?"
    r"\b(?:syntax|characters?|chars|malformed|fully[ -]qualified|not allowed chars|literals?|"
    r"format|"
    r"contain a domain|without (?:a )?domain|missing domain)\b"
    r"|\bno domain (?:part )?in [^.;:]{0,20}\baddress"
    r"|\b(?:syntax|malformed|characters? in|illegal characters?|invalid characters?|"
    r"restricted characters|"
    r"badly formed|misformatted|normalize the|fully[ -]qualified)\b[^.;:]{0,30}?"
    r"\b(?:address|mailbox|recipient|local[ -]?part|rcpt)\b"
)
"""Words about the form of an address."""
ADDRESS_OF_HOST_BAD = re.compile(
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

SENDERS_QUOTA = re.compile(
    r"\b(?:rate|policy|policy rejection)\b[^.;]{0,20}\bquota\b|\bquota\b[^.;]{0,20}\b(?:policy|"
    r"sender)\b|"
    r"(?:daily|weekly|monthly|hourly|package|plan|sending|sender)[ _](?:\w+[ _]){0,2}quota"
)

ABROAD_NO_PERSON = (
    "error", "erro ", "erreur", "fehler", "fejl", "błąd", "blad", "fout", "ошибк", "hata", "エラー",
    "错误", "domain", "dominio", "domínio", "expéditeur", "expediteur", "absender", "remitente",
    "mittente", "remetente", "afzender", "nadawc", "отправител", "发件人",
)  # fmt: skip
"""Errors, domains and senders are unknown in other languages too."""
NO_PERSON = (
    "domain name", "domain does not", "domain not", "domain must", "recipient domain",
    "nonexistent domain", "nonexistentdomain", "non-existent domain", "mail domain",
    "hostname", "host name", "host not", "host does", "host unknown", "unknown host",
    "no such host", "client host", "non-existent host", "dns", "mx ", "sender", "mail from",
    "ip address", "message-id", "message id", "outbound", "submitter", "certificate", "mechanism",
    "authentication type", "journal", "your account", "your domain", "your address", "reply-to",
    "return-path", "return path", "from address", "from domain", "attachment", "template", " url",
    "user agent", "quota unknown", "header", "sending account", "api key", "relay for",
)  # fmt: skip
"""«not found» is said of domains, hosts, senders and messages too."""
