"""Queries of ClickHouse for what runs beside the sink.

Invariant: a failed query leaves no client behind, so the next one connects anew.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from analytics.client import check_origin
from schemas.errors import Unavailable


class Asked:
    """Asks; by one thread at a time.

    Args:
        client: creates a ClickHouse client; blocking, raises ``Unavailable``.
    """

    def __init__(self, client: Callable[[], Client]) -> None:
        self._make = client
        self._client: Client | None = None

    def __call__(self, sql: str, parameters: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        """The rows of a query.

        Raises:
            Unavailable: ClickHouse does not answer, or not to this query.
        """
        try:
            if self._client is None:
                self._client = self._make()
            answer = self._client.query(sql, parameters=dict(parameters))
            check_origin(answer.summary)
        except (ClickHouseError, OSError, Unavailable) as error:
            self._client = None
            if isinstance(error, Unavailable):
                raise
            text = (str(error) or type(error).__name__).splitlines()[0][:300]
            raise Unavailable(f"ClickHouse: {text}") from error
        return answer.result_rows
