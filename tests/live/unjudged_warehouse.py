"""The role ``warehouse`` without its judge: what the engine and the operating system hold by
themselves. ``python unjudged_warehouse.py`` in the environment of the role.

A script, and not a module of ``tests``: whoever starts it may have another directory and no path.
"""

import asyncio
import signal

from analytics.door.judge import Statement
from analytics.warehouse import serve
from schemas.settings import load_settings
from streams.cli import logs
from streams.cli.context import environ, read_file


def _judge_nothing() -> None:
    """Accepts any text unchanged. To be called once the sandbox is set up: it loads the engine."""
    from analytics.warehouse.engine import Engine

    def judged(_engine: Engine, sql: str) -> Statement:
        return Statement(sql)

    Engine.judge = judged  # type: ignore[method-assign, assignment]


async def _main() -> None:
    settings = load_settings(environ(), read_file)
    logs.configure(settings, "warehouse")
    prepared = serve._prepared

    def prepared_and_unjudged(*arguments: object) -> object:
        config = prepared(*arguments)  # type: ignore[arg-type]
        _judge_nothing()
        return config

    serve._prepared = prepared_and_unjudged  # type: ignore[assignment]
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await serve.serve(settings, stop=stop)


if __name__ == "__main__":
    asyncio.run(_main())
