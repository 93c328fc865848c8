import io
import re
import time
from concurrent.futures import ThreadPoolExecutor

from flows.progress import Progress


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _run_stage(progress: Progress, total: int) -> None:
    with progress, progress.stage("scores", total) as count:
        for _ in range(total):
            count()


def test_progress__writes_a_line_a_tenth_and_the_last_one_in_a_pipe() -> None:
    pipe = io.StringIO()
    _run_stage(Progress(stream=pipe), 25)
    assert pipe.getvalue().splitlines() == [f"scores {done}/25" for done in (*range(2, 25, 2), 25)]


def test_progress__writes_every_unit_of_a_short_stage() -> None:
    pipe = io.StringIO()
    _run_stage(Progress(stream=pipe), 3)
    assert pipe.getvalue() == "scores 1/3\nscores 2/3\nscores 3/3\n"


def test_progress__shows_a_bar_on_a_terminal() -> None:
    terminal = _Terminal()
    _run_stage(Progress(stream=terminal), 4)
    assert "scores" in terminal.getvalue()
    assert "4/4" in terminal.getvalue()


def test_progress__is_silent_on_request() -> None:
    terminal = _Terminal()
    _run_stage(Progress("silent", terminal), 4)
    assert terminal.getvalue() == ""


def test_progress__loses_no_count_when_several_threads_count() -> None:
    pipe = io.StringIO()
    with Progress(stream=pipe) as progress, progress.stage("bags", 400) as count, ThreadPoolExecutor(8) as threads:
        for _ in range(400):
            threads.submit(count)
    assert pipe.getvalue().splitlines()[-1] == "bags 400/400"


PACE = re.compile(r"rounds (\d+)/(\d+) ([\d.]+) a minute, (\d+):(\d\d):(\d\d) left")


def paced(total: int, seconds: float) -> list[tuple[int, float, int]]:
    """Counts units that take so long each; returns of every line how many are done, the rate and the seconds left."""
    pipe = io.StringIO()
    with Progress(stream=pipe) as progress, progress.stage("rounds", total, rate=True) as count:
        for _ in range(total):
            time.sleep(seconds)
            count()
    found = []
    for line in pipe.getvalue().splitlines():
        match = PACE.fullmatch(line)
        assert match, line
        done, of, rate, hours, minutes, rest = match.groups()
        assert int(of) == total
        found.append((int(done), float(rate), 3600 * int(hours) + 60 * int(minutes) + int(rest)))
    return found


def test_stage__tells_rounds_done_rate_and_time_left() -> None:
    lines = paced(4, 0.5)
    assert [done for done, _, _ in lines] == [1, 2, 3, 4]
    for done, rate, left in lines:
        assert 0 < rate <= 120  # half a second each, or more on a busy machine
        assert abs(left - 60 / rate * (4 - done)) <= 1  # the two figures tell the same pace
    assert lines[-1][2] == 0


def test_stage__tells_the_rate_of_all_units_and_not_of_the_last_one() -> None:
    lines = paced(20, 0.02)
    assert [done for done, _, _ in lines] == list(range(2, 21, 2))
    assert all(rate <= 3000 for _, rate, _ in lines)


def test_stage__tells_no_rate_unless_asked() -> None:
    pipe = io.StringIO()
    _run_stage(Progress(stream=pipe), 2)
    assert "minute" not in pipe.getvalue()


def test_stage__shows_the_rate_beside_the_bar() -> None:
    terminal = _Terminal()
    with Progress(stream=terminal) as progress, progress.stage("rounds", 2, rate=True) as count:
        count()
        count()
    assert "a minute, 0:00:00 left" in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue())


def test_stage__of_nothing_ends_without_a_line() -> None:
    pipe = io.StringIO()
    with Progress(stream=pipe) as progress, progress.stage("rounds", 0, rate=True):
        pass
    assert pipe.getvalue() == ""


def test_stage__shows_the_same_count_however_many_stages_run_at_once() -> None:
    pipe = io.StringIO()
    progress = Progress(stream=pipe)

    def run(title: str) -> None:
        with progress.stage(title, 30, rate=True) as count:
            for _ in range(30):
                count()

    with progress, ThreadPoolExecutor(4) as threads:
        list(threads.map(run, ("one", "two", "three", "four")))
    lines = pipe.getvalue().splitlines()
    assert len(lines) == 40
    assert sum(line.split()[1] == "30/30" for line in lines) == 4
