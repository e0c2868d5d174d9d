import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mosel.cli import run
from mosel.core.states import State
from mosel.evaluation.arrivals import Recipe, generate
from mosel.evaluation.report import FIGURES, run_names
from mosel.evaluation.results import JobResult, Run, write_run
from mosel.evaluation.simulate import Conditions, simulate
from mosel.online.policies import POLICIES
from mosel.online.scheduler import Scheduler

from .stand_ins import job, profile


class Page(HTMLParser):
    """Collects what a page says and what it links to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.words: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep addresses."""
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_data(self, data: str) -> None:
        """Keep text."""
        self.words.append(data)


def record(folder: Path, policy: str) -> None:
    """Write a simulated run."""
    work = generate(Recipe("bursty", 10, rate_rps=150, seed=2), profile())
    done = simulate(Scheduler({"m": profile()}, policy=policy), {"m": profile()}, work, Conditions())
    write_run(Run(policy, 1, 0, done.jobs, done.batches, work.columns), folder)


@pytest.fixture
def text(tmp_path: Path) -> str:
    """A report of two runs."""
    for policy in ("none", "optimized"):
        record(tmp_path / policy, policy)
    words = ["report", str(tmp_path / "none"), str(tmp_path / "optimized"), "--title", "A <b> title"]
    assert run([*words, "-o", str(tmp_path / "report.html"), "--quiet"]) == 0
    return (tmp_path / "report.html").read_text()


def test_reliability_is_drawn_where_feedback_came_back(tmp_path: Path) -> None:
    """A run whose server told what feedback says of cascades has one picture more."""
    record(tmp_path / "without", "joint")
    work = generate(Recipe("bursty", 10, rate_rps=150, seed=2), profile())
    done = simulate(Scheduler({"m": profile()}), {"m": profile()}, work, Conditions())
    entry = {"mode": "a", "expected": 0.7, "live": 0.6, "low": 0.5, "high": 0.7}
    bins = [entry | {"escalated": False}, entry | {"escalated": True, "expected": 0.9}]
    extra = {"live_accuracy": {"m": {"modes": [], "cascades": bins}}}
    write_run(Run("joint", 1, 0, done.jobs, done.batches, work.columns, extra), tmp_path / "with")
    for name, shown in (("without", False), ("with", True)):
        assert run(["report", str(tmp_path / name), "-o", str(tmp_path / "r.html"), "--quiet"]) == 0
        words = " ".join(Page((tmp_path / "r.html").read_text()).words)
        assert ("Reliability of cascades" in words) is shown
        assert ("with, escalated" in words) is shown


def test_the_page_stands_alone(text: str) -> None:
    """No script, and no address but those inside the page."""
    page = Page(text)
    assert "script" not in page.tags
    assert all(link.startswith("#") for link in page.links)
    assert not re.search(r"@import|url\((?!#)", text)


def test_the_page_shows_every_figure_and_run(text: str) -> None:
    """One drawing a figure, both runs in table and legends, and text that was given is escaped."""
    page = Page(text)
    assert page.tags.count("svg") == len(FIGURES)
    for word in ("A <b> title", "none", "optimized", "violation ratio", "requests per second", "time (s)"):
        assert word in page.words
    assert {name for name, _, _ in FIGURES} <= set(page.words)


def test_drawings_take_their_colours_from_the_page(text: str) -> None:
    """No colour is fixed inside a drawing, so that light and dark ground both work."""
    drawings = re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL)
    assert not [found for drawing in drawings for found in re.findall(r"#[0-9a-f]{6}\b", drawing)]
    used = set(re.findall(r"var\((--\w+)\)", "".join(drawings)))
    assert used <= set(re.findall(r"(--\w+):", text))
    assert "prefers-color-scheme:dark" in text


def test_the_same_runs_give_the_same_page(text: str, tmp_path: Path) -> None:
    """A report holds no date and no random name."""
    words = ["report", str(tmp_path / "none"), str(tmp_path / "optimized"), "--title", "A <b> title"]
    assert run([*words, "-o", str(tmp_path / "again.html"), "--quiet"]) == 0
    assert (tmp_path / "again.html").read_text() == text


def test_a_run_in_which_nothing_ran_can_be_reported(tmp_path: Path) -> None:
    """Without a batch, an answer or an accuracy every figure is still drawn."""
    write_run(Run("none", 1, 0, [JobResult(job("a"), State.REJECTED, 0)], []), tmp_path / "idle")
    assert run(["report", str(tmp_path / "idle"), "-o", str(tmp_path / "report.html"), "--quiet"]) == 0
    assert Page((tmp_path / "report.html").read_text()).tags.count("svg") == len(FIGURES)


def test_every_policy_fits_in_one_report(tmp_path: Path) -> None:
    """A run of each policy goes into one page, each with a colour of its own on light and dark ground."""
    words = []
    for policy in POLICIES:
        write_run(Run(policy, 1, 0, [JobResult(job("a"), State.REJECTED, 0)], []), tmp_path / policy)
        words.append(str(tmp_path / policy))
    assert run(["report", *words, "-o", str(tmp_path / "report.html"), "--quiet"]) == 0
    text = (tmp_path / "report.html").read_text()
    used = re.findall(r"background:var\((--s\d)\)", text)
    assert len(set(used)) == len(POLICIES)
    for name in used:
        assert len(set(re.findall(rf"{name}:(#\w+)", text))) == 2


def test_runs_are_named_as_briefly_as_they_can_be_told_apart() -> None:
    """The folder's own name, or with its parents where names repeat."""
    assert run_names([Path("/a/one"), Path("/a/two")]) == ["one", "two"]
    assert run_names([Path("/a/run"), Path("/b/run")]) == ["a/run", "b/run"]
    assert run_names([Path("/a/run"), Path("/a/run")]) == ["1: /a/run", "2: /a/run"]


@pytest.mark.parametrize(
    ("words", "said"),
    [([], "0 runs; expected 1 to 9"), (["nowhere"], "nowhere: is no folder"), (["."], "summary.json")],
)
def test_what_is_no_run_is_told(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    said: str,
) -> None:
    """Missing and foreign folders are usage errors, told in one line."""
    monkeypatch.chdir(tmp_path)
    assert run(["report", *words, "-o", "report.html"]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert len(told.splitlines()) == 1
