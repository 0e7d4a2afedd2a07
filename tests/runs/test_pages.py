"""What pages of runs say, and how: in words, with each explanation once."""

import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from gan_jax.runs import report
from gan_jax.runs.figures import costs, shown, titled, worded
from gan_jax.runs.workdir import Workdir
from gan_jax.runtime import resources
from tests.helpers import charts_of, small

BY = "random:vgg16:88a6a19a"
RECORDS = [{"step": step, "seconds": 1.0, "d_loss": 1.0, f"fid[{BY}]": 9.0 - step} for step in (2, 4)]
SUMMARY = {
    **{"steps": 4, "seconds": 128.04, "verdict": "healthy", "floor": {f"fid[{BY}]": 0.5, "images": 200}},
    **{f"fid[{BY}]": 5.0, f"best_fid[{BY}]": 5.0, f"best_fid_step[{BY}]": 4, f"kid[{BY}]": 1.0, "d_loss": 1.0},
}


def page_of(
    path: Path, summary: dict[str, Any], records: list[dict[str, Any]], config: ConfigDict | None = None
) -> str:
    """The report of a run whose log and summary these are."""
    place = Workdir(path)
    place.data = {"name": "digits", "digest": "a", "images": 3}
    config = config or small("gan")
    place.claim(config)
    with place.logs(-1, config) as logs:
        for record in records:
            logs.write(record, 4)
        logs.flush()
    if summary:
        place.save_summary(summary)
    return report.write_report(place).read_text(encoding="utf-8")


def test_a_table_knows_its_columns_of_numbers_and_explains_a_figure_once(tmp_path: Path) -> None:
    page = page_of(tmp_path, SUMMARY, RECORDS)
    assert page.count("Fréchet distance of features") == 1
    assert page.count("--numbers: 3") == 1  # FID's: at the end, the best, fresh images'
    assert page.count("--numbers: 1") == 2  # losses, the run


def test_axes_of_shares_alone_are_within_0_and_1(tmp_path: Path) -> None:
    shares = {f"precision[{BY}]": 1.0, "duplicates": 1.0, "class_distance": 0.5, "d_accuracy_real": 1.0}
    records = [record | shares for record in RECORDS]
    drawn = {chart["title"]: chart["share"] for chart in charts_of(page_of(tmp_path, SUMMARY, records))}
    assert [title for title, share in drawn.items() if share] == ["D's accuracy", "Precision and recall", "Collapse"]
    assert [title for title, share in drawn.items() if not share] == ["Losses", "FID"]


def test_figures_have_names_and_keys_of_configs_stay_keys() -> None:
    names = {
        **{"fid[a]": "FID by a", "best_fid[x]": "best FID", "best_fid_step[x]": "step of the best FID"},
        **{"fid[x], median": "FID, median", "best_fid[a], range": "best FID by a, range", "d_loss": "D's loss"},
        **{"d_margin": "D's output: margin", "schedule_augment": "schedule augment", "fid_of_cat[x]": "FID of cat"},
        **{key: key for key in ("d_steps", "batch_size", "seed", "optimizer.generator.learning_rate", "trial")},
    }
    assert {key: titled(key, "x") for key in names} == names
    assert worded("step 8, fid[random:vgg16:88a6a19a] 4", BY) == "step 8, FID 4"
    assert worded("step 8, kid[a] 4", BY) == "step 8, KID by a 4"
    assert [shown(value) for value in (True, 1, 1234.5, [8, 4])] == ["True", "1", "1,234.5", "[8, 4]"]


def test_what_training_cost_has_a_name_for_each_key(tmp_path: Path) -> None:
    cost = resources.Cost(1e9, 1e9, 1)
    found = resources.figures(cost, [1.0, 2.0, 3.0], 4, jax.devices()[:1], jnp.float32)
    rows = costs({"trials": 2, "compile_seconds": 1.5} | found)
    assert all(row.name != row.key.replace("_", " ") for row in rows)
    assert {row.key: row.value for row in rows}["images_per_second_quartiles"] == "1.5 to 2.5"
    page = page_of(tmp_path, SUMMARY | {"resources": found, "best_checkpoint": f"step 4, fid[{BY}] 5"}, RECORDS)
    assert '<td title="gb_per_step">GB a step</td>' in page
    assert page.count("step 4, FID 5") == 2


def test_an_unfinished_run_says_how_far_it_is(tmp_path: Path) -> None:
    judged = {"step": 4, "seconds": 1.0, "d_loss": 1.0, f"fid[{BY}]": 5.0, "eval_samples": 20}
    place = Workdir(tmp_path)
    config = small("gan")
    config.steps = 1200
    page = page_of(tmp_path, {}, [judged, {"step": 1100, "seconds": 3.0, "d_loss": 0.25}], config)
    assert "1,100 of 1,200 steps" in page
    assert '<td title="steps">steps</td><td class="n">1,100 of 1,200</td>' in page
    assert '<td class="n">0.25</td>' in page  # the newest of each: the loss,
    assert f'<td title="fid[{BY}]">FID</td><td class="n">5</td>' in page  # and the last evaluation's
    assert f"Quality is measured by {BY}. Evaluated at step 4." in page
    assert report.newest([]) == {}
    for step in (0, 1000):
        place.save_grid(step, np.zeros((4, 4, 1), np.uint8))
    captions = re.findall("<figcaption>((?:samples, )?step.*)</figcaption>", report.write_report(place).read_text())
    assert captions == ["samples, step 1,000", "step 0", "step 1,000"]


def test_a_class_without_a_name_is_its_number_once(tmp_path: Path) -> None:
    place = Workdir(tmp_path)
    place.data = {"classes": [{"name": name, "train": 3, "test": 1} for name in ("0", "cat", "1")]}
    assert list(report._classes(place)) == ["0", "1: cat", "2: 1"]
