"""The HTML report of a training run, from a short run and from invented logs."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from toy_labels import NETWORK, write_toy

from dpa4_core.errors import DPA4Error
from dpa4_core.train.config import TrainConfig
from dpa4_flows.report.figures_training import MAX_POINTS, MAX_WORST, curve_figures, parity_figures
from dpa4_flows.report.training import render, write_training_report
from dpa4_flows.training import TrainingRun, digits, measure, read_run, ready, run_training, worse_sentences

EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished run with its metrics; read only."""
    place = tmp_path_factory.mktemp("report")
    settings = {"steps": 6, "log_every": 1, "validate_every": 2, "device": "cpu"}
    values = NETWORK | {"data": {"train": str(write_toy(place))}, "output": str(place / "run"), "run": settings}
    run_training(ready(TrainConfig.from_dict(values | {"name": f"toy {EVIL}"})))
    measure(place / "run")
    return place / "run"


class _Page(HTMLParser):
    """Tags that must close, and the text outside of scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack: list[str] = []
        self.words: list[str] = []
        self.feed(text)
        assert not self.stack

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in ("meta", "input", "br", "img"):
            self.stack.append(tag)
        for name, value in attrs:
            assert not (name in ("src", "href") and value and value.startswith("http")), value

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"script", "style"} & set(self.stack):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def figures(page: str) -> dict[str, Any]:
    found = re.findall(r'data-figure-of="([^"]+)">(.*?)</script>', page, re.DOTALL)
    return {name: json.loads(text) for name, text in found}


def test_page_says_what_how_good_and_on_what_with_units(folder: Path) -> None:
    path = write_training_report(folder)
    assert path == folder / "report.html"
    page = path.read_text()
    text = _Page(page).text
    for words in (
        *("interatomic potential for Ni, Cu, trained from scratch on", "meV/atom", "meV/Å", "GPa", "finished"),
        *("Validation errors per element", "per group, largest first", "Force MAE", "Before you quote a number"),
        *("frames to train on", "frames of each group"),
        *(
            "Steps per second",
            "Peak memory",
            "PyTorch",
            "Whole configuration",
            "schedule.lr",
            "This file needs no network",
        ),
    ):
        assert words in text, words
    assert EVIL not in page and EVIL in text
    names = set(figures(page))
    assert {"curve-energy-mae", "curve-force-mae", "curve-stress-mae", "curve-loss", "curve-learning-rate"} <= names
    assert {"parity-energy", "parity-forces", "parity-stress"} <= names
    assert all(f'data-figure="{name}"' in page for name in names)


def test_numbers_of_the_figures_are_those_of_the_log(folder: Path) -> None:
    run = read_run(folder)
    drawn = {block.name: block.figure for block in curve_figures(run)}
    training, validation = drawn["curve-force-mae"].data
    assert list(training.x) == [1, 2, 3, 4, 5, 6] and list(validation.x) == [2, 4, 6]
    assert validation.y[-1] == pytest.approx(1e3 * run.validation[-1]["force_mae"], rel=1e-4)
    stress = drawn["curve-stress-mae"].data[1].y[-1]
    assert stress == pytest.approx(160.21766 * run.validation[-1]["stress_mae"], rel=1e-4)


def test_parity_shows_every_outlier_of_a_large_set() -> None:
    random = np.random.default_rng(0)
    reference = random.normal(size=30_000)
    predicted = reference + 0.01 * random.normal(size=30_000)
    predicted[17] += 5
    empty = {f"{name}_{kind}": np.zeros(0) for name in ("energy", "stress") for kind in ("reference", "predicted")}
    (block,) = parity_figures(empty | {"forces_reference": reference, "forces_predicted": predicted})
    points = block.figure.data[1]
    assert len(points.x) <= MAX_POINTS + MAX_WORST
    assert max(points.y) == pytest.approx(predicted.max(), rel=1e-4)
    assert "30,000 values" in block.caption and "meV/Å" in block.caption


def test_unfinished_run_has_a_page_too(folder: Path, tmp_path: Path) -> None:
    lines = (folder / "log.jsonl").read_text().splitlines()
    (tmp_path / "log.jsonl").write_text(lines[0] + "\n")
    text = _Page(write_training_report(tmp_path).read_text()).text
    assert "step 0 of 6" in text and "Nothing was measured yet" in text
    (tmp_path / "log.jsonl").write_text("\n".join(lines[:4]) + '\n{"kind": "tr')  # cut off by a kill
    text = _Page(write_training_report(tmp_path).read_text()).text
    assert "The run is not finished" in text and "meV/atom" in text


def test_doubts_left_out_frames_and_skipped_steps_are_shown(folder: Path) -> None:
    run = read_run(folder)
    start = json.loads(json.dumps(run.start))
    start["data"]["left_out"] = [["frame 3", f"toy.extxyz, frame 3: a force of 80 eV/Å {EVIL}"]]
    start["data"]["n_left_out"] = 1
    source = start["data"]["sources"]["toy"]
    source["warnings"], source["suspicious"], source["n_suspicious"] = ["energies look odd"], [["frame 9", "odd"]], 1
    start["config"]["base"] = "dpa4-neo"
    before = run.validation[0] | {"step": 0, "force_mae": 0.25, "improved": True}
    changed = TrainingRun(
        folder,
        start,
        run.train,
        [before, *run.validation],
        [{"kind": "skipped", "step": 4, "frames": ["frame 7"]}],
        [{"kind": "decay", "step": 5, "end": 6, "why": "the time limit"}],
    )
    page = render(changed, {}, {})
    text = _Page(page).text
    for words in (
        "a force of 80 eV/Å",
        "energies look odd",
        "frame 9",
        "frame 7",
        "the time limit",
        "1 step without a finite",
    ):
        assert words in text, words
    assert "force 250 →" in text and "Before training, MAE" in text
    assert EVIL not in page


def test_what_became_a_little_worse_is_told_in_digits_that_differ(folder: Path) -> None:
    entry = {"code": "worse_than_base", "quantity": "energy", "step": 9, "before": 0.29251, "after": 0.29258}
    (sentence,) = worse_sentences({"warnings": [entry]}, read_run(folder).start["config"])
    assert "at best 292.5 → 292.6 meV/atom" in sentence


def test_what_became_worse_than_the_base_stands_in_the_colour_of_a_warning(folder: Path) -> None:
    run = read_run(folder)
    start = json.loads(json.dumps(run.start)) | {"doubts": [{"text": "the stresses look like kbar"}]}
    start["config"]["base"], start["config"]["schedule"]["lr"] = "dpa4-neo", 3e-4
    entry = {"code": "worse_than_base", "quantity": "energy", "step": 9, "before": 0.004, "after": 0.012}
    page = render(TrainingRun(folder, start, run.train, run.validation), {"warnings": [entry]}, {})
    text = _Page(page).text
    for words in ("energy worse on the validation frames, at best 4 → 12 meV/atom", "--lr 0.0001 in place of 0.0003"):
        assert words in text, words
    assert "the stresses look like kbar" in text and '<b class="worse">' in page
    forgotten = {
        "n_systems": 20,
        "worst": "NaCl",
        "energy_median": 0.003,
        "energy_max": 0.04,
        "force_median": 0.001,
    }
    page = render(run, {"forgetting": forgotten | {"force_max": 0.02}}, {})
    for words in (
        "20 other systems changed by 3 meV/atom in the median, 40 at most (NaCl)",
        "set finetune.max_forgetting=0.002",
    ):
        assert words in _Page(page).text, words
    little = {"forgetting": forgotten | {"force_max": 0.02, "energy_median": 1e-3}}
    assert "set finetune.max_forgetting" not in _Page(render(run, little, {})).text
    start["config"]["finetune"]["max_forgetting"] = 1e-3
    entry = {"code": "forgets_too_much", "quantity": "other systems", "step": 4, "before": 0.0, "after": 0.0025}
    page = render(TrainingRun(folder, start, run.train, run.validation), {"warnings": [entry]}, {})
    assert "by 2.5 meV/atom at step 4 already" in _Page(page).text and "(now 0.001 eV/atom)" in _Page(page).text
    assert '<b class="worse">' not in render(run, {"warnings": []}, {})


def test_folder_without_a_run_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DPA4Error, match="holds no training run"):
        write_training_report(tmp_path)


def test_numbers_are_written_as_people_read_them() -> None:
    assert [digits(x) for x in (None, 0.0, 0.01234, 12.345, 1234.5, 1e-7)] == [
        "–",
        "0",
        "0.0123",
        "12.3",
        "1,234",
        "1.00e-07",
    ]
