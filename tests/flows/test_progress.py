import io
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
