"""One training run from outside its loop: what is logged, drawn, judged and saved at which step, and how it ends."""

import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from gan_jax import assemble, stages
from gan_jax.config import to_plain
from gan_jax.core import losses
from gan_jax.core.gan import GAN
from gan_jax.core.state import GANState, finite, named_leaves
from gan_jax.core.update import intervals
from gan_jax.evaluate import Evaluator, monitors
from gan_jax.evaluate.sample import grid, reconstruct, row_labels
from gan_jax.runs import visualize
from gan_jax.runs.best import Best
from gan_jax.runs.checkpoint import Checkpoints
from gan_jax.runs.logs import Logs
from gan_jax.runs.report import write_report
from gan_jax.runs.workdir import Workdir
from gan_jax.runtime import distributed
from gan_jax.runtime.signals import Stop
from gan_jax.training.dispatch import Pending, awaited
from gan_jax.training.loop import ATTEND
from gan_jax.training.means import Means
from gan_jax.util import progress
from gan_jax.util.errors import DivergedError, UserError
from gan_jax.util.files import PATIENCE, insist


class Run:
    """A run's own affairs, whoever makes its steps: `gan_jax.training.train` of one, `gan_jax.sweeps.sweep` of many.

    Args:
      config, gan: of the run.
      evaluator: what judges it.
      workdir, checkpoints, logs: where it writes.
      first: the step that this process starts from.
      stop: whether it shall end early.
      fallback: a directory for the state in memory, where the workdir can't be written any more.

    ``gan`` and ``evaluator`` are those of the stage that ``first`` is in; see `enter`.
    """

    def __init__(
        self,
        config: ConfigDict,
        gan: GAN,
        evaluator: Evaluator,
        workdir: Workdir,
        checkpoints: Checkpoints,
        logs: Logs,
        first: int,
        stop: Stop | None = None,
        fallback: Path | None = None,
    ) -> None:
        self.config, self.gan, self.workdir, self.checkpoints, self.logs = config, gan, workdir, checkpoints, logs
        self.evaluator, self.first = evaluator, first
        self.stop, self.fallback = stop or Stop(), fallback
        if fallback is not None:
            Workdir(fallback)  # refuses one that can't be, now
        self.trouble: OSError | None = None  # with the disk, when it was waited for in vain
        self.over = 0  # the step after which nothing better is waited for any more
        self.lost = False  # whether the last checkpoint could not be written
        self.stages = stages.plan(config)
        self.stage = stages.at(self.stages, first)
        self.labels = self._row_labels()
        self.begin = self.clock()
        self.kept = Best(workdir, config.checkpoint.best)
        self.means = Means(intervals(gan), checkpoints.log(first) if first != self.stage.begin else None)
        self.reported = 0.0  # when the chunk before was done; 0: other work came in between
        self.rates: deque[float] = deque(maxlen=10_000)  # images/s of the last chunks, however long the run
        self.figures: dict[str, float] = {}  # of the last pause, if it judged
        self.line: dict[str, float] = {}  # means of the last line
        self.now: dict[str, float] = {}  # images/s, and the losses of the last step
        known = self.of_stage(workdir.records()) if first else []
        self.judged = [record for record in known if "eval_samples" in record]  # evaluations
        self.best = monitors.best(self.judged)
        self.fid = [value for record in self.judged for name, value in record.items() if name.startswith("fid[")][-1:]

    def start(self, state: GANState) -> None:
        """Before the first step of this process, compilation behind it: the clock starts."""
        if self.first == 0:
            self.persist("the samples", lambda: self.draw(0, state))
            if self.config.init_from:  # from here on the other run isn't needed any more
                self.persist("a checkpoint", lambda: self.save(0, state))
        self.begin = self.clock()

    def of_stage(self, records: monitors.Records) -> monitors.Records:
        """Return the records of this stage's steps: figures of two resolutions don't compare."""
        return [record for record in records if record["step"] > self.stage.begin] if self.stage.begin else records

    def enter(self, stage: stages.Stage, gan: GAN, evaluator: Evaluator) -> None:
        """Go on with another stage, once all of the one before was logged. The clock stands until `go_on`."""
        self._spent = self.clock() - self.begin
        self.stage, self.gan, self.evaluator = stage, gan, evaluator
        self.labels = self._row_labels()
        self.means, self.judged, self.best, self.fid = Means(intervals(gan)), [], {}, []
        self.reported = 0.0
        self.rates.clear()

    def _row_labels(self) -> np.ndarray:
        """Return the labels of the grid of samples, a class or a condition a row."""
        rows = self.config.sample.rows
        return row_labels(self.gan, rows**2, rows, vectors=self.workdir.conditions(), seed=self.config.seed)

    def go_on(self) -> None:
        """Let the clock go on."""
        self.begin = self.clock() - self._spent

    def clock(self) -> float:
        """Seconds, those left out that the evaluator took to get ready: it does once for many runs."""
        return time.perf_counter() - self.evaluator.preparing

    def pause(self, step: int, state: GANState, pending: Pending) -> str:
        """Do what is due after ``step`` steps; ``state`` lies on one device. Metrics first: no bad state is ever saved.

        Failing writes are tried again, and what fails for too long is left in ``trouble``.

        Return what a progress bar shows.

        Raises:
          DivergedError: see `report`.
        """
        last = step == self.stage.end
        judged, saved = (step % every == 0 or last for every in (self.config.eval.every, self.config.checkpoint.every))
        if judged and not self.evaluator.ready:
            self.evaluator.prepare()
            progress.say(f"{'evaluation':<14}{self.evaluator.description}")
        self.figures = self.evaluator.figures(state) if judged else {}
        if judged:
            self.judged.append({"step": step, **self.figures})
            self.best = monitors.best(self.judged)
            self.fid = [value for name, value in self.figures.items() if name.startswith("fid[")][:1]
        # A checkpoint's step is logged, so that a resumed run knows the time that it took.
        shown = self.report(pending, self.figures if judged or saved else None)
        found = distributed.broadcast(self.kept.found(self.figures, self.stage.begin)) if judged else None
        if found and _finite(state):
            config = to_plain(self.config)
            if distributed.several():  # orbax's barriers of two checkpoints at once may be met in two orders
                self.look_at_disk(wait=True)
            self.persist("the best checkpoint", lambda: self.kept.save(step, state, config, found))
        if judged:
            self.lose_patience(step)
        if step % self.config.sample.every == 0 or last or self.over:
            self.persist("the samples", lambda: self.draw(step, state))
        if saved or self.over:
            self.persist("a checkpoint", lambda: self.save(step, state))
        self.reported = 0.0
        return shown

    def lose_patience(self, step: int) -> None:
        """Let the run be `over` if its evaluations, that after ``step`` the last, have long been no better."""
        patience, every = self.config.checkpoint.patience, self.config.eval.every
        if patience and self.stage.end == self.config.steps and step < self.config.steps and step % every == 0:
            waited = distributed.broadcast(self.kept.waited(step, self.stage.begin, every))
            self.over = step if waited >= patience else 0

    def persist(self, what: str, write: Callable[[], object]) -> None:
        """Write with patience."""
        if self.trouble is None:
            self.trouble = insist(write, f"{what} of {self.workdir.path}", lambda: self.stop.asked)

    def save(self, step: int, state: GANState, wait: bool = False) -> None:
        """Save a checkpoint, if the state is finite; the log is on disk before it."""
        if not _finite(state):
            raise DivergedError(f"the state after step {step} is not finite")
        self.logs.sync()
        self.checkpoints.save(step, state, to_plain(self.config), wait, self.means.kept())

    def needs_attention(self, step: int) -> str:
        """Why to `attend` after ``step``: the signal to end, `ATTEND` if the disk has refused something, or nothing."""
        self.look_at_disk(wait=step in (self.config.steps, self.over))
        self.kept.check()
        if self.logs.gone and self.trouble is None:
            self.trouble = OSError("it was removed")
        return self.stop.asked or (ATTEND if self.lost or self.trouble else "")

    def look_at_disk(self, wait: bool) -> None:
        """Find out whether the last checkpoint could be written; ``wait`` for it."""
        try:
            self.checkpoints.check(wait=wait)
        except OSError as error:
            print(f"\nwarning: a checkpoint of {self.workdir.path} could not be written: {error}", file=sys.stderr)
            self.lost = True

    def attend(self, step: int, state: GANState) -> None:
        """Save ``state``, all of whose metrics were reported, now: here or, if need be, in the fallback.

        Raises:
          UserError: the workdir can't be written any more.
        """
        if (
            self.stop.asked and step < self.config.steps and step % self.config.log.every
        ):  # for the time that it took; gone when the run goes on
            seconds = round(self.logs.seconds_before + self.clock() - self.begin, 3)
            self.logs.write({"step": step, "seconds": seconds, "ended": 1.0}, self.images(0, step))
            self.persist("metrics.jsonl", self.logs.flush)
        self.persist("a checkpoint", lambda: self.save(step, state, wait=True))
        self.lost = False
        if self.trouble is None:
            return
        reason = f"cannot write to {self.workdir.path}: {self.trouble.strerror or self.trouble}"
        tried = f"{reason}; tried for {PATIENCE:.0f} s" if not (self.stop.asked or self.logs.gone) else reason
        if self.fallback is None:
            good = self.workdir.saved()[-1:]
            since = f"what came after the checkpoint of step {good[0]} is lost" if good else "all of it is lost"
            raise UserError(f"{tried}; the run ended at step {step}: {since}, without a --fallback=DIR")
        other = Workdir(self.fallback / self.workdir.path.name, self.workdir.cache)
        try:
            self.workdir.move(other, self.config, self.logs)
            with Checkpoints(other.checkpoints, self.config.checkpoint.keep) as checkpoints:
                checkpoints.save(step, state, to_plain(self.config), True, self.means.kept())
        except (OSError, UserError) as error:
            raise UserError(f"{tried}; nor to the fallback {other.path}: {error}") from error
        raise UserError(
            f"{tried}; the run ended at step {step}, saved in {other.path}: go on with --workdir={other.path}"
        )

    def apart(self, error: DivergedError, state: GANState) -> DivergedError:
        """Keep a state that is not finite in ``diverged/``; return ``error`` with what is wrong in it."""
        leaves = {name: np.asarray(leaf) for name, leaf in named_leaves(jax.device_get(state)).items()}
        step = int(leaves["step"])
        bad = [name for name, leaf in leaves.items() if leaf.dtype.kind == "f" and not np.isfinite(leaf).all()]
        parts = []
        for player in dict.fromkeys(name.partition(".")[0] for name in bad):
            own = [name for name in bad if name.startswith(f"{player}.")]
            more = f" and {len(own) - 1} more" if len(own) > 1 else ""
            parts.append(f"{own[0]}{more}")
        found = (
            f"not finite in the state after step {step}: {', '.join(parts)}"
            if bad
            else f"the state after step {step} is finite"
        )
        try:
            kept = f"kept in {self.workdir.save_diverged(step, leaves)}"
        except OSError as trouble:
            kept = f"it can't be kept: {trouble.strerror or trouble}"
        return DivergedError(f"{error}; {found}; {kept}")

    def report(self, pending: Pending, figures: dict[str, float] | None = None) -> str:
        """Check a chunk's metrics, each step's, and log them where that is due.

        At the last step they are logged with ``figures``, if these are given. A line has the means of all steps since
        the line before it (`gan_jax.training.means.Means`).

        Return what a progress bar shows.

        Raises:
          DivergedError: a metric, or the state before the chunk, is no longer finite.
        """
        log = dict(jax.device_get(pending.metrics))
        if not log.pop("fine"):
            raise DivergedError(self.diverged("the state", pending.first))
        metrics = {name: values[: pending.count] for name, values in log.items()}
        for name, values in metrics.items():
            if not np.isfinite(values).all():
                step = pending.first + int(np.flatnonzero(~np.isfinite(values))[0]) + 1
                raise DivergedError(self.diverged(name, step))
        end, now = pending.first + pending.count, time.perf_counter()
        seconds = self.clock() - self.begin
        if self.reported:
            self.rates.append(pending.count * self.stage.count.per_step / (now - self.reported))
        self.reported = now
        rate = self.images(self.first, end) / seconds
        timing = {"seconds": round(self.logs.seconds_before + seconds, 3), "images_per_second": round(rate, 1)}
        at = 0
        for stop in self.logged(pending, figures is not None):
            self.means.add(pending.first + at, {name: values[at:stop] for name, values in metrics.items()})
            step, at, self.line = pending.first + stop, stop, self.means.take()
            record = {"step": step, **timing, **self.line, **(figures or {} if step == end else {})}
            self.logs.write(record, self.images(0, step))
        self.means.add(pending.first + at, {name: values[at:] for name, values in metrics.items()})
        self.persist("metrics.jsonl", self.logs.flush)
        self.now = {"images_per_second": rate, **{name: float(metrics[name][-1]) for name in ("d_loss", "g_loss")}}
        losses = f"D loss {self.now['d_loss']:.3f}, G loss {self.now['g_loss']:.3f}"
        fids = [f"fid {value:.3g}" for value in self.fid]
        return ", ".join([f"{rate:,.0f} images/s", losses, *fids, awaited(self.config, end, self.stage.end)])

    def images(self, first: int, last: int) -> int:
        """How many images are drawn from step ``first`` to step ``last``."""
        return stages.images(self.stages, last) - stages.images(self.stages, first)

    def logged(self, pending: Pending, last: bool) -> list[int]:
        """How many steps of the chunk each line of it closes; the ``last`` has one in any case, if so told."""
        every = self.config.log.every
        stops = list(range(every - pending.first % every, pending.count + 1, every))
        return [*stops, pending.count] if last and pending.count not in stops else stops

    def diverged(self, name: str, step: int) -> str:
        """Return what is said when a metric, or the state, is no longer finite."""
        good = self.checkpoints.latest()
        kept = f"the last good checkpoint is that of step {good}" if good is not None else "there is no checkpoint yet"
        return f"{name} is not finite at step {step}: the training diverged; {kept} in {self.workdir.checkpoints}"

    def draw(self, step: int, state: GANState) -> None:
        """Save the grid of the fixed samples; of an autoencoder also unseen images beside their reconstructions."""
        rows = self.config.sample.rows
        names = self.workdir.class_names(self.gan.classes)
        captions = visualize.captions(self.labels[::rows], names)
        shown = self.gan.pixels.shown
        picture = visualize.grid(shown(grid(self.gan, state, self.config.seed, self.labels)), rows, captions)
        self.workdir.save_grid(step, picture)
        if not any(grid.stem == f"step_{self.stage.begin:08d}" for grid in self.workdir.grids("real")):
            reals = visualize.grid(shown(self.evaluator.reals(self.labels)), rows, captions)
            self.workdir.save_grid(self.stage.begin, reals, "real")
        images, labels = (of[: rows * (rows // 2)] for of in self.evaluator.unseen)
        if self.gan.task.reconstruct and len(images):
            pairs = np.stack([images, reconstruct(self.gan, state, images, labels)], 1)
            beside = visualize.grid(shown(pairs.reshape(-1, *images.shape[1:])), rows // 2 * 2)
            self.workdir.save_grid(step, beside, "reconstructions")
        self.logs.write_picture(step, picture)
        self.logs.flush()

    def finish(self, resources: dict[str, Any]) -> str:
        """Write the animation, and the figures of the whole run; those of its last step are the last logged ones.

        Return the verdict and why, and FID beside that of fresh images, in one line.
        """
        self.workdir.save_animation()
        records = self.workdir.records()
        if not records:
            raise UserError(f"{self.workdir.path} has lost its metrics.jsonl: restore it, or give another --workdir")
        last, steps = records[-1], self.over or self.config.steps
        verdict, why = self.verdict(records)
        timed = 0 if self.logs.seconds_before else self.first  # the log of those before may be lost
        summary = {
            "steps": steps,
            "images": self.images(0, steps),
            "seconds": last["seconds"],
            "images_per_second": round(self.images(timed, steps) / last["seconds"], 1),
            "resources": resources,
            "verdict": verdict,
            "why": why,
            "g_loss_oscillation": monitors.oscillation(records),
            "floor": self.evaluator.floor,
            **{name: value for name, value in last.items() if name not in ("step", "seconds", "images_per_second")},
            **({"best_checkpoint": str(self.kept)} if str(self.kept) else {}),
            **({"ended_early": impatient(self.config, str(self.kept))} if self.over else {}),
            **({"patience": self.config.checkpoint.patience} if self.over else {}),
            **{f"best_{name}": value for name, (value, _) in self.best.items()},
            **{f"best_fid_step{name.removeprefix('fid')}": step for name, (_, step) in self.best.items()},
        }
        self.workdir.save_summary(summary)
        write_report(self.workdir)
        self.logs.finish(summary)
        return f"{verdict}: {why}{''.join(f', {line}' for line in self.distances(last))}"

    def verdict(self, records: monitors.Records) -> tuple[str, str]:
        """See `gan_jax.evaluate.monitors.verdict`."""
        config, critic = self.stage.config, self.gan.loss is losses.wasserstein
        weights = [config.terms[term.name].weight for term in (*self.gan.d_terms, *self.gan.g_terms)]
        scale = max(1.0, config.terms.adversarial.weight, *weights, config.labels.real**2, config.labels.fake**2)
        updates = assemble.generator_updates(self.config)
        begin = self.stage.begin
        own = [{**record, "step": record["step"] - begin} for record in self.of_stage(records)]
        return monitors.verdict(own, updates, self.evaluator.itself, critic=critic, scale=scale)

    def distances(self, figures: Mapping[str, float]) -> list[str]:
        """Each FID among ``figures`` in words, beside the lowest so far and that of as many fresh images."""
        lines = []
        for name in filter(self.best.__contains__, figures):
            lowest, step = self.best[name]
            known = ["the best so far" if figures[name] <= lowest else f"best {lowest:.3g} at step {step:,}"]
            if name in self.evaluator.floor:
                known.append(f"{self.evaluator.samples:,} fresh images {self.evaluator.floor[name]:.3g}")
            lines.append(f"fid {figures[name]:.3g} ({', '.join(known)})")
        return lines


def impatient(config: ConfigDict, best: str) -> str:
    """Return why a run ended before its last step: ``checkpoint.patience``, since the ``best`` checkpoint."""
    return f"{config.checkpoint.patience} evaluations in a row were no better than the best, {best}"


_finite = jax.jit(finite)
