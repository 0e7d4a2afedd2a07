"""Which key of a config is meant by one that it hasn't: what other codebases call it, or how it is spelt."""

import difflib
import re
from collections.abc import Collection

from gan_jax.util.errors import UserError, either, listed

# What other codebases call a key: the end of its name here.
ALIASES = {
    **dict.fromkeys(("lr", "rate", "step_size", "base_lr"), "learning_rate"),
    **dict.fromkeys(("bs", "batch", "batchsize", "minibatch_size", "train_batch_size"), "batch_size"),
    **dict.fromkeys(("epochs", "epoch", "n_epochs", "num_epochs", "iterations", "iters", "n_iter", "niter"), "steps"),
    **dict.fromkeys(("num_steps", "n_steps", "max_steps", "total_steps", "train_steps", "kimg"), "steps"),
    **dict.fromkeys(("beta1", "beta_1", "beta"), "b1"),
    **dict.fromkeys(("beta2", "beta_2"), "b2"),
    **dict.fromkeys(("gamma", "r1_gamma", "penalty"), "terms.r1.weight"),
    **dict.fromkeys(("lambda", "lambda_gp", "gp_weight", "gp_lambda"), "terms.wgan_gp.weight"),
    **dict.fromkeys(("schedule", "scheduler", "lr_schedule"), "generator_rate.kind"),
    **dict.fromkeys(("nz", "z_dim", "zdim", "dim_z", "latents", "latent_size", "noise_dim"), "latent_dim"),
    **dict.fromkeys(("n_critic", "ncritic", "critic_steps", "critic_iters", "n_dis", "num_d_steps"), "d_steps"),
    "ngf": "generator.widths",
    "ndf": "discriminator.widths",
    **dict.fromkeys(("channels_multiplier", "width", "hidden"), "widths"),
    **dict.fromkeys(("dataset", "data_set", "dataset_name"), "data.name"),
    **dict.fromkeys(("dataroot", "data_dir", "datadir", "data_path", "root", "path", "folder"), "data.dir"),
    **dict.fromkeys(("imsize", "img_size", "imgsize", "image_resolution", "resolution", "size"), "data.image_size"),
    **dict.fromkeys(("image_height", "img_height", "height"), "data.image_size"),
    **dict.fromkeys(("img_width", "imwidth"), "data.image_width"),
    **dict.fromkeys(("nc", "num_channels", "img_channels"), "data.channels"),
    **dict.fromkeys(("mirror", "hflip", "horizontal_flip"), "data.flip"),
    **dict.fromkeys(("num_workers", "n_workers"), "data.workers"),
    **dict.fromkeys(("num_classes", "n_classes", "nclass"), "classes"),
    **dict.fromkeys(("random_seed", "rng_seed", "manual_seed"), "seed"),
    **dict.fromkeys(("dtype", "precision", "fp16", "bf16", "amp", "mixed_precision"), "compute_dtype"),
    **dict.fromkeys(("ema_decay", "ema_beta", "polyak"), "averages.ema.decay"),
    **dict.fromkeys(("log_every", "log_interval", "log_freq", "print_freq", "print_every"), "log.every"),
    **dict.fromkeys(("sample_every", "sample_interval", "sample_freq"), "sample.every"),
    **dict.fromkeys(("eval_every", "eval_interval", "eval_freq"), "eval.every"),
    **dict.fromkeys(("save_every", "save_interval", "save_freq", "snap", "checkpoint_every"), "checkpoint.every"),
    **dict.fromkeys(("weight_clip", "clip_value", "clipping"), "clip"),
    **dict.fromkeys(("label_smoothing", "real_label"), "labels.real"),
    **dict.fromkeys(("spectral_norm", "sn"), "spectral"),
    **dict.fromkeys(("diffaug", "diffaugment", "augmentation", "aug"), "augment.name"),
    **dict.fromkeys(("init", "initialization", "weight_init"), "initializer"),
    **dict.fromkeys(("normalization", "batchnorm", "batch_norm"), "norm"),
}


def unknown_key(key: str, known: Collection[str]) -> UserError:
    """Return what is said of a ``key`` that isn't among the ``known`` ones: which may be meant."""
    near = likely(key, known)
    if near:
        return UserError(f"unknown config key {key!r}; did you mean {either(near)}?")
    group = [k for k in known if k.startswith(f"{key.partition('.')[0]}.")]
    has = f"; config.{key.partition('.')[0]} has {listed(k.partition('.')[2] for k in group)}" if group else ""
    return UserError(f"unknown config key {key!r}{has}; docs/config.md explains all keys")


def likely(key: str, known: Collection[str]) -> list[str]:
    """Those of the ``known`` keys that who writes ``key`` may mean, at most 5.

    By what other codebases call them, else by their last parts, else by spelling; nearest in its group first.
    """
    *group, last = re.sub(r"[^\w.]", "_", key.lower()).split(".")
    if player := re.fullmatch(r"(g|gen|generator|d|disc|discriminator)_(.+)|(.+)_(g|gen|d|disc)", last):
        whose, name = (player[1], player[2]) if player[1] else (player[4], player[3])
        if f"_{name}" != f"_{last}" and (name in ALIASES or any(k.endswith(f".{name}") for k in known)):
            group, last = [*group, "generator" if whose.startswith("g") else "discriminator"], name
    wanted = ALIASES.get(last, last)
    near = [k for k in known if f".{k}".endswith(f".{wanted}")]
    if not near:
        ends = {k.rpartition(".")[2] for k in known}
        alike = difflib.get_close_matches(last, ends, n=3, cutoff=0.75)
        near = [k for k in known if k.rpartition(".")[2] in alike]
        near = difflib.get_close_matches(key, near, n=len(near), cutoff=0) if near else near
        near = near or difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    shared = {k: len(set(group) & set(k.split("."))) for k in near}
    return [k for k in near if shared[k] == max(shared.values())][:5]
