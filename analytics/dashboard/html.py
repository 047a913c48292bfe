"""The HTML of the pages; their contents are built in the browser from documents.

Invariants: pure; every text put into a page is escaped; pages contain no inline script or style.
"""

from collections.abc import Iterable
from html import escape

PAGES: dict[str, tuple[str, str]] = {
    "overview": ("/", "Overview"),
    "campaign": ("/campaign", "Campaign"),
    "deliverability": ("/deliverability", "Deliverability"),
    "compare": ("/compare", "Compare"),
    "audience": ("/audience", "Audience"),
    "pipeline": ("/pipeline", "Pipeline"),
}
LOOK_UP = ("/recipient", "Recipient")
"""A page that is whole without JavaScript; its address has nothing of what is looked for."""
OTHERS = {"recipient": LOOK_UP, "sql": ("/sql", "SQL"), "docs": ("/docs", "Topics")}
"""Pages that show no view of the figures."""
_MODULES = (
    "app", "dom", "state", "views", "live", "table", "chart", "axis", "format", "figures", "parts",
    "incidents",
)  # fmt: skip
_HEAD = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<link rel="icon" href="/static/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/static/style.css">
<script src="/static/theme.js"></script>
"""


def shell(page: str, can_sign_out: bool) -> str:
    """The page named ``page``."""
    preloads = "".join(
        f'<link rel="modulepreload" href="/static/{name}.js">\n' for name in (*_MODULES, page)
    )
    title = f"{PAGES[page][1]} · mailpulse"
    return f"""\
{_HEAD.format(title=escape(title))}{preloads}\
<script type="module" src="/static/app.js"></script>
</head>
<body data-page="{escape(page)}">
<a class="skip" href="#main">Skip to the figures</a>
<header class="top">
{_nav(page)}
<div class="status" id="status"><span class="dot"></span>\
<span id="status-text">Loading …</span></div>
<div class="settings" id="settings"></div>
{_sign_out(can_sign_out)}
</header>
<div id="notice" role="alert"></div>
<main id="main" tabindex="-1"><p class="loading">Loading …</p>
<noscript><p>This page needs JavaScript. Every table is also a CSV file, such as
<a href="/csv/overview/campaigns.csv">campaigns.csv</a>.</p></noscript></main>
<footer><p>Figures are exact: every message counts once. Hover or focus a heading with a dotted
line for its definition.</p></footer>
</body>
</html>
"""


def _nav(page: str) -> str:
    """The brand and links to the pages."""
    current = {True: ' aria-current="page"', False: ""}
    links = "".join(
        f'<a href="{escape(path)}" data-page="{escape(name)}"{current[name == page]}>'
        f"{escape(label)}</a>"
        for name, (path, label) in PAGES.items()
        if name != "campaign"
    )
    for name, (path, label) in OTHERS.items():
        links += f'<a href="{path}"{current[page == name]}>{label}</a>'
    return f"""\
<a class="brand" href="/" data-page="overview"><svg viewBox="0 0 32 20" width="32" height="20"\
 aria-hidden="true"><path d="M1 11h7l3-8 5 15 4-11 2 4h9"/></svg>mailpulse</a>
<nav aria-label="Pages">{links}</nav>"""


def _sign_out(can_sign_out: bool) -> str:
    if not can_sign_out:
        return ""
    return '<form method="post" action="/logout"><button class="plain">Sign out</button></form>'


def document(
    title: str,
    content: str,
    can_sign_out: bool,
    page: str = "recipient",
    *,
    modules: Iterable[str] = (),
) -> str:
    """A page whose content is HTML.

    Args:
        content: of the page, escaped.
        page: its name among the links.
        modules: names of its scripts and of its style sheet; none: it needs no JavaScript.
    """
    own = "".join(
        f'<link rel="stylesheet" href="/static/{name}.css">\n'
        f'<script type="module" src="/static/{name}.js"></script>\n'
        for name in map(escape, modules)
    )
    return f"""\
{_HEAD.format(title=escape(title))}{own}</head>
<body>
<a class="skip" href="#main">Skip to the content</a>
<header class="top">
{_nav(page)}
{_sign_out(can_sign_out)}
</header>
<main id="main" tabindex="-1">{content}</main>
</body>
</html>
"""


def login(goes_to: str, problem: str, has_token: bool) -> str:
    """The sign-in page."""
    warning = f'<p class="problem" role="alert">{escape(problem)}</p>' if problem else ""
    form = f"""\
<form method="post" action="/login">
<input type="hidden" name="next" value="{escape(goes_to)}">
<label for="token">Token</label>
<input id="token" name="token" type="password" autocomplete="current-password" required autofocus>
<button>Sign in</button>
</form>
<p class="hint">It is the value of <code>MAILPULSE_DASHBOARD_TOKEN</code>; whoever runs mailpulse
knows it.</p>"""
    other = "<p>Open this page through the proxy that signs you in.</p>"
    return f"""\
{_HEAD.format(title="Sign in · mailpulse")}</head>
<body class="login">
<main class="card"><h1>mailpulse</h1>{warning}{form if has_token else other}</main>
</body>
</html>
"""


def refused(reason: str) -> str:
    """A page for a request that was refused."""
    return f"""\
{_HEAD.format(title="Refused · mailpulse")}</head>
<body class="login"><main class="card"><h1>mailpulse</h1><p>{escape(reason)}</p></main></body>
</html>
"""
