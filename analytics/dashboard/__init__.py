"""The live dashboard: pages for people over ClickHouse, without a build step.

Invariants:
1. It reads and never writes. What it shows are counts of ``schemas.glossary`` as ClickHouse holds
   them; a rate stands beside its numerator and denominator.
2. The database is asked once per interval and view, however many browsers look on; nobody looking
   on costs it nothing.
3. Text from events reaches a page as text only: documents are JSON, the page builds nodes and
   never markup out of it, and the content security policy allows no script but our own files.
4. Recipients are masked unless ``dashboard_show_recipients`` says otherwise.
"""

from analytics.dashboard.app import create_app as create_app
from analytics.dashboard.serve import serve as serve

__all__ = ["create_app", "serve"]
