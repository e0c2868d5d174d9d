import dataclasses
import importlib.util
import inspect
import json
import re
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from mosel.commands.serving import scheduler_options
from mosel.core import tables
from mosel.core.files import sha256
from mosel.core.states import OUTCOMES, TRANSITIONS, Reason
from mosel.evaluation.experiments import EXPERIMENTS
from mosel.evaluation.twitter import TWITTER
from mosel.frontend.best import Choice
from mosel.frontend.config import ServeConfig, read_config
from mosel.online.policies import DEFAULT, POLICIES
from tests.docs.blocks import PAGES, ROOT, blocks_of


def test_state_table_is_the_code_s() -> None:
    """The table of states in the docs is TRANSITIONS, row by row."""
    rows = _rows("how-it-works.md", "states")
    shown = {row[0]: {word.strip("` ") for word in row[1].split(",")} - {"–"} for row in rows}
    assert shown == {f"`{state}`": {str(s) for s in after} for state, after in TRANSITIONS.items()}


def test_every_reason_is_explained() -> None:
    """Each reason that a receipt can carry is in the docs, with the code's words and outcomes that exist."""
    rows = {row[0].strip("`"): row for row in _rows("how-it-works.md", "reasons")}
    assert set(rows) == {str(reason) for reason in Reason}
    for _, outcomes, _ in rows.values():
        assert {word.strip() for word in outcomes.split(",")} <= {str(outcome) for outcome in OUTCOMES}
    meanings = re.findall(r'^    \w+ = "(\w+)"\n    """(.*?)"""', inspect.getsource(Reason), re.MULTILINE)
    assert len(meanings) == len(Reason)
    for reason, meaning in meanings:
        assert rows[reason][2].startswith(meaning)


def test_every_decision_is_explained() -> None:
    """Each code that says why a job ran in its modes is in the docs, with the code's words."""
    rows = {row[0].strip("`"): row[1] for row in _rows("how-it-works.md", "decisions")}
    meanings = re.findall(r'^    \w+ = "(\w+)"\n    """(.*?)"""', inspect.getsource(Choice), re.MULTILINE)
    assert rows == dict(meanings)
    assert len(rows) == len(Choice)


def test_outcomes_of_the_formats_are_the_code_s() -> None:
    """The reference of the formats explains the five outcomes and no other."""
    section = _page("formats.md").split("## Outcomes")[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == {str(o) for o in OUTCOMES}


def test_examples_of_the_formats_are_valid(tmp_path: Path) -> None:
    """The profile and the plan that the reference shows pass every check that reading makes."""
    shown = {block.title: block.text for block in blocks_of(ROOT / "docs" / "formats.md")}
    profile = tables.decode_profile(shown["profile.json"].encode(), "formats.md")
    (tmp_path / "plan.json").write_text(shown["plan.json"])
    plan = tables.read_plan(tmp_path / "plan.json")
    assert plan.model == profile.model
    assert len(plan.profile_sha256) == len(sha256(b""))


def test_every_key_of_a_profile_is_explained() -> None:
    """The reference names each key of profile.json and plan.json that the code knows."""
    section = _page("formats.md").split("## profile.json")[1].split("## workload.csv")[0]
    for table in (tables.Profile, tables.Mode, tables.Device, tables.Plan, tables.PlanPoint):
        for key in table.__struct_fields__:
            assert f"`{key}`" in section or f'"{key}"' in section, key


def test_every_key_of_the_configuration_is_explained() -> None:
    """The reference lists each key of the server's TOML file, with its default."""
    rows = _section("formats.md", "Configuration of the server")
    shown = {row[0].strip("`"): row[1].strip("`") for row in rows}
    config = {field.name: field for field in msgspec.structs.fields(ServeConfig)}
    assert set(shown) == set(config)
    for name, text in shown.items():
        if text != "–":
            default = config[name].default
            value = default if default is not msgspec.NODEFAULT else {}
            assert json.dumps(value) == text, name


def test_example_of_the_configuration_is_valid(tmp_path: Path) -> None:
    """The TOML file that the reference shows is read without complaint."""
    shown = {block.title: block.text for block in blocks_of(ROOT / "docs" / "formats.md")}
    (tmp_path / "mosel.toml").write_text(shown["mosel.toml"])
    assert read_config(tmp_path / "mosel.toml", {}).models == ("av-digits",)


def test_metrics_of_the_reference_are_the_server_s() -> None:
    """The reference lists exactly the metrics that the server exposes, front doors' own among them."""
    names = re.findall(r"`(mosel_\w+)`", " ".join(row[0] for row in _section("formats.md", "Metrics")))
    folder = ROOT / "src" / "mosel" / "frontend"
    source = "".join((folder / name).read_text() for name in ("metrics.py", "tallies.py", "doors/counts.py"))
    exposed = {name.removesuffix("_total") for name in re.findall(r'"(mosel_\w+)"', source)}
    assert sorted(names) == sorted(exposed)


def test_every_option_of_the_scheduler_is_explained() -> None:
    """The page on policies lists each option with the default that the server uses."""
    shown = {row[0].strip("`"): row[1].strip("`") for row in _section("policies.md", "Tuning")}
    served = dataclasses.asdict(scheduler_options(ServeConfig()))
    assert shown == {name: json.dumps(value) for name, value in served.items()}


def test_policies_page_has_every_policy() -> None:
    """The table of policies names each policy that there is, and no other."""
    rows = _section("policies.md", "Policies", level=1)
    assert {row[0].strip("`") for row in rows} == set(POLICIES)
    assert f"`{DEFAULT}` is the default" in _page("policies.md")


def test_paths_of_the_paper_s_map_exist() -> None:
    """Every file and folder that the map from the paper to the code names exists."""
    named = set(re.findall(r"`([a-z_]+/(?:[a-z_]+\.py|(?:[a-z_]+/)?)?)`", _page("paper-to-code.md")))
    assert len(named) > 10
    missing = [n for n in named if not (ROOT / "src" / "mosel" / n).exists() and not (ROOT / n).exists()]
    assert not missing


def test_floors_of_the_map_are_the_contract_s() -> None:
    """The map of the floors names every package of `src/mosel`, in the README's page and in CONTRIBUTING."""
    folders = {f"{p.name}/" for p in (ROOT / "src" / "mosel").iterdir() if (p / "__init__.py").exists()}
    for text in (_page("how-it-works.md"), (ROOT / "CONTRIBUTING.md").read_text()):
        assert [name for name in folders if name not in text] == []


@pytest.mark.parametrize("page", [p for p in PAGES if p.parent == ROOT], ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of README and CONTRIBUTING is a file (mkdocs checks those of the docs)."""
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_readme_is_short() -> None:
    """The README has fewer than 150 lines."""
    assert len((ROOT / "README.md").read_text().splitlines()) < 150


def test_readme_s_table_is_the_committed_results() -> None:
    """The README's result table is what the script writes from the committed results, no number by hand."""
    script = load_script("results_table")
    readme = (ROOT / "README.md").read_text()
    assert script.with_block(readme, script.committed()) == readme


def test_evaluation_page_s_table_is_the_committed_results() -> None:
    """Every table of the page is what the script writes from the committed results, no number by hand."""
    script = load_script("evaluation_page")
    page = script.PAGE.read_text()
    assert script.written(page) == page, "run scripts/evaluation_page.py"


def test_tables_of_the_evaluation_say_what_the_results_say() -> None:
    """A month's table weighs days by their requests; a live one shows what is live less what is simulated."""
    script = load_script("evaluation_page")
    day = "profile,greatest_of_capacity,policy,day,requests,on_time,violation_ratio,effective_accuracy\n"
    text = script.block("month", f"{day}p,2.0,joint,1,300,1.0,0.0,0.9\np,2.0,joint,2,100,0.6,0.4,0.5\n")
    assert "| 2 | `joint` | 90.0% | 60.0% | 0.800 |" in text
    tenant = "profile,policy,seed,first_on_time,second_on_time\n"
    text = script.block("tenants", f"{tenant}p,joint,0,0.5,1.0\np,joint,1,0.75,1.0\n")
    assert "| p | `joint` | 62.5% | 100.0% |" in text
    measures = ("violation_ratio", "throughput_rps", "accuracy")
    names = [f"{system}_{measure}" for system in ("live", "profile", "measured") for measure in measures]
    head = ",".join(("profile", "policy", "seed", "requests", "latency_of_profile", "overhead_ms", *names))
    text = script.block("live", f"{head}\np,joint,0,500,1.04,0.5,0.12,101,0.95,0.1,100,0.95,0.125,100,0.951\n")
    assert "| `joint` | 12.0% | 12.5% | 101.0 | 100.0 |" in text
    assert "| -0.50 / +1.00 / -0.10 | +2.00 / +1.00 / +0.00 |" in text
    assert "1 of 1 runs with the live run's batch times, 0 of 1 from the profile alone" in text


def test_parameters_of_the_made_day_are_the_committed_fit_s() -> None:
    """The module of parameters and the page's table are what the script writes from the committed fit."""
    script = load_script("fit_daily")
    page, found = script.PAGE.read_text(), script.committed()
    assert script.with_block(page, found) == page, "run scripts/fit_daily.py"
    assert script.module(found) == script.MODULE.read_text(), "run scripts/fit_daily.py"


def test_a_day_is_fitted_from_a_made_one() -> None:
    """The script finds the parameters of days that the generator made, within what these days tell."""
    script = load_script("fit_daily")
    found, like = script.fitted(script.made_days(TWITTER)), TWITTER
    assert abs(found.day[0] / like.day[0] - 1) < 0.03
    assert abs(found.variance_of_mean - like.variance_of_mean) < 0.05
    assert abs(found.spikes_a_day / like.spikes_a_day - 1) < 0.35


def test_evaluation_page_names_every_experiment() -> None:
    """Each name that `mosel reproduce` takes is explained."""
    rows = [line for line in _page("evaluation.md").splitlines() if line.startswith("| ")]
    named = set(re.findall(r"`(\w+)`", " ".join(rows)))
    assert set(EXPERIMENTS) <= named


def test_reference_of_the_command_line_is_its_help() -> None:
    """The page on the command line is what the script writes from the commands' docstrings."""
    script = load_script("command_line")
    assert script.PAGE.read_text() == script.page(), "run scripts/command_line.py"


def test_pages_need_no_network() -> None:
    """No picture, font or script of the docs is loaded from elsewhere."""
    assert not [p.name for p in PAGES if re.search(r"!\[[^]]*\]\(https?:|<script|<link|@import", p.read_text())]
    for picture in (ROOT / "docs" / "assets").glob("*.svg"):
        assert not re.search(r"(href|src)=|@import|url\(", picture.read_text())


def _page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def _rows(page: str, marker: str) -> list[list[str]]:
    block = _page(page).split(f"<!-- {marker}:begin -->")[1].split(f"<!-- {marker}:end -->")[0]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in block.strip().splitlines()[2:]]
    assert rows
    return rows


def _section(page: str, title: str, level: int = 2) -> list[list[str]]:
    text = _page(page).partition("#" * level + f" {title}\n")[2].partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    assert len(rows) > 2
    return rows[2:]


def load_script(name: str) -> ModuleType:
    """Return `scripts/<name>.py` as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
