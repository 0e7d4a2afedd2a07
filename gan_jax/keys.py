"""The table of config keys: of each its default, what it means, what it may be, and what a change of it means to a run.

`gan_jax.config` makes defaults and checks of it, ``docs/config.md`` is generated from it (`gan_jax.cli.reference`), and
what may change in a run that goes on follows from it. Nothing here imports JAX.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

RESULT = "result"  # another value makes another run
LEAF = "leaf"  # as a result, but a begun run may go on with another by --change; numbers sweep without compiling
OBSERVES = "observes"  # how often and how a run is looked at and kept: it may change freely
FREE = "free"  # where data lies and how it is read: nothing that is computed depends on it


@dataclasses.dataclass(frozen=True)
class Check:
    """What a value must be: ``holds(value)``, and the ``rule`` in words."""

    holds: Callable[[Any], bool]
    rule: str


@dataclasses.dataclass(frozen=True)
class Key:
    """A key of the config.

    Attributes:
      default: its value, whose type it keeps.
      meaning: in a sentence or two, with its unit.
      check: what it must be, beside its type.
      role: RESULT, LEAF, OBSERVES or FREE.
    """

    default: Any
    meaning: str
    check: Check | None = None
    role: str = RESULT


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of term or schedule.

    Attributes:
      meaning: what it is, in a sentence.
      numbers: what it takes beside what all of its sort take: default and meaning of each. True and False are options,
        which choose another function; numbers sweep.
    """

    meaning: str
    numbers: dict[str, tuple[float | bool, str]] = dataclasses.field(default_factory=dict)

    def defaults(self) -> dict[str, float | bool]:
        """Return the numbers' defaults."""
        return defaults(self.numbers)


def at_least(low: int) -> Check:
    """Return the check of values from ``low`` up."""
    return Check(lambda value: value >= low, f"at least {low}")


def one_of(*names: Any) -> Check:
    """Return the check of values among ``names``."""
    *first, last = map(str, names)
    return Check(names.__contains__, f"{', '.join(first)} or {last}")


def _is_fold(text: str) -> bool:
    which, _, count = text.partition("/")
    numbers = all(part.isascii() and part.isdecimal() for part in (which, count))
    return numbers and 1 <= int(which) <= int(count) and int(count) > 1


def _is_range(text: str) -> bool:
    low, _, high = text.partition(",")
    numbers = all(part.isascii() and part.isdecimal() and len(part) <= 5 for part in (low, high))
    return numbers and int(low) < int(high) < 2**16


FINITE = Check(math.isfinite, "finite")
FROM_0 = Check(lambda value: 0 <= value < math.inf, "finite and from 0 up")
FRACTION = Check(lambda value: 0 <= value <= 1, "from 0 to 1")
BELOW_1 = Check(lambda value: 0 <= value < 1, "from 0 to below 1")
FEWEST_SAMPLES = 10  # of an evaluation
HIGHER_IS_BETTER = ("precision", "recall", "density", "coverage", "inception_score")
TENSORBOARD = "tensorboard"
TRACKERS = (TENSORBOARD, "wandb", "mlflow")
FIGURES = ("fid", "kid", *HIGHER_IS_BETTER)  # by which a checkpoint may be the best

_GRADIENT = {
    "finite_difference": (False, "Whether (D(x + s n) - D(x))^2 / s^2 stands for the gradient: no second derivative."),
    "sigma": (0.01, "The step s of the finite difference, in pixel values from -1 to 1."),
}
# Terms of the losses (gan_jax/core/terms.py), in the order in which they are summed.
TERMS: dict[str, Kind] = {
    "wgan_gp": Kind("Gradient penalty about norm 1, between reals and fakes (Gulrajani et al. 2017); of D."),
    "dragan": Kind("Gradient penalty about norm 1, around reals (Kodali et al. 2017); of D."),
    "r1": Kind("Squared gradient at reals, weighted by half (Mescheder et al. 2018); of D.", _GRADIENT),
    "r2": Kind("Squared gradient at fakes, weighted by half (Mescheder et al. 2018); of D.", _GRADIENT),
    "drift": Kind("D's squared output at reals (Karras et al. 2018); of D."),
    "lecam": Kind(
        "Distance of D's outputs from moving means of the other's (Tseng et al. 2021); of D.",
        {
            "decay": (0.99, "Of the moving means, a step."),
            "start": (1000.0, "The step from which on it counts."),
        },
    ),
    "consistency": Kind(
        "D says the same of an image and its augmentation (CR, bCR), of a latent and its neighbour (zCR); of both.",
        {
            "real": (10.0, "Weight for reals."),
            "fake": (10.0, "Weight for fakes (bCR)."),
            "latent": (5.0, "Weight for neighbouring latents in D (zCR)."),
            "diversity": (0.5, "Weight by which G's images of neighbouring latents are driven apart (zCR)."),
            "noise": (0.05, "Standard deviation of a neighbour's distance."),
        },
    ),
    "orthogonal": Kind("Products of different filters of a kernel (Brock et al. 2019, eq. 3); of both."),
    "auxiliary_discriminator": Kind("Cross-entropy of the classes that D's second head names (Odena et al. 2017)."),
    "auxiliary_generator": Kind("The same of fakes, in G's loss."),
    "feature_matching": Kind("Squared distance of mean features of reals and fakes (Salimans et al. 2016); of G."),
    "path_length": Kind(
        "Variance of the length of w's path to the image (Karras et al. 2020, eq. 4); of G.",
        {
            "half_batch": (False, "Whether every second example of a batch is enough."),
            "decay": (0.01, "Share of the newest mean length in the moving one."),
        },
    ),
    "reconstruction": Kind("Squared error of an autoencoder's reconstruction; of G."),
    "self_supervision": Kind("Squared error of what D's decoders make of reals (Liu et al. 2021; fastgan); of D."),
}
_ON = ("auxiliary_discriminator", "auxiliary_generator", "reconstruction")  # wherever there is what they work on

_COURSE: dict[str, tuple[float | bool, str]] = {
    "final": (0.0, "The value that it ends at; of warm_up, begins at."),
    "begin": (0.0, "The step, or number of images, from which on it moves."),
    "length": (0.0, "For how many steps, or images, it moves; 0: to the run's end."),
}
# An entry of ``averages``; which of the numbers count is the rule's to say.
AVERAGE: dict[str, tuple[Any, str]] = {
    "rule": ("decay", "decay, half_life, or one's own."),
    "decay": (0.999, "Of rule decay: the share of the old average that a step keeps; less in the first steps."),
    "start": (0, "Of rule decay: the step from which on it averages."),
    "half_life": (500e3, "Of rule half_life: images by which half of it is newer."),
    "ramp_up": (0.05, "Of rule half_life: the share of the images seen that the half-life is at most; 0: no bound."),
}
# An entry of ``stages``; of those that must be given, the default says the type alone.
STAGE: dict[str, tuple[Any, str]] = {
    "begin": (1, "After how many steps, or images, it begins."),
    "unit": ("steps", "Of ``begin``: steps or images; the same for all stages."),
    "reset_optimizer": (True, "Whether the optimizers forget what they remember."),
    "set": ({}, "A group with the keys that change: ``stages.NAME.set.data.image_size``."),
}
# What goes with any optimizer, beside its rate.
OPTIMIZER: dict[str, tuple[float, str]] = {
    "historical_averaging": (0.0, "Weight of the distance from past parameters' mean (Salimans et al. 2016); 0: off."),
    "clip": (0.0, "Bound of every parameter, on either side; 0: none."),
    "active": (1.0, "1, or 0 where it stands still; a schedule may move it."),
}


def defaults(table: dict[str, tuple[Any, str]]) -> dict[str, Any]:
    """Return the defaults of one of these tables."""
    return {name: default for name, (default, _) in table.items()}


# Schedules (gan_jax/core/schedules.py).
SCHEDULES: dict[str, Kind] = {
    "linear": Kind("A straight line from the configured value to ``final``.", _COURSE),
    "cosine": Kind("Half a cosine from the configured value to ``final``.", _COURSE),
    "warm_up": Kind("A straight line from ``final`` up to the configured value.", _COURSE),
    "ada": Kind(
        "From 0 up while D's sign on reals is above the target, else down (Karras et al. 2020).",
        {
            "target": (0.6, "Of the mean sign of D's outputs at reals."),
            "every": (4.0, "Steps between two moves."),
            "length": (0.0, "Steps, or images, in which it would move from 0 to 1; 0: 500,000 images."),
            "most": (1.0, "The highest value."),
        },
    ),
    "critic_first": Kind(
        "0 in steps in which only the critic moves, as in WGAN's authors' code; else the configured value.",
        {
            "moves": (25.0, "G's first moves, each of which waits for the critic."),
            "factor": (20.0, "Steps in which such a G moves once."),
            "period": (500.0, "Steps between two later waits."),
        },
    ),
}

# Groups of transforms of ada (gan_jax/core/ada.py): by how much their chance is p's, and what is in them.
ADA: dict[str, tuple[float, str]] = {
    "blit": (1.0, "flip, rotate90 and shift by whole pixels"),
    "geom": (1.0, "scale, rotate, aspect and fraction, a shift by parts of a pixel"),
    "color": (1.0, "brightness, contrast, luma, hue and saturation"),
    "filter": (0.0, "filter, of four bands of frequencies"),
    "noise": (0.0, "noise"),
    "cutout": (0.0, "cutout of a rectangle of half the height and half the width"),
}

# Beside these, groups that other code checks: generator, discriminator (the fields of a model's modules), optimizer
# (the arguments of an optimizer), schedules, averages and stages (entries with names of one's own).
KEYS: dict[str, Key] = {
    "seed": Key(
        0,
        "Of all random numbers: the same seed gives the same run.",
        Check(lambda value: 0 <= value < 2**32, "from 0 to 2^32 - 1"),
    ),
    "init_from": Key(
        "",
        "The workdir of a run whose weights this one begins with, wherever they fit; ``RUN@STEP``: of another "
        "checkpoint than the newest. ``--init_from=RUN`` is the same.",
    ),
    "note": Key("", "A line that a run prints at its start: what a preset chose, and why.", None, FREE),
    "steps": Key(1000, "Steps of training: d_steps of the discriminator each, and one of the generator.", at_least(1)),
    "batch_size": Key(128, "Images in a batch, over all devices.", at_least(1)),
    "d_steps": Key(1, "The discriminator's steps in a step.", at_least(1)),
    "g_batches": Key(
        0,
        "Batches of fresh latents in the generator's step; 0: those of the last discriminator step once more.",
        at_least(0),
    ),
    "steps_per_dispatch": Key(
        0,
        "Steps that one call of the compiled program makes; 0: as many as take a quarter of a second.",
        at_least(0),
        FREE,
    ),
    "compute_dtype": Key(
        "float32",
        "Of the networks' arithmetic; parameters are float32 or wider.",
        one_of("float32", "bfloat16", "float64"),
    ),
    "model": Key(
        "dcgan", "The family of networks: a module of gan_jax/models/, or one's own: a config file's ``__file__``."
    ),
    "task": Key("images", "What D tells apart: images, or, for ``autoencoder``, codes from draws of the prior."),
    "prior": Key("normal", "What a latent's numbers are drawn from: normal, uniform, or one's own."),
    "freeze.generator": Key(
        "",
        "Parameters of G that keep their values: shell patterns of their dotted names, with commas between them, as "
        "``Dense_0.*,*.bias``.",
    ),
    "freeze.discriminator": Key("", "The same of D: its first layers, of a run from another's weights, are FreezeD."),
    "latent_dim": Key(100, "Numbers in a latent.", at_least(1)),
    "classes": Key(
        0,
        "Classes that G and D are told of, where their key ``conditional`` isn't none; 0 there: all that the data has.",
        at_least(0),
    ),
    "loss": Key("non_saturating", "A function of gan_jax/core/losses.py, or one's own."),
    "terms.adversarial.weight": Key(1.0, "Weight of the adversarial loss in G's loss.", FROM_0, LEAF),
    **{
        key: value
        for name, kind in TERMS.items()
        for key, value in {
            f"terms.{name}.weight": Key(1.0 if name in _ON else 0.0, f"{kind.meaning} 0: off.", FROM_0, LEAF),
            f"terms.{name}.every": Key(
                1, "Steps between two of it; it weighs as many times as much.", at_least(1), LEAF
            ),
            **{
                f"terms.{name}.{number}": Key(default, meaning, None, LEAF)
                for number, (default, meaning) in kind.numbers.items()
            },
        }.items()
    },
    "augment.name": Key(
        "none", "Of all that D sees: color, translation, cutout, ada, one's own, or several with commas between them."
    ),
    "augment.p": Key(1.0, "The chance of each transformation.", FRACTION, LEAF),
    **{
        f"augment.ada.{group}": Key(
            factor, f"Of ada: how many times p the chance of {meaning} is. 0: off.", FROM_0, LEAF
        )
        for group, (factor, meaning) in ADA.items()
    },
    "augment.ada.without": Key(
        "", "Transforms of ada that are left out, of those named above, as ``rotate90,flip``; see gan_jax/core/ada.py."
    ),
    "augment.pseudo": Key(
        0.0,
        "The chance that D is shown one of G's images as real (APA); schedules.pseudo.kind=ada adapts it.",
        FRACTION,
        LEAF,
    ),
    "fade": Key(
        1.0, "How much of the newest layers counts, of networks that grow (progan); see schedules.fade.", FRACTION, LEAF
    ),
    "labels.real": Key(1.0, "D's target for reals, where the loss has one.", FINITE, LEAF),
    "labels.fake": Key(0.0, "D's target for fakes, where the loss has one.", FINITE, LEAF),
    "labels.generator": Key(1.0, "What G wants D to say (least_squares alone); it follows labels.real.", FINITE, LEAF),
    "data.source": Key(
        "embedded", "Where images come from: embedded, tfds, folder, npz, packed or a function of one's own."
    ),
    "data.name": Key(
        "",
        "Of the embedded source mnist5k (if empty), shapes32, shapes64, earth32, earth64 or earth128; "
        "of tfds any of its names.",
    ),
    "data.dir": Key(
        "",
        "The folder or archive of pictures, also at gs:// or s3://, shards as train-{000..009}.tar, the .npz file, "
        "what --mode=prepare wrote, or where TFDS keeps its data (if empty: ~/tensorflow_datasets).",
        None,
        FREE,
    ),
    "data.image_size": Key(
        28, "The height of every image, in pixels; on the command line height x width, too: ``64x96``.", at_least(1)
    ),
    "data.image_width": Key(0, "The width of every image, in pixels; 0: as high as wide.", at_least(0)),
    "data.channels": Key(
        1,
        "1 (grey), 3 (RGB) or 4 (RGBA, see data.alpha); of arrays any number up to 16.",
        Check(lambda value: 1 <= value <= 16, "from 1 to 16"),
    ),
    "data.alpha": Key(
        "",
        "Of 4 channels, what the fourth is: premultiplied (colours are multiplied by it), straight, or none (a channel "
        "like others); pictures are brought to it, arrays have it. Empty: none for arrays, else premultiplied.",
        one_of("", "premultiplied", "straight", "none"),
    ),
    "data.bits": Key(8, "Bits of each channel, 8 or 16: images of other bits are brought to these.", one_of(8, 16)),
    "data.range": Key(
        "",
        "The greys of 16-bit images that become black and white: ``0,4095`` of 12-bit cameras; empty: 0,65535.",
        Check(lambda value: not value or _is_range(value), "empty, or two greys from 0 to 65535, as 0,4095"),
    ),
    "data.fit": Key(
        "crop",
        "What becomes of images of another shape: crop (the centred part of these proportions, resized), resize (the "
        "proportions change) "
        "or none (an error).",
        one_of("crop", "resize", "none"),
    ),
    "data.background": Key("white", "What shows through transparent images: a colour by its CSS name, or #rrggbb."),
    "data.labels": Key(False, "Whether classes are needed; a folder's are in labels.csv, dataset.json or subfolders."),
    "data.condition": Key(
        0,
        "Numbers in the vector that each image has for a label, and G and D are told of; 0: labels are classes.",
        at_least(0),
    ),
    "data.image_key": Key("", "The TFDS feature or npz array with the images; empty: found by itself."),
    "data.label_key": Key(
        "", "The TFDS feature, npz array or file in the folder with the labels; empty: found by itself."
    ),
    "data.test_fraction": Key(
        0.05, "Share of the images that is held out to test on, where a source has none of its own.", BELOW_1
    ),
    "data.test_dir": Key(
        "", "A folder, or of npz a file, of images that are only tested on; then all of data.dir's train.", None, FREE
    ),
    "data.test_list": Key(
        "",
        "A text file with the paths, below data.dir, of images of a folder that are held out.",
        None,
        FREE,
    ),
    "data.fold": Key(
        "",
        "Which part of the images is held out, of how many: 2/5 is the second of five; empty: data.test_fraction.",
        Check(lambda value: not value or _is_fold(value), "empty, or as 2/5, the second of five parts"),
    ),
    "data.follow_links": Key(
        False, "Whether links may lead out of the folder of images; else they are an error.", None, FREE
    ),
    "data.strict": Key(False, "Whether an unreadable image is an error; else it is named, and left out.", None, FREE),
    "data.flip": Key(False, "Whether half of the images, by chance, are mirrored, left for right."),
    "data.device_budget_mb": Key(
        1024,
        "MB of images, uint8 or uint16, that are kept on each device; larger sets are streamed.",
        at_least(0),
        FREE,
    ),
    "data.cache_budget_mb": Key(
        16384, "MB of decoded images that are kept on disk beside the workdir; 0: never.", at_least(0), FREE
    ),
    "data.workers": Key(0, "Processes that read a stream; 0: threads.", at_least(0), FREE),
    "log.every": Key(50, "Steps in a line of metrics.jsonl.", at_least(1), OBSERVES),
    "log.track": Key(
        TENSORBOARD,
        "Who is told of the run while it trains, with commas between them: tensorboard, wandb, mlflow; empty: none.",
        Check(
            lambda value: {*map(str.strip, value.split(","))} <= {"", *TRACKERS},
            f"any of {', '.join(TRACKERS)}, with commas between them",
        ),
        OBSERVES,
    ),
    "sample.every": Key(200, "Steps between two grids of samples.", at_least(1), OBSERVES),
    "sample.rows": Key(10, "Rows, and columns, of such a grid.", at_least(1), OBSERVES),
    "eval.every": Key(500, "Steps between two evaluations.", at_least(1), OBSERVES),
    "eval.samples": Key(2000, "Samples of an evaluation.", at_least(FEWEST_SAMPLES), OBSERVES),
    "eval.features": Key(
        "auto",
        "What compares images: auto (classifier with labels, else random), none, classifier, random, inception, "
        "inception:FILE, inception-clean, inception-spatial (with :FILE, too), dinov2:FILE, clip:FILE, swav:FILE, "
        "FILE.py:function or package.module:function.",
        None,
        OBSERVES,
    ),
    "eval.sampling": Key(
        "",
        "How an evaluation's samples are drawn, if not as usual: truncation=0.7, or whatever the prior and G take.",
        None,
        OBSERVES,
    ),
    "eval.standing": Key(
        0,
        "Batches that G's batch norm takes its statistics from anew for an evaluation; 0: those averaged in training.",
        at_least(0),
        OBSERVES,
    ),
    "checkpoint.every": Key(500, "Steps between two checkpoints.", at_least(1), OBSERVES),
    "checkpoint.keep": Key(3, "Checkpoints that are kept, the newest.", at_least(1), OBSERVES),
    "checkpoint.best": Key(
        "fid",
        "By which figure of the evaluations the best checkpoint is kept, too, in best/: fid, precision, ...; or none.",
        one_of("none", *FIGURES),
        OBSERVES,
    ),
    "checkpoint.patience": Key(
        0,
        "After how many evaluations without a better figure, that of checkpoint.best, a run ends; 0: at its last step.",
        at_least(0),
        OBSERVES,
    ),
    "parallel.logical_shards": Key(
        0,
        "In how many parts a batch is computed: with 8, the same bits on 1, 2, 4 and 8 devices. 0: one a device.",
        Check(lambda value: value >= 0 and value & (value - 1) == 0, "0 or a power of two"),
    ),
    "parallel.population": Key(
        "auto",
        "In sweeps, how a device makes steps of its trials: vmap (at once), map (in turn), auto (as measured).",
        one_of("auto", "vmap", "map"),
    ),
    "on_divergence": Key(
        "stop",
        "What happens where loss or state are no longer finite: stop, or rollback, to the last checkpoint and on with "
        "another seed.",
        one_of("stop", "rollback"),
        FREE,
    ),
}


# Keys that runs of earlier versions lack, whose defaults are what these did.
LATER = ("data.image_width", "data.alpha", "data.bits", "data.range", "data.condition")
# Names of eval.features behind which a file of weights may stand.
WITH_WEIGHTS = ("inception", "inception-clean", "inception-spatial", "dinov2", "clip", "swav")


def with_role(role: str) -> tuple[str, ...]:
    """Return the keys of that role."""
    return tuple(name for name, key in KEYS.items() if key.role == role)
