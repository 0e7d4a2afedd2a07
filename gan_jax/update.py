"""The heart: one training step of a GAN as a pure function, ``update(gan, state, batch) -> (state, metrics)``.

It knows nothing of devices: under pmap it gets the name of the device axis and averages over it in one helper; under
plain jit the name is None.

Batch statistics, step by step:

- The discriminator's step runs G in training mode (moments of its batch) and leaves G's running statistics alone. D
  runs in training mode on the real and on the fake batch separately, each normalised by its own moments, and updates
  its running statistics by both, real first.
- The generator's step updates G's running statistics once, and runs D in training mode on the fakes without touching
  D's running statistics.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from gan_jax.layers import cross_device_mean
from gan_jax.losses import decision_boundary, discriminator_output
from gan_jax.state import GAN, Array, GANState, Optimizer, Params, Player, draw_latents, random_key

Metrics = dict[str, Array]


def update(
    gan: GAN, state: GANState, batch: dict[str, Array], *, axis_name: str | None = None
) -> tuple[GANState, Metrics]:
    """``gan.d_steps`` discriminator steps, then one generator step, then the moving average.

    Args:
      gan: the static half.
      state: the state after ``state.step`` steps.
      batch: ``image`` ``[d_steps, b, H, W, C]`` in [-1, 1], a fresh real batch for each discriminator step; ``index``
        ``[b]``, the global index within the batch of each example of this device.
      axis_name: the device axis over which gradients, moments and metrics are averaged, or None.

    Returns:
      The next state and a flat dict of scalars: ``d_loss``, ``g_loss`` (means over the batch), ``d_real``, ``d_fake``
      (D's mean probability, or score where the loss has no probabilities), ``d_margin`` (its mean logit of reals over
      that of fakes), ``d_accuracy_real``, ``d_accuracy_fake``
      (fractions judged rightly), ``d_grad_norm``, ``g_grad_norm``, ``d_param_norm``, ``g_param_norm`` (L2, global, the
      parameters' after the step). D's figures are those of the last discriminator step.
    """
    discriminator = state.discriminator
    if gan.d_steps > 1:

        def early_step(player: Player, inputs: tuple[Array, Array]) -> tuple[Player, None]:
            substep, real = inputs
            real = _augment(gan, state, batch, real, substep, "augment_real")
            fake, _ = _fakes(gan, state, state.generator.params, batch, substep, axis_name)
            return discriminator_step(gan, state, player, real, fake, axis_name)[0], None

        early = (jnp.arange(gan.d_steps - 1), batch["image"][:-1])
        discriminator, _ = jax.lax.scan(early_step, discriminator, early)

    # The last fakes serve D's step and G's: G runs forward once, and `pull_back` takes the gradient of G's loss with
    # respect to those images, under the D just updated, to G's parameters.
    last = gan.d_steps - 1
    real = _augment(gan, state, batch, batch["image"][last], last, "augment_real")
    fake, pull_back, g_stats = jax.vjp(
        lambda params: _fakes(gan, state, params, batch, last, axis_name), state.generator.params, has_aux=True
    )
    discriminator, d_metrics = discriminator_step(gan, state, discriminator, real, fake, axis_name)
    generator, g_metrics = generator_step(gan, state, discriminator, real, fake, pull_back, axis_name)
    generator = generator.replace(batch_stats=g_stats)
    state = state.replace(
        step=state.step + 1,
        generator=generator,
        discriminator=discriminator,
        ema=_moving_average(state.ema, generator.params, state.hyper["ema"]["decay"], state.step),
    )
    return state, {**d_metrics, **g_metrics}


def discriminator_step(
    gan: GAN, state: GANState, player: Player, real: Array, fake: Array, axis_name: str | None
) -> tuple[Player, Metrics]:
    """One step of D (``player``) on real and fake images ``[b, H, W, C]``; G is not touched."""
    labels = state.hyper["loss"]

    def objective(params: Params) -> tuple[Array, tuple[Array, Array, Array, Params]]:
        real_logits, stats = _discriminate(gan, params, player.batch_stats, real, axis_name)
        fake_logits, stats = _discriminate(gan, params, stats, fake, axis_name)
        loss = gan.loss(real_logits, fake_logits, **labels)[0].mean()
        return loss, (loss, real_logits, fake_logits, stats)

    gradient, (loss, real_logits, fake_logits, stats) = jax.grad(objective, has_aux=True)(player.params)
    gradient = cross_device_mean(gradient, axis_name)
    player = _apply(player, gradient, gan.discriminator_optimizer, state.hyper["discriminator"])

    means = cross_device_mean({"d_loss": loss, "real": real_logits.mean(), "fake": fake_logits.mean()}, axis_name)
    boundary = decision_boundary(gan.loss, means["real"], means["fake"], labels)
    shares = {
        "d_real": discriminator_output(gan.loss, real_logits).mean(),
        "d_fake": discriminator_output(gan.loss, fake_logits).mean(),
        "d_accuracy_real": (real_logits > boundary).mean(dtype=gan.dtype),
        "d_accuracy_fake": (fake_logits < boundary).mean(dtype=gan.dtype),
    }
    norms = {"d_grad_norm": optax.tree.norm(gradient), "d_param_norm": optax.tree.norm(player.params)}
    return player.replace(batch_stats=stats), {
        "d_loss": means["d_loss"],
        "d_margin": means["real"] - means["fake"],
        **cross_device_mean(shares, axis_name),
        **norms,
    }


def generator_step(
    gan: GAN, state: GANState, discriminator: Player, real: Array, fake: Array, pull_back: Any, axis_name: str | None
) -> tuple[Player, Metrics]:
    """One step of G against ``discriminator``, which is not touched.

    ``pull_back`` maps a gradient with respect to the images ``fake`` to the gradient with respect to G's parameters.
    """

    def objective(images: Array) -> Array:
        # Losses that don't compare with real logits never read them, and then XLA drops this pass through D.
        real_logits, _ = _discriminate(gan, discriminator.params, discriminator.batch_stats, real, axis_name)
        fake_logits, _ = _discriminate(gan, discriminator.params, discriminator.batch_stats, images, axis_name)
        return gan.loss(real_logits, fake_logits, **state.hyper["loss"])[1].mean()

    loss, image_gradient = jax.value_and_grad(objective)(fake)
    gradient = cross_device_mean(pull_back(image_gradient)[0], axis_name)
    player = _apply(state.generator, gradient, gan.generator_optimizer, state.hyper["generator"])
    return player, {
        "g_loss": cross_device_mean(loss, axis_name),
        "g_grad_norm": optax.tree.norm(gradient),
        "g_param_norm": optax.tree.norm(player.params),
    }


def _fakes(
    gan: GAN, state: GANState, params: Params, batch: dict[str, Array], substep: Array | int, axis_name: str | None
) -> tuple[Array, Params]:
    """Augmented images by the generator with ``params``, and its new running statistics."""
    z = draw_latents(gan, random_key(state.seed, "latents", state.step, substep), batch["index"])
    variables = {"params": params, "batch_stats": state.generator.batch_stats}
    images, written = gan.generator.apply(variables, z, train=True, axis_name=axis_name, mutable=["batch_stats"])
    return _augment(gan, state, batch, images, substep, "augment_fake"), written.get("batch_stats", {})


def _augment(
    gan: GAN, state: GANState, batch: dict[str, Array], images: Array, substep: Array | int, purpose: str
) -> Array:
    """What D sees of ``images``: each one transformed by a key of its own."""
    key = random_key(state.seed, purpose, state.step, substep)
    return jax.vmap(lambda image, i: gan.augment(image, jax.random.fold_in(key, i)))(images, batch["index"])


def _discriminate(gan: GAN, params: Params, stats: Params, x: Array, axis_name: str | None) -> tuple[Array, Params]:
    variables = {"params": params, "batch_stats": stats}
    logits, written = gan.discriminator.apply(variables, x, train=True, axis_name=axis_name, mutable=["batch_stats"])
    return logits, written.get("batch_stats", {})


def _apply(player: Player, gradient: Params, optimizer: Optimizer, hyper: dict[str, Any]) -> Player:
    updates, opt_state = optimizer(**hyper).update(gradient, player.opt_state, player.params)
    return player.replace(params=optax.apply_updates(player.params, updates), opt_state=opt_state)


def _moving_average(average: Params, params: Params, decay: Array, step: Array) -> Params:
    """``d average + (1 - d) params``, ``d = min(decay, (1 + step) / (10 + step))`` so that the start is forgotten."""
    step = step.astype(decay.dtype)  # an integer's quotient would be float32, in float64 runs too
    decay = jnp.minimum(decay, (1 + step) / (10 + step))
    return jax.tree.map(lambda a, p: decay * a + (1 - decay) * p, average, params)
