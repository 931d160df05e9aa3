"""What a run of the bench is asked to do."""

from dataclasses import dataclass

SECTIONS = ("requests", "latency", "streams", "memory", "engines")
ORDINARY = ("requests", "latency", "streams", "memory")


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """Every default is a full run; `quick` makes a smoke of it, whose figures mean nothing."""

    only: tuple[str, ...] = ()
    """Sections to run, of `SECTIONS`; empty: the ordinary ones, and `engines` when it is asked for."""
    rounds: int = 3
    seconds: float = 5.0
    """Of measured load in each run of `requests` and `engines`."""
    connections: int = 64
    latency_calls: int = 2000
    """To each system, in each round."""
    awake: bool = True
    """Keep the cores from sleeping during `latency`."""
    stream_counts: tuple[int, ...] = (500, 1000)
    stream_seconds: float = 30.0
    stream_rounds: int = 1
    chunks_per_second: float = 50.0
    find_max: bool = False
    memory_calls: int = 200_000
    long: bool = False
    """`memory` goes on to 1,000,000 calls."""
    floor: bool = False
    """Include the bare relay."""
    gateway: bool = True
    """Off: measure the others alone."""
    engines: bool = False
    """Include the gateway on PostgreSQL and Redis."""
    postgres: str | None = None
    """A server's URL; unset: one is started from the wheel, when that is installed."""
    redis: str | None = None
    against: str | None = None
    """OpenAI base URL of another gateway, to be driven beside us."""
    against_key: str = ""
    against_model: str = "mock"
    against_stream_model: str = "pacer"
    against_pid: int | None = None
    """Its process, for its CPU and memory, when it runs on this machine."""
    mock_port: int = 0
    """Where the constant upstream listens; a competitor must know. 0: a free port."""
    pacer_port: int = 0
    """Where the paced upstream listens."""
    json: bool = False
    quick: bool = False

    def __post_init__(self) -> None:
        unknown = [name for name in self.only if name not in SECTIONS]
        if unknown:
            raise ValueError(f"no section {unknown[0]!r}; there are {', '.join(SECTIONS)}")
        if (
            self.rounds < 1
            or self.stream_rounds < 1
            or self.connections < 1
            or self.seconds <= 0
            or self.stream_seconds <= 0
        ):
            raise ValueError("rounds, connections and seconds are at least 1 or above 0")

    @property
    def sections(self) -> tuple[str, ...]:
        if self.only:
            return self.only
        return (*ORDINARY, "engines") if self.engines else ORDINARY
