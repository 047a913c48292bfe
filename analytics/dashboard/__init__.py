"""The live dashboard: pages over ClickHouse, without a build step.

Invariants:
1. It reads and never writes. It shows counts of ``schemas.glossary`` as stored in ClickHouse; every
   rate is shown with its numerator and denominator.
2. The database is queried once per interval and view, however many browsers watch it, and not at
   all while none does.
3. Text from events is never markup: documents are JSON, the page creates text nodes from it, and
   the content security policy allows only scripts from our own files.
4. Recipients are masked unless ``dashboard_show_recipients`` is set.
"""

from analytics.dashboard.app import create_app as create_app
from analytics.dashboard.serve import serve as serve

__all__ = ["create_app", "serve"]
