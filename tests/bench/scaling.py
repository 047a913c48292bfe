"""How long partitions stand still while workers come, go and are killed.

A broker without topics is needed, so it starts its own. Aim: 10 s at most; nothing lost or doubled.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from tests.live.kafka import Kafka
from tests.live.scaling import DOWN, KILL, UP, scaled

AIM_S = 10.0


def run(_bootstrap: str, _quick: bool) -> dict[str, float]:
    """Seconds, of the partition that stood still for longest; events lost and doubled."""
    with Kafka() as broker, TemporaryDirectory() as folder:
        verdict, still, _ = scaled(broker.bootstrap, Path(folder))
    return {
        "scaling_still_s_max_aim": AIM_S,
        "scaling_up_still_s_max": still.worst(UP),
        "scaling_kill_still_s_max": still.worst(KILL),
        "scaling_down_still_s_max": still.worst(DOWN),
        "scaling_events": verdict.unique,
        "scaling_lost": verdict.lost,
        "scaling_doubled": verdict.double,
        "scaling_campaigns_different": len(verdict.differing),
    }
