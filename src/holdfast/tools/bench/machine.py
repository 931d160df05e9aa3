"""What the machine is, and what processes cost on it, read from /proc."""

import os
import platform
import time
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
OTHERS = "machine taken by others"
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Machine:
    """What a reader must know before comparing figures from two runs."""

    cores: int
    processor: str
    kernel: str
    python: str
    load_average: float


def describe() -> Machine:
    """This machine, and how busy it was before the run began."""
    return Machine(
        cores=len(os.sched_getaffinity(0)),
        processor=_processor(),
        kernel=platform.release(),
        python=platform.python_version(),
        load_average=os.getloadavg()[0],
    )


def _processor() -> str:
    try:
        lines = (PROC / "cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat after the command's name; empty when the process is gone."""
    try:
        text = (PROC / str(pid) / "stat").read_text()
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def family(pids: tuple[int, ...]) -> tuple[int, ...]:
    """The processes and all their descendants alive now: what serves may be a child of what was started."""
    parents: dict[int, list[int]] = {}
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            fields = _stat(int(entry.name))
            if fields:
                parents.setdefault(int(fields[1]), []).append(int(entry.name))
    found: list[int] = []
    waiting = list(pids)
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.append(pid)
            waiting.extend(parents.get(pid, ()))
    return tuple(found)


def cpu_seconds(pids: tuple[int, ...]) -> float:
    """User and system time of these processes, every thread of them counted."""
    ticks = 0
    for pid in pids:
        fields = _stat(pid)
        if fields:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS_PER_SECOND


def rss_bytes(pids: tuple[int, ...]) -> int:
    """Resident memory of these processes together."""
    pages = 0
    for pid in pids:
        try:
            pages += int((PROC / str(pid) / "statm").read_text().split()[1])
        except OSError:
            continue
    return pages * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Cores:
    """Seconds of the machine's cores since it started, summed: `taken` by processes or the host, and all of them."""

    taken: float
    total: float


def read_cores() -> Cores:
    """Waiting for a disk is idleness; what the hypervisor stole is taken."""
    fields = [int(field) for field in (PROC / "stat").read_text().splitlines()[0].split()[1:9]]
    total = sum(fields)
    return Cores((total - fields[3] - fields[4]) / TICKS_PER_SECOND, total / TICKS_PER_SECOND)


class Window:
    """What happened between its two ends: time, this process's CPU, the watched processes' CPU, and how much of the machine
    was idle or went to neither of them nor to any other process of the bench, whose starter is this process's parent."""

    __slots__ = (
        "_bench",
        "_cores",
        "_opened",
        "_ours",
        "_own",
        "_watch",
        "_watched",
        "idle_share",
        "others_share",
        "own_cpu_share",
        "seconds",
        "watched_cpu_seconds",
    )

    def __init__(self, watch: tuple[int, ...]) -> None:
        self._watch = family(watch) if watch else ()
        self._bench = family((os.getppid(), *watch))

    def __enter__(self) -> "Window":
        self._cores = read_cores()
        self._watched = cpu_seconds(self._watch)
        self._ours = cpu_seconds(self._bench)
        self._own = time.process_time()
        self._opened = time.perf_counter()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.seconds = time.perf_counter() - self._opened
        self.own_cpu_share = (time.process_time() - self._own) / self.seconds
        self.watched_cpu_seconds = cpu_seconds(self._watch) - self._watched
        ours = cpu_seconds(self._bench) - self._ours
        cores = read_cores()
        total = max(cores.total - self._cores.total, 1 / TICKS_PER_SECOND)
        taken = cores.taken - self._cores.taken
        self.idle_share = max(1 - taken / total, 0.0)
        self.others_share = max((taken - ours) / total, 0.0)
