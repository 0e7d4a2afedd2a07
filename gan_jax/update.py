"""The heart: one training step of a GAN as a pure function, ``update(gan, state, batch) -> (state, metrics)``.

It knows nothing of devices: under pmap it gets the name of the device axis and averages over it in one helper; under
plain jit the name is None.

Statistics, step by step:

- The discriminator's step runs G in training mode (moments of its batch) and leaves G's statistics alone. D runs in
  training mode on the reals and on the fakes, each normalised by their own moments, and updates its running
  statistics by both, reals first. The vectors of D's spectral norms make one power iteration, before the reals.
- The generator's step updates G's statistics once, and runs D in training mode on the fakes without touching D's.
  Its fakes are those of D's last step, or, with ``g_batches``, fresh ones.
- G's averaged statistics belong to its averaged parameters, and no step reads either: see `GANState.ema`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from gan_jax.layers import Judgement, cross_device_mean
from gan_jax.layers.cpu import on_cpu
from gan_jax.losses import decision_boundary, discriminator_output
from gan_jax.optimizers import Optimizer
from gan_jax.state import GAN, Array, GANState, Params, Player, Turn, Variables, random_key
from gan_jax.terms import Term

Metrics = dict[str, Array]


def update(
    gan: GAN, state: GANState, batch: dict[str, Array], *, axis_name: str | None = None
) -> tuple[GANState, Metrics]:
    """``gan.d_steps`` discriminator steps, then one generator step, then the moving averages.

    Args:
      gan: the static half.
      state: the state after ``state.step`` steps.
      batch: ``image`` ``[d_steps, b, H, W, C]`` in [-1, 1] and ``label`` ``[d_steps, b]``, a fresh real batch for each
        discriminator step; ``index`` ``[b]``, the global index within the batch of each example of this device.
      axis_name: the device axis over which gradients, moments and metrics are averaged, or None.

    Returns:
      The next state and a flat dict of scalars: ``d_loss``, ``g_loss`` (means over the batch, with all terms),
      ``d_real``, ``d_fake`` (D's mean probability, or score where the loss has no probabilities), ``d_margin`` (its
      mean logit of reals over that of fakes), ``d_accuracy_real``, ``d_accuracy_fake`` (fractions judged rightly),
      ``d_penalty`` (where there are penalties, and 0 in steps without), ``d_grad_norm``, ``g_grad_norm``,
      ``d_param_norm``, ``g_param_norm`` (L2, global, the parameters' after the step). D's figures are those of the last
      discriminator step.
    """
    discriminator = state.discriminator
    if gan.d_steps > 1:

        def early_step(player: Player, inputs: tuple[Array, Array, Array]) -> tuple[Player, None]:
            substep, image, label = inputs
            turn = Turn(image, label, batch["index"], substep)
            fake, _, _ = gan.game.fake(gan, state, state.generator.params, turn, axis_name)
            real = gan.game.real(gan, state, turn)
            return discriminator_step(gan, state, player, real, fake, turn, axis_name)[0], None

        early = (jnp.arange(gan.d_steps - 1), batch["image"][:-1], batch["label"][:-1])
        discriminator, _ = jax.lax.scan(early_step, discriminator, early)

    # The last fakes serve D's step and G's, unless G's has some of its own: G runs forward once, and `pull_back` takes
    # the gradient of G's loss with respect to those fakes, under the D just updated, to G's parameters.
    last = gan.d_steps - 1
    turn = Turn(batch["image"][last], batch["label"][last], batch["index"], last)
    g_turn = _generators_turn(gan, turn) if gan.g_batches else turn

    def fakes(params: Params) -> tuple[tuple[Array, Array], Params]:
        fake, own_loss, stats = gan.game.fake(gan, state, params, g_turn, axis_name)
        return (fake, own_loss), stats

    (fake, own_loss), pull_back, g_stats = jax.vjp(fakes, state.generator.params, has_aux=True)
    real = d_real = gan.game.real(gan, state, g_turn)
    d_fake = fake
    if gan.g_batches:
        d_real = gan.game.real(gan, state, turn)
        d_fake = gan.game.fake(gan, state, state.generator.params, turn, axis_name)[0]
    discriminator, d_metrics = discriminator_step(gan, state, discriminator, d_real, d_fake, turn, axis_name)
    generator, g_metrics = generator_step(gan, state, discriminator, real, fake, own_loss, pull_back, g_turn, axis_name)
    held = gan.hold(state.step)
    generator = jax.tree.map(
        lambda old, new: jnp.where(held, old, new), state.generator, generator.replace(stats=g_stats)
    )
    ema = _averaged(gan, state, generator, turn)
    state = state.replace(step=state.step + 1, generator=generator, discriminator=discriminator, ema=ema)
    return state, {**d_metrics, **g_metrics, "g_param_norm": optax.tree.norm(generator.params)}


def intervals(gan: GAN) -> dict[str, int]:
    """The metrics of `update` that not all steps have, and every how many from step 0 on; they are 0 in others."""
    return {"d_penalty": gan.penalty_every}


def _generators_turn(gan: GAN, turn: Turn) -> Turn:
    """G's own: the images and labels of ``turn`` ``g_batches`` times, with numbers, and so random numbers, of their
    own."""
    count = gan.g_batches
    image, label, index = (jnp.repeat(x, count, 0) for x in (turn.image, turn.label, turn.index))
    which = jnp.arange(len(index), dtype=index.dtype) % count
    return Turn(image, label, index * count + which, gan.d_steps)


def discriminator_step(
    gan: GAN, state: GANState, player: Player, real: Array, fake: Array, turn: Turn, axis_name: str | None
) -> tuple[Player, Metrics]:
    """One step of D (``player``) on what it shall call real and what fake, ``[b, ...]``; G is not touched."""
    weights = state.hyper["weights"]

    def objective(params: Params) -> tuple[Array, Any]:
        judge = partial(_judge, gan, params, label=turn.label, axis_name=axis_name)
        (on_real, on_fake), stats = judge(player.stats, (real, fake), mutable=list(player.stats))
        adversarial = gan.loss(on_real.logits, on_fake.logits, **state.hyper["loss"])[0].mean()
        penalty = _penalty(gan, state, lambda x: judge(stats, (x,))[0][0].logits, real, fake, turn)
        terms = _further(gan.d_terms, weights, on_real, on_fake, turn, axis_name)
        return adversarial + penalty + terms, (on_real.logits, on_fake.logits, stats, penalty)

    (loss, found), gradient = jax.value_and_grad(objective, has_aux=True)(player.params)
    real_logits, fake_logits, stats, penalty = found
    gradient = cross_device_mean(gradient, axis_name)
    player = _apply(player, gradient, gan.discriminator_optimizer, state.hyper["discriminator"])

    means = cross_device_mean({"d_loss": loss, "real": real_logits.mean(), "fake": fake_logits.mean()}, axis_name)
    boundary = decision_boundary(gan.loss, means["real"], means["fake"], state.hyper["loss"])
    shares = {
        "d_real": discriminator_output(gan.loss, real_logits).mean(),
        "d_fake": discriminator_output(gan.loss, fake_logits).mean(),
        "d_accuracy_real": (real_logits > boundary).mean(dtype=gan.dtype),
        "d_accuracy_fake": (fake_logits < boundary).mean(dtype=gan.dtype),
        **({"d_penalty": penalty} if gan.penalties else {}),
    }
    norms = {"d_grad_norm": optax.tree.norm(gradient), "d_param_norm": optax.tree.norm(player.params)}
    return player.replace(stats=stats), {
        "d_loss": means["d_loss"],
        "d_margin": means["real"] - means["fake"],
        **cross_device_mean(shares, axis_name),
        **norms,
    }


def generator_step(
    gan: GAN,
    state: GANState,
    discriminator: Player,
    real: Array,
    fake: Array,
    own_loss: Array,
    pull_back: Any,
    turn: Turn,
    axis_name: str | None,
) -> tuple[Player, Metrics]:
    """One step of G against ``discriminator``, which is not touched.

    ``pull_back`` maps gradients with respect to ``fake`` and ``own_loss`` to the gradient with respect to G's
    parameters.
    """
    weights = state.hyper["weights"]

    def objective(fake: Array) -> Array:
        # Losses that don't compare with real logits never read them, and then XLA drops this pass through D.
        judge = partial(_judge, gan, discriminator.params, discriminator.stats, label=turn.label, axis_name=axis_name)
        (on_real,), (on_fake,) = judge((real,))[0], judge((fake,))[0]
        adversarial = gan.loss(on_real.logits, on_fake.logits, **state.hyper["loss"])[1].mean()
        total: Array = weights["adversarial"] * adversarial
        return total + _further(gan.g_terms, weights, on_real, on_fake, turn, axis_name)

    loss, fake_gradient = jax.value_and_grad(objective)(fake)
    gradient = cross_device_mean(pull_back((fake_gradient, jnp.ones_like(own_loss)))[0], axis_name)
    player = _apply(state.generator, gradient, gan.generator_optimizer, state.hyper["generator"])
    return player, {
        "g_loss": cross_device_mean(loss + own_loss, axis_name),
        "g_grad_norm": optax.tree.norm(gradient),
    }


def _judge(
    gan: GAN,
    params: Params,
    stats: Params,
    batches: Sequence[Array],
    label: Array,
    axis_name: str | None,
    mutable: Sequence[str] = ("batch_stats",),
) -> tuple[list[Judgement], Params]:
    """What D says of each of ``batches``, which all have the same ``label``, and its statistics after them.

    The collections of ``stats`` that aren't in ``mutable`` stay as they are; of those, the first batch alone renews
    what isn't in ``batch_stats``. On CPUs there is a call for each batch, as less of one is out of the cache (8 % of a
    step of dcgan); elsewhere one call for all, a fifth fewer operations to start (`benchmarks.gpu_program`).
    """
    said: list[Judgement] = []
    for together in [[batch] for batch in batches] if on_cpu() else [batches]:
        judgement, written = gan.discriminator.apply(
            {"params": params, **stats},
            jnp.concatenate(together),
            label=jnp.concatenate([label] * len(together)),
            train=True,
            axis_name=axis_name,
            batches=len(together),
            mutable=list(mutable),
        )
        stats, mutable = {**stats, **written}, ("batch_stats",)
        leaves, structure = jax.tree.flatten(judgement)
        of_each = zip(*(jnp.split(leaf, len(together)) for leaf in leaves), strict=True)
        said += [jax.tree.unflatten(structure, own) for own in of_each]
    return said, stats


def _penalty(
    gan: GAN, state: GANState, discriminate: Callable[[Array], Array], real: Array, fake: Array, turn: Turn
) -> Array:
    """The weighted penalties of this device's examples, in the steps that have them."""
    key = random_key(state.seed, "penalty", state.step, turn.substep)
    weight = state.hyper["weights"]["penalty"] * gan.penalty_every

    def mean(_: None) -> Array:
        found = [penalty(discriminate, real, fake, key, turn.index).mean() for penalty in gan.penalties]
        total: Array = (weight * sum(found)).astype(gan.dtype)
        return total

    none = jnp.zeros((), gan.dtype)
    if not gan.penalties:
        return none
    if gan.penalty_every == 1:
        return mean(None)
    due = state.step % gan.penalty_every == 0
    found: Array = jax.lax.cond(due, mean, lambda _: none, None)
    return found


def _further(
    terms: Sequence[tuple[str, Term]],
    weights: dict[str, Array],
    real: Judgement,
    fake: Judgement,
    turn: Turn,
    axis_name: str | None,
) -> Array | float:
    return sum(weights[name] * term(real, fake, turn.label, axis_name) for name, term in terms)


def _apply(player: Player, gradient: Params, optimizer: Optimizer, hyper: dict[str, Any]) -> Player:
    updates, opt_state = optimizer(**hyper).update(gradient, player.opt_state, player.params)
    return player.replace(params=optax.apply_updates(player.params, updates), opt_state=opt_state)


def _averaged(gan: GAN, state: GANState, generator: Player, turn: Turn) -> Variables:
    """What samples are drawn with (`GANState.ema`) after the step of ``state`` that ended with ``generator``.

    ``d average + (1 - d) newest`` of parameters and running statistics alike, ``d = min(decay, (1 + step) / (10 +
    step))`` so that the start is forgotten; before step ``start`` it is the newest themselves.

    A mean of unit vectors would be no unit vector, and none of the averaged kernel. So where there are spectral norms,
    their vectors make a power iteration with the averaged kernels, as in a pass of training; nothing else of that pass
    is used, and XLA leaves it out.
    """
    hyper = state.hyper["ema"]
    decay = hyper["decay"]
    step = state.step.astype(decay.dtype)  # an integer's quotient would be float32, in float64 runs too
    decay = jnp.where(step < hyper["start"], 0, jnp.minimum(decay, (1 + step) / (10 + step)))
    average: Variables = jax.tree.map(lambda a, p: decay * a + (1 - decay) * p, state.ema, generator.variables)
    if "spectral" not in average:
        return average
    params, stats = average["params"], {name: value for name, value in average.items() if name != "params"}
    player = generator.replace(params=params, stats={**stats, "spectral": state.ema["spectral"]})
    renewed = gan.game.fake(gan, state.replace(generator=player), params, turn, None)[2]
    return {**average, "spectral": renewed["spectral"]}
