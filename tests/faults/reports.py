"""Faults of what a run says of itself: its log's means, its verdict, its best, its page and a sweep's."""

from tests.faults.fault import Fault

_TRIAL, _MEANS, _CHECKPOINT, _UPDATE, _REPORT, _SWEEP, _VISUALIZE, _EVALUATOR, _SEARCH = (
    f"gan_jax/{name}.py"
    for name in (
        *("training/run", "training/means", "runs/checkpoint", "core/update", "runs/report", "sweeps/sweep"),
        *("runs/visualize", "evaluate/evaluator", "sweeps/search"),
    )
)
_FIGURES, _PAGES = "gan_jax/runs/figures.py", "tests/runs/test_pages.py"
_MONITORS = "gan_jax/evaluate/monitors.py"
_MEAN = ("tests/training/test_train.py::test_a_line_is_the_mean_of_the_steps_since_the_line_before",)
_CUT = ("tests/training/test_means.py::test_no_cut_changes_a_bit",)
_STOPPED = ("tests/training/test_faults.py::test_a_run_that_is_asked_to_end_saves_at_once_and_ends_bit_identical",)
_TOLD = ("tests/evaluate/test_evaluate.py::test_the_verdict_is_told_what_was_trained",)
_CRITIC = ("tests/evaluate/test_evaluate.py::test_a_critic_has_no_scale_and_may_tell_all_apart",)
_BESIDE = ("tests/evaluate/test_evaluate.py::test_collapse_is_judged_beside_draws_from_the_data",)
_TWINS = ("tests/evaluate/test_evaluate.py::test_duplicates_do_not_mind_those_that_the_data_has",)
_CLASSES = ("tests/evaluate/test_evaluate.py::test_classes_are_judged_beside_those_that_are_seen_in_the_data",)
_RISEN = ("tests/evaluate/test_evaluate.py::test_a_distance_that_rose_by_half_from_its_best_is_told",)
_FALLING = ("tests/evaluate/test_evaluate.py::test_d_has_not_won_while_the_distance_falls",)
_LENGTHS = ("tests/evaluate/test_evaluate.py::test_the_means_of_a_verdict_are_over_steps_not_lines",)
_PRINTED = ("tests/evaluate/test_evaluate.py::test_with_and_without_evaluation_training_ends_the_same_to_the_bit",)
_LISTED = ("tests/sweeps/test_search.py::test_a_generation_is_one_program_and_figures_are_those_of_the_last_step",)
_PAGE = ("tests/sweeps/test_sweep.py::test_a_sweep_page_tells_its_trials_apart_and_leads_to_them",)
_NAMED = ("tests/sweeps/test_sweep.py::test_the_best_trial_is_named_with_its_setting",)
_CURVE = ("tests/sweeps/test_sweep.py::test_a_curve_keeps_its_ends_and_its_lowest_point",)
_FRAMES = ("tests/runs/test_visualize.py::test_an_animation_is_bounded_however_long_the_run",)

FAULTS: tuple[Fault, ...] = (
    Fault(
        "a-line-is-the-last-step",
        _MEANS,
        "own = values[-first % every :: every]",
        "own = values[-first % every :: every][-1:]",
        _MEAN,
        "A line of the log is one batch's chance.",
    ),
    Fault(
        "a-lazy-penalty-is-averaged-over-all-steps",
        _UPDATE,
        'return {f"{player}_{term.name}": term.every for player, terms in players.items() for term in terms}',
        "return {}",
        _MEAN,
        "A penalty of every 16th step is logged at a sixteenth of its size.",
    ),
    Fault(
        "a-lazy-penaltys-steps-are-counted-from-one",
        _TRIAL,
        "self.means.add(pending.first + at, {name: values[at:stop]",
        "self.means.add(pending.first + at + 1, {name: values[at:stop]",
        _MEAN,
        "The steps without a penalty are taken for those with one.",
    ),
    Fault(
        "means-go-on-over-a-line",
        _MEANS,
        "        self._sums = {}\n        return means",
        "        return means",
        _MEAN,
        "A line is the mean of the whole run.",
    ),
    Fault(
        "sums-are-added-in-pairs",
        _MEANS,
        "np.add.accumulate(np.concatenate([[total], own], dtype=np.float64))[-1]",
        "total + np.sum(own, dtype=np.float64)",
        _CUT,
        "A log's last digits depend on how fast the machine was.",
    ),
    Fault(
        "a-checkpoint-forgets-the-sums",
        _TRIAL,
        "self.checkpoints.save(step, state, to_plain(self.config), wait, self.means.kept())",
        "self.checkpoints.save(step, state, to_plain(self.config), wait)",
        _STOPPED,
        "The first line after a stop is of fewer steps than it says.",
    ),
    Fault(
        "a-resumed-run-forgets-the-sums",
        _TRIAL,
        "Means(intervals(gan), checkpoints.log(first) if first != self.stage.begin else None)",
        "Means(intervals(gan))",
        _STOPPED,
        "The first line after a stop is of fewer steps than it says.",
    ),
    Fault(
        "a-critic-is-judged-as-a-classifier",
        _TRIAL,
        "critic=critic, scale=scale",
        "scale=scale",
        _TOLD,
        "Each WGAN whose critic is good has lost.",
    ),
    Fault(
        "steps-in-which-g-stood-still-count",
        _TRIAL,
        "updates = assemble.generator_updates(self.config)",
        "updates = config.steps",
        _TOLD,
        "A critic's warm-up is taken for training.",
    ),
    Fault(
        "weights-make-no-loss-larger",
        _TRIAL,
        "critic=critic, scale=scale",
        "critic=critic",
        _TOLD,
        "A large weight is called divergence.",
    ),
    Fault(
        "the-data-itself-isnt-looked-at",
        _TRIAL,
        "updates, self.evaluator.itself,",
        "updates, {},",
        _TOLD,
        "A small data set learnt by heart is called collapse.",
    ),
    Fault(
        "a-critic-has-a-scale",
        _MONITORS,
        "return critic and math.isfinite(loss)",
        "return False and math.isfinite(loss)",
        _CRITIC,
        "A critic whose offset drifts has diverged.",
    ),
    Fault(
        "a-critic-shall-not-win",
        _MONITORS,
        "min(accuracies) > MAX_ACCURACY and not critic and",
        "min(accuracies) > MAX_ACCURACY and",
        _CRITIC,
        "Each WGAN whose critic is good has lost.",
    ),
    Fault(
        "collapse-is-judged-by-itself",
        _MONITORS,
        "_beyond(known.get(name, 0), (data or {}).get(name, 0)) > limit",
        "known.get(name, 0) > limit",
        _BESIDE,
        "Rare classes and twins in the data are called collapse.",
    ),
    Fault(
        "copies-in-the-data-hide-collapse",
        _MONITORS,
        "different = np.unique(real[:size], axis=0)",
        "different = real[:size]",
        _TWINS,
        "In data with copies a reals' nearest is itself.",
    ),
    Fault(
        "near-copies-in-the-data-hide-collapse",
        _MONITORS,
        "among_reals >= _TWIN * np.quantile(among_reals, 0.9)",
        "among_reals >= 0",
        _TWINS,
        "In data with near copies only nearer ones count as twins.",
    ),
    Fault(
        "classes-are-compared-with-equal-shares",
        _EVALUATOR,
        'found["class_distance"] = monitors.class_distance(self._data.classes, logits.argmax(1))',
        'found["class_distance"] = monitors.class_distance(np.arange(logits.shape[1]), logits.argmax(1))',
        _CLASSES,
        "A rare class counts as much as a frequent one.",
    ),
    Fault(
        "nobody-tells-that-a-fid-rose",
        _MONITORS,
        "return any(last[name] > RISEN * value for",
        "return any(last[name] < value for",
        _RISEN,
        "A run that ends far behind its best is healthy.",
    ),
    Fault(
        "evaluations-of-few-samples-compare-with-those-of-many",
        _MONITORS,
        "for record in _comparable(records):",
        "for record in records:",
        _RISEN,
        "After more samples were asked for, no run is past its best.",
    ),
    Fault(
        "d-wins-though-g-learns",
        _MONITORS,
        "and not critic and not _falling(*_parted(_comparable(records)))",
        "and not critic",
        _FALLING,
        "A G that gets better has lost.",
    ),
    Fault(
        "each-line-counts-alike",
        _MONITORS,
        "weights=[n for _, n in found]",
        "weights=[1 for _, n in found]",
        _LENGTHS,
        "A verdict depends on how often a run was evaluated.",
    ),
    Fault(
        "an-evaluation-isnt-printed",
        "gan_jax/training/alone.py",
        "for line in self.run.distances(self.run.figures):",
        "for line in ():",
        _PRINTED,
        "FIDs are seen at the end alone.",
    ),
    Fault(
        "the-bar-shows-no-fid",
        _TRIAL,
        'fids = [f"fid {value:.3g}" for value in self.fid]',
        "fids: list[str] = []",
        _PRINTED,
        "FIDs are seen at the end alone.",
    ),
    Fault(
        "a-sweep-is-silent",
        "gan_jax/sweeps/population.py",
        "        self.tell(step)",
        "        pass",
        _LISTED,
        "A sweep of a night says nothing before the morning.",
    ),
    Fault(
        "a-search-calls-its-part-the-whole",
        _SEARCH,
        "for trial in found}, path, trials)",
        "for trial in found}, path)",
        _LISTED,
        "In the midst of a search it is said to be finished.",
    ),
    Fault(
        "only-ends-are-compared",
        _REPORT,
        'lowest, end = _lowest(rows, f"best_{name}"), _lowest(rows, name)',
        "lowest, end = None, _lowest(rows, name)",
        _NAMED,
        "A trial that was best on the way is forgotten.",
    ),
    Fault(
        "colours-repeat",
        "gan_jax/runs/charts.py",
        '"style": chosen[name]',
        '"style": chosen[name] % 10',
        _PAGE,
        "The eleventh trial looks like the first.",
    ),
    Fault(
        "trials-have-no-links",
        _REPORT,
        "trials = table(_trials(rows, swept), links)",
        "trials = table(_trials(rows, swept))",
        _PAGE,
        "A sweep's page leads nowhere.",
    ),
    Fault(
        "the-lowest-point-is-left-out",
        _REPORT,
        "sorted({*evenly(points, _POINTS), lowest[key]})",
        "evenly(points, _POINTS)",
        _CURVE,
        "The curve's mark is at another step than the best.",
    ),
    Fault(
        "an-animation-has-every-frame",
        _VISUALIZE,
        "chosen = evenly(frames, FRAMES)",
        "chosen = list(frames)",
        _FRAMES,
        "A long run ends in minutes of making a film.",
    ),
    Fault(
        "an-animation-is-as-large-as-its-grids",
        _VISUALIZE,
        "frame = smaller(picture, SIDE)",
        "frame = picture.copy()",
        _FRAMES,
        "A film of large grids has hundreds of megabytes.",
    ),
    Fault(
        "keys-of-configs-are-put-in-words",
        _FIGURES,
        'if name not in _KNOWN and "[" not in key:',
        "if False:",
        (f"{_PAGES}::test_figures_have_names_and_keys_of_configs_stay_keys",),
        "A sweep's table has keys that no flag knows.",
    ),
    Fault(
        "the-best-checkpoint-has-a-hash",
        _FIGURES,
        "text = worded(value, shared) if isinstance(value, str) else shown(value)",
        "text = shown(value)",
        (f"{_PAGES}::test_what_training_cost_has_a_name_for_each_key",),
        "A report's figure is called as the log's key.",
    ),
    Fault(
        "shares-go-to-a-hundred",
        _REPORT,
        "share=all(map(is_share, found))",
        "share=False",
        (f"{_PAGES}::test_axes_of_shares_alone_are_within_0_and_1",),
        "A recall of 0 is shown on an axis to 100.",
    ),
    Fault(
        "an-unfinished-runs-losses-are-old",
        _REPORT,
        '{**judged, **records[-1], "steps"',
        '{**records[-1], **judged, "steps"',
        (f"{_PAGES}::test_an_unfinished_run_says_how_far_it_is",),
        "Losses stand beside a number of steps that isn't theirs.",
    ),
)
