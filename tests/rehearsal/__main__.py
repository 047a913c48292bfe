"""``make rehearse``: see the package. Needs root, Go, and what live tests need.

Exit codes: 0, all holds; 1, something does not, or can't be tried here.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from schemas.settings import PREFIX
from tests.live.maven import Missing
from tests.rehearsal.image import NOT_HERE, ROOT, image_of
from tests.rehearsal.loading import loaded
from tests.rehearsal.project import Extent, services_of
from tests.rehearsal.stack import Trouble

PROFILES = ("observability", "deliver", "operator")
FAULTS = 10
"""As many as ``faults.py`` has, which not every machine can load."""
PROGRAMS = ("ip", "unshare", "nsenter", "setpriv", "mount", "chroot", "hostname", "busybox")


def prepare(folder: Path, partitions: int) -> None:
    """Loads the compose file and has everything at hand that a network would be needed for.

    Args:
        partitions: of each topic.

    Raises:
        Missing: not root, or a program is not on this machine.
        ValueError: Compose refuses the file.
    """
    if os.geteuid() != 0:
        raise Missing("needs root, for network and mount namespaces")
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if absent:
        raise Missing(f"needs {', '.join(absent)} (Debian: iproute2, util-linux, busybox)")
    variables = {
        "SECRETS": str(folder / "secrets"), "MAILPULSE_TOML": str(folder / "mailpulse.toml"),
        "PARTITIONS": str(partitions),
    }  # fmt: skip
    with ThreadPoolExecutor(1) as beside:  # a first build takes half a minute
        loading = beside.submit(loaded, ROOT / "docker-compose.yml", PROFILES, variables)
        ours = {name: it for name, it in os.environ.items() if not name.startswith(PREFIX)}
        for command in ("init", "secrets"):
            subprocess.run(
                [sys.executable, "-P", "-m", "streams.cli", "config", command],
                cwd=folder, env=ours, check=True, stdout=subprocess.DEVNULL,
            )  # fmt: skip
        document = loading.result()
    for service in services_of(document).values():
        if not service.image.startswith(NOT_HERE):
            image_of(service)
    (folder / "project.json").write_text(json.dumps(document), "utf-8")


def inside(folder: Path, extent: Extent, faults: list[int], practised: int | None) -> int:
    """The rehearsal itself, in namespaces of its own."""
    from tests.rehearsal.faults import walk
    from tests.rehearsal.practice import practise
    from tests.rehearsal.story import play

    Path("/run/netns").mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "netns", "/run/netns"], check=True)
    try:
        document = json.loads((folder / "project.json").read_text("utf-8"))
        instead = partial(walk, numbers=faults) if faults else None
        if practised is not None:
            instead = partial(practise, number=practised)
        found = play(document, folder, extent, instead)
    except (Trouble, RuntimeError, TimeoutError) as error:
        print(f"FAILED {error}", file=sys.stderr)
        return 1
    for what in found.failed:
        print(f"FAILED {what}", file=sys.stderr)
    print(f"{found.passed} passed, {len(found.failed)} failed")
    return 1 if found.failed else 0


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.rehearsal", description=__doc__)
    parser.add_argument("--keep", type=Path, help="a new folder for logs and volumes, which stays")
    parser.add_argument(
        "--brief", action="store_true",
        help="4 partitions, and only services that have a twin are restarted",
    )  # fmt: skip
    parser.add_argument(
        "--short", action="store_true",
        help="as --brief, but only a worker is killed, and nothing restarted",
    )  # fmt: skip
    parser.add_argument(
        "--fault", type=int, action="append", default=[], choices=range(1, FAULTS + 1),
        metavar="N", help=f"bring about fault N of {FAULTS} and mend it; may be given again",
    )  # fmt: skip
    parser.add_argument("--faults", action="store_true", help="all of them")
    parser.add_argument(
        "--practise", type=int, choices=range(1, FAULTS + 1), metavar="N",
        help="bring about fault N without naming it, and take commands to find and mend it",
    )  # fmt: skip
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    faults: list[int] = [*range(1, FAULTS + 1)] if given.faults else given.fault
    few = given.short or faults or given.practise is not None
    extent: Extent = "short" if few else "brief" if given.brief else "whole"
    if given.inside:
        return inside(given.inside, extent, faults, given.practise)
    folder = given.keep.resolve() if given.keep else Path(tempfile.mkdtemp(prefix="mailpulse-up-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        prepare(folder, 12 if extent == "whole" else 4)
        alone = ["unshare", "--net", "--mount", "--propagation=private", "--pid", "--fork",
                 "--kill-child", "--mount-proc"]  # fmt: skip
        program = [sys.executable, "-P", "-m", "tests.rehearsal", "--inside", str(folder)]
        program += [] if extent == "whole" else [f"--{extent}"]
        program += [f"--fault={number}" for number in faults]
        program += [] if given.practise is None else [f"--practise={given.practise}"]
        return subprocess.run([*alone, *program], cwd=ROOT, check=False).returncode
    except (Missing, ValueError) as error:
        print(f"FAILED {error}", file=sys.stderr)
        return 1
    finally:
        if not given.keep:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
