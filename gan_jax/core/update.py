"""The heart: one training step of a GAN as a pure function, ``update(gan, state, batch) -> (state, metrics)``.

It knows nothing of devices: under pmap it gets the name of the device axis and averages over it in one helper; under
plain jit the name is None.

Statistics, step by step:

- The discriminator's step runs G in training mode (moments of its batch) and leaves G's statistics alone. D runs in
  training mode on the reals and on the fakes, each normalised by their own moments, and updates its running
  statistics by both, reals first. The vectors of D's spectral norms make one power iteration, before the reals.
- The generator's step updates G's statistics once, and runs D in training mode on the fakes without touching D's.
  Its fakes are those of D's last step, or, with ``g_batches``, fresh ones.
- G's averaged statistics belong to its averaged parameters, and no step reads either: see `GANState.averages`.
"""

import dataclasses
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from gan_jax.core.gan import GAN, Array, Context, Examples, Generated, Memory, Params, Term, Variables, leaf
from gan_jax.core.losses import decision_boundary, discriminator_output, takes_keys
from gan_jax.core.networks import call
from gan_jax.core.state import GANState, Player, hyperparams_now
from gan_jax.core.tasks import presented
from gan_jax.core.view import View
from gan_jax.layers import DiscriminatorOutput
from gan_jax.ops.xla_cpu import calls

Metrics = dict[str, Array]


class Shared(NamedTuple):
    """What D's step and G's have in common.

    Attributes:
      examples: the real ones.
      real: what D shall call real ``[b, ...]``, before augmentation.
      seen: the same, augmented.
      generated: what G made, by its variables before the step.
      generator: those variables.
    """

    examples: Examples
    real: Array
    seen: Array
    generated: Generated
    generator: Variables


def update(
    gan: GAN, state: GANState, batch: dict[str, Array], *, axis_name: str | None = None
) -> tuple[GANState, Metrics]:
    """Make ``gan.d_steps`` discriminator steps, then one generator step, then let averages and memories follow.

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
      ``d_NAME``, ``g_NAME`` (what that term added, 0 in steps without), ``d_grad_norm``, ``g_grad_norm``,
      ``d_param_norm``, ``g_param_norm`` (L2, global, the parameters' after the step), ``schedule_NAME`` (what
      this schedule moves, in the step). D's figures are those of the last discriminator step.
    """
    hyperparams = hyperparams_now(gan, state)
    context = Context(gan, state.seed, state.step, hyperparams, batch["index"], axis_name)
    found = (state.discriminator, state.memory["terms"])

    # The last fakes serve D's step and G's, unless G's has some of its own: G runs forward once, and `pull_back` takes
    # the gradient of G's loss with respect to those fakes, under the D just updated, to G's parameters.
    numbers = jnp.arange(gan.d_steps)
    last = gan.d_steps - 1
    examples = Examples(batch["image"][last], batch["label"][last], last)
    of_g = _generators_own(context, examples) if gan.g_batches else (context, examples)
    shared, pull_back, stats = _made(*of_g, state.generator)

    def fakes(of: Examples) -> Generated:
        return _generated(context, of, state.generator)[0]

    def step(before: tuple[Player, Memory], inputs: tuple[Examples, Generated | None]) -> tuple[Any, Metrics]:
        own, made = inputs
        return discriminator_step(context, before, _seen(context, own, made or fakes(own), generator=state.generator))

    if last or gan.g_batches:  # D's step is in the program once, which takes long to compile
        own, made = Examples(batch["image"], batch["label"], numbers), None
        if not gan.g_batches:
            before_last = jax.lax.map(fakes, jax.tree.map(lambda x: x[:last], own))
            made = jax.tree.map(lambda x, y: jnp.append(x, y[None], 0), before_last, shared.generated)
        found, each = jax.lax.scan(step, found, (own, made))
        d_metrics = jax.tree.map(lambda x: x[-1], each)
    else:
        found, d_metrics = discriminator_step(context, found, shared)
    player, remembered = found
    players = (state.generator.replace(stats=stats), player)
    (generator, remembered), g_metrics = generator_step(of_g[0], (players, remembered), (shared, pull_back))
    metrics = {**d_metrics, **g_metrics}
    metrics |= {f"schedule_{name}": leaf(hyperparams, key) for name, key, _ in gan.schedules}
    return state.replace(
        step=state.step + 1,
        generator=generator,
        discriminator=player,
        averages=_averages(of_g[0], state, generator, examples=shared.examples),
        memory={"terms": remembered, "schedules": _remembered(context, state, metrics)},
    ), metrics


def _generators_own(context: Context, examples: Examples) -> tuple[Context, Examples]:
    """Repeat the images and labels of ``examples`` ``g_batches`` times.

    Each of these has a number, and so random numbers, of its own.
    """
    count = context.gan.g_batches
    image, label, index = (jnp.repeat(x, count, 0) for x in (examples.image, examples.label, context.index))
    which = jnp.arange(len(index), dtype=index.dtype) % count
    return dataclasses.replace(context, index=index * count + which), Examples(image, label, context.gan.d_steps)


def _made(
    context: Context, examples: Examples, generator: Player
) -> tuple[Shared, Callable[[Generated], tuple[Params]], dict[str, Any]]:
    """Return what G makes beside ``examples``; how its gradient goes back to G's parameters; G's statistics."""
    generated, pull_back, stats = _generated(context, examples, generator)
    return _seen(context, examples, generated, generator=generator), pull_back, stats


def _generated(
    context: Context, examples: Examples, generator: Player
) -> tuple[Generated, Callable[[Generated], tuple[Params]], dict[str, Any]]:
    """Return what G makes; how its gradient goes back to G's parameters; G's statistics."""

    def fake(params: Params) -> tuple[Generated, dict[str, Any]]:
        made, stats = context.gan.task.fake(context, {"params": params, **generator.stats}, examples)
        return made.replace(seen=presented(context, made.shown, examples, "fake")), stats

    generated, pull_back, stats = jax.vjp(fake, generator.params, has_aux=True)
    return generated, pull_back, stats


def _seen(context: Context, examples: Examples, generated: Generated, *, generator: Player) -> Shared:
    """Return what both players look at."""
    real = context.gan.task.real(context, examples, generated)
    seen = presented(context, real, examples, "real")
    return Shared(examples, real, seen, generated, generator.variables)


def intervals(gan: GAN) -> dict[str, int]:
    """Return the metrics of `update` that not all steps have, and every how many from step 0 on; 0 in others."""
    players = {"d": gan.d_terms, "g": gan.g_terms}
    return {f"{player}_{term.name}": term.every for player, terms in players.items() for term in terms}


def discriminator_step(
    context: Context, before: tuple[Player, Memory], shared: Shared
) -> tuple[tuple[Player, Memory], Metrics]:
    """Make one step of D on what it shall call real and what fake; G is not touched.

    Args:
      context: of the step.
      before: D, and what terms remember.
      shared: what both players look at.

    Returns:
      D after the step, with what terms remember then, and its metrics.
    """
    gan = context.gan
    player, memory = before

    def objective(params: Params) -> tuple[Array, Any]:
        judge = _Judge(context, shared, {"params": params, **player.stats}, mutable=list(player.stats))
        (on_real, on_fake), stats, gradients = _judged(judge, shared)
        adversarial = gan.loss(on_real.logits, on_fake.logits, **_told(context, shared.examples))[0].mean()
        again = _Judge(context, shared, {"params": params, **stats})
        view = View(
            context,
            shared.examples,
            params,
            shared.real,
            shared.generated,
            on_real,
            on_fake,
            shared.generator,
            again.one,
            gradients,
        )
        terms, remembered = _summands(gan.d_terms, view, memory)
        total = adversarial + sum(terms.values())
        return total, (on_real.logits, on_fake.logits, stats, terms, remembered)

    (loss, found), gradient = jax.value_and_grad(objective, has_aux=True)(player.params)
    real_logits, fake_logits, stats, terms, memory = found
    gradient = context.mean(gradient)
    after = _moved(context, player.replace(stats=stats), gradient, name="discriminator")

    means = context.mean({"d_loss": loss, "real": real_logits.mean(), "fake": fake_logits.mean()})
    boundary = decision_boundary(gan.loss, means["real"], means["fake"], _targets(context))
    shares = {
        "d_real": discriminator_output(gan.loss, real_logits).mean(),
        "d_fake": discriminator_output(gan.loss, fake_logits).mean(),
        "d_accuracy_real": (real_logits > boundary).mean(dtype=gan.dtype),
        "d_accuracy_fake": (fake_logits < boundary).mean(dtype=gan.dtype),
        **{f"d_{name}": value for name, value in terms.items()},
    }
    norms = {"d_grad_norm": optax.tree.norm(gradient), "d_param_norm": optax.tree.norm(after.params)}
    margin = {"d_loss": means["d_loss"], "d_margin": means["real"] - means["fake"]}
    return (after, memory), {**margin, **context.mean(shares), **norms}


def generator_step(
    context: Context, before: tuple[tuple[Player, Player], Memory], made: tuple[Shared, Callable[[Generated], Any]]
) -> tuple[tuple[Player, Memory], Metrics]:
    """Make one step of G; D is not touched.

    Args:
      context: of the step.
      before: G (with the statistics of its pass) and D, and what terms remember.
      made: what both players look at, and the function from gradients with respect to what G made to the gradient with
        respect to G's parameters.

    Returns:
      G after the step, with what terms remember then, and its metrics.
    """
    gan, hyperparams = context.gan, context.hyperparams
    (player, discriminator), memory = before
    shared, pull_back = made

    def objective(generated: Generated, params: Params) -> tuple[Array, Any]:
        # Losses that don't compare with real logits never read them, and then XLA drops this pass through D.
        judge = _Judge(context, shared, discriminator.variables)
        (on_real,), (on_fake,) = judge(shared.seen)[0], judge(generated.seen, like=("fake",))[0]
        adversarial = gan.loss(on_real.logits, on_fake.logits, **_told(context, shared.examples))[1].mean()
        variables = {**shared.generator, "params": params}
        view = View(context, shared.examples, params, shared.real, generated, on_real, on_fake, variables, judge.one)
        terms, remembered = _summands(gan.g_terms, view, memory)
        total = hyperparams["terms"]["adversarial"]["weight"] * adversarial + sum(terms.values())
        return total, (terms, remembered)

    (loss, (terms, memory)), gradients = jax.value_and_grad(objective, (0, 1), has_aux=True)(
        shared.generated, shared.generator["params"]
    )
    gradient = pull_back(gradients[0])[0]
    if gan.g_terms:  # which may run G themselves
        gradient = jax.tree.map(jnp.add, gradient, gradients[1])
    gradient = context.mean(gradient)
    after = _moved(context, player, gradient, name="generator")
    return (after, memory), {
        "g_loss": context.mean(loss),
        **context.mean({f"g_{name}": value for name, value in terms.items()}),
        "g_grad_norm": optax.tree.norm(gradient),
        "g_param_norm": optax.tree.norm(after.params),
    }


def _targets(context: Context) -> dict[str, Array]:
    """Return the label values that the loss takes."""
    return {f"{name}_label": value for name, value in context.hyperparams["labels"].items()}


def _told(context: Context, examples: Examples) -> dict[str, Array]:
    """Return what the loss takes beside logits."""
    drawn = {"keys": context.keys("loss", examples.substep)} if takes_keys(context.gan.loss) else {}
    return {**_targets(context), **drawn}


class _Judge:
    """D with its ``variables``, in training mode.

    The collections that aren't ``mutable`` stay as they are; of those, the first batch alone renews what isn't in
    ``batch_stats``.
    """

    def __init__(
        self, context: Context, shared: Shared, variables: Variables, *, mutable: Sequence[str] = ("batch_stats",)
    ) -> None:
        self.context, self.examples, self.variables, self.mutable = context, shared.examples, variables, mutable

    def one(self, images: Array, like: str) -> DiscriminatorOutput:
        """Return what D says of ``images``, augmented as a step's real or fake ones (``like``)."""
        return self(presented(self.context, images, self.examples, like), like=(like,))[0][0]

    def __call__(
        self, *batches: Any, like: Sequence[str] = ("real", "fake")
    ) -> tuple[list[DiscriminatorOutput], dict[str, Any]]:
        """Return what D says of each batch that it sees, and its statistics after them.

        On CPUs there is a call for each batch, as less of one is out of the cache (8 % of a step of dcgan); elsewhere
        one call for all, a fifth fewer operations to start (`benchmarks.gpu_program`). ``like`` names what they are,
        for D's own random numbers.
        """
        context, examples = self.context, self.examples
        said: list[DiscriminatorOutput] = []
        variables, mutable = self.variables, self.mutable
        for together in calls(list(zip(batches, like, strict=False))):
            keys = [context.keys(f"discriminator_{name}", examples.substep) for _, name in together]
            judgement, written = call(
                context.gan.discriminator,
                variables,
                jax.tree.map(lambda *seen: jnp.concatenate(seen), *(seen for seen, _ in together)),
                label=jnp.concatenate([examples.label] * len(together)),
                keys=jnp.concatenate(keys),
                train=True,
                axis_name=context.axis_name,
                batches=len(together),
                fade=context.fade,
                mutable=list(mutable),
            )
            variables, mutable = {**variables, **written}, ("batch_stats",)
            leaves, structure = jax.tree.flatten(judgement)
            of_each = zip(*(jnp.split(leaf, len(together)) for leaf in leaves), strict=True)
            said += [jax.tree.unflatten(structure, own) for own in of_each]
        return said, {name: value for name, value in variables.items() if name != "params"}


def _judged(judge: _Judge, shared: Shared) -> tuple[list[DiscriminatorOutput], dict[str, Any], dict[str, Array]]:
    """Return what D says of reals and fakes, its statistics after them, and, if terms ask, `View.gradients`.

    The gradients come from this very pass, pulled back through the augmentation, so that R1 and R2 take D forward once
    where each would take it once more. Terms that come in some steps only have D run again in those: what a pull-back
    needs, and its gradient, would be handed through their `jax.lax.cond` in all others too.
    """
    context, seen = judge.context, (shared.seen, shared.generated.seen)
    if not any(term.gradients and term.every == 1 for term in context.gan.d_terms):
        return *judge(*seen), {}

    def logits(*seen: Any) -> tuple[list[Array], Any]:
        said, stats = judge(*seen)
        return [each.logits for each in said], (said, stats)

    values, pull_back, (said, stats) = jax.vjp(logits, *seen, has_aux=True)
    slopes = pull_back([jnp.ones_like(each) for each in values])
    raw, gradients = {"real": shared.real, "fake": shared.generated.shown}, {}
    for (like, images), slope in zip(raw.items(), slopes, strict=True):
        present = partial(presented, context, examples=shared.examples, like=like)
        raw_slope = jax.vjp(present, images)[1](slope)[0]
        gradients[like] = jax.tree.map(lambda x: x.astype(context.gan.dtype), raw_slope)
    return said, stats, gradients


def _summands(terms: Sequence[Term], view: View, memory: Memory) -> tuple[dict[str, Array], Memory]:
    """Return what each of a player's terms adds to its loss, by name, and what all remember then."""
    context, found = view.context, {}
    for term in terms:
        # In some steps only, with D run again; see `_judged`.
        seen = view if term.every == 1 else dataclasses.replace(view, gradients={})

        def value(own: Memory, term: Term = term, seen: View = seen) -> tuple[Array, Memory]:
            weight = view.numbers(term.name)["weight"] * term.every
            raw, new = term.apply(seen, own)
            return (weight * raw).astype(context.gan.dtype), new

        def none(own: Memory) -> tuple[Array, Memory]:
            return jnp.zeros((), context.gan.dtype), own

        own = memory.get(term.name, {})
        if term.every == 1:
            found[term.name], own = value(own)
        else:
            found[term.name], own = jax.lax.cond(context.step % term.every == 0, value, none, own)
        memory = {**memory, term.name: own} if term.name in memory else memory
    return found, memory


def _moved(context: Context, player: Player, gradient: Params, *, name: str) -> Player:
    """``player`` after its optimizer's step along ``gradient``."""
    optimizer = getattr(context.gan, f"{name}_optimizer")(**context.hyperparams["optimizer"][name])
    updates, opt_state = optimizer.update(gradient, player.opt_state, player.params)
    return player.replace(params=optax.apply_updates(player.params, updates), opt_state=opt_state)


def _averages(context: Context, state: GANState, generator: Player, *, examples: Examples) -> dict[str, Variables]:
    """Every average after a step that ended with ``generator``.

    A mean of unit vectors would be no unit vector, and none of the averaged kernel. So where there are spectral norms,
    their vectors make a power iteration with the averaged kernels, as in a pass of training; nothing else of that pass
    is used, and XLA leaves it out.
    """
    numbers, found = context.hyperparams["averages"], {}
    for name, rule in context.gan.averages:
        before = state.averages[name]
        average = rule(numbers[name], state.step, (before, generator.variables))
        if "spectral" in average:
            passed = context.gan.task.fake(context, {**average, "spectral": before["spectral"]}, examples)[1]
            average = {**average, "spectral": passed["spectral"]}
        found[name] = average
    return found


def _remembered(context: Context, state: GANState, metrics: Metrics) -> Memory:
    """Return what schedules remember after a step with these metrics."""
    numbers, known = context.hyperparams["schedules"], state.memory["schedules"]
    updates = {name: schedule.update for name, _, schedule in context.gan.schedules}
    return {name: updates[name](numbers[name], memory, metrics) for name, memory in known.items()}
