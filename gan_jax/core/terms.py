"""Further summands of the players' losses, each a function of a `gan_jax.core.view.View`.

``term(view)`` gives a scalar: a mean over this device's examples, or a figure of the whole global batch. One with a
memory has the arguments ``(view, memory)`` and gives the new memory too. Gradients are those of the sum of the logits
with respect to the images before augmentation, so where D normalises over its batch they see the other examples too.
"""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from gan_jax.core.gan import GAN, Memory, Term, images_of
from gan_jax.core.randomness import normal, uniform
from gan_jax.core.view import View
from gan_jax.layers import DiscriminatorOutput
from gan_jax.ops.resample import on_each_side

Array = jax.Array

# --- of gradients of D ------------------------------------------------------------------------------------------------


def wgan_gp(view: View) -> Array:
    """``(|grad D(x)| - 1)^2`` at ``x = e real + (1 - e) fake``, e ~ U[0, 1] for each example (Gulrajani et al. 2017,
    arXiv:1704.00028, eq. 3; weight 10 there).
    """
    drawn = uniform(view.keys("penalty"), ())

    def between(real: Array, fake: Array) -> Array:
        mix = _column(drawn, real)
        return mix * real + (1 - mix) * fake

    slope = view.gradient("real", jax.tree.map(between, view.real, view.fake))
    return jnp.square(_norm(slope) - 1).mean()


def dragan(view: View) -> Array:
    """``(|grad D(x)| - 1)^2`` about the reals (Kodali et al. 2017, arXiv:1705.07215, eq. 1; weight 10 there).

    As the authors' code has it, ``x = real + a u`` with ``u = .5 s v``, a and v ~ U[0, 1] (a for each example, v for
    each number) and s the standard deviation of the example, where theirs is of the batch: so no example depends on
    others.
    """
    lengths = uniform(view.keys("penalty"), ())

    def near(real: Array, keys: Array) -> Array:
        a, v = _column(lengths, real), uniform(keys, real.shape[1:])
        spread = real.std(axis=tuple(range(1, real.ndim)), keepdims=True)
        return real + (a * 0.5 * spread * v).astype(real.dtype)

    x = jax.tree.map(near, view.real, _keys_of_each(view, "penalty of each number", view.real))
    return jnp.square(_norm(view.gradient("real", x)) - 1).mean()


@dataclasses.dataclass(frozen=True)
class ZeroCentred:
    """``½ |grad D(x)|^2`` at the reals (R1) or the fakes (R2) (Mescheder et al. 2018, arXiv:1801.04406, eq. 9 and 10).

    Attributes:
      at: ``real`` or ``fake``.
      finite_difference: ``½ |D(x + s n) - D(x)|^2 / s^2`` in its place, n ~ N(0, I) and s the term's number ``sigma``:
        its mean is the same as s goes to 0, and it takes no second derivative.
    """

    at: str
    finite_difference: bool = False

    @property
    def gradients(self) -> bool:
        """Whether it is of D's gradient itself; see `gan_jax.core.gan.Term`."""
        return not self.finite_difference

    def __call__(self, view: View) -> Array:
        """Return the mean over the batch."""
        if not self.finite_difference:
            return 0.5 * _squares(view.gradient(self.at)).mean()
        x, logits = getattr(view, self.at), view.logits(self.at)
        sigma = view.numbers({"real": "r1", "fake": "r2"}[self.at])["sigma"]

        def near(x: Array, keys: Array) -> Array:
            return x + (sigma * normal(keys, x.shape[1:], x.dtype)).astype(x.dtype)

        said = getattr(view, f"on_{self.at}").logits
        found = logits(jax.tree.map(near, x, _keys_of_each(view, f"finite difference, {self.at}", x)))
        return 0.5 * jnp.square((found - said).reshape(len(said), -1).sum(1) / sigma).mean()


def _column(x: Array, like: Array) -> Array:
    """``x`` ``[B]`` with as many axes as ``like``."""
    return x.reshape(-1, *(1,) * (like.ndim - 1)).astype(like.dtype)


def _keys_of_each(view: View, purpose: str, images: Any) -> Any:
    """Keys ``[b]`` in the place of each array of ``images``: those of ``purpose``, and others for further ones."""
    leaves, structure = jax.tree.flatten(images)
    purposes = [f"{purpose}, {number}" if number else purpose for number in range(len(leaves))]
    return jax.tree.unflatten(structure, [view.keys(each) for each in purposes])


def _squares(x: Any) -> Array:
    """Return the squared norm of each, ``[B]``; of images of several sides, the sum over all."""
    first, *rest = [jnp.square(leaf).sum(tuple(range(1, leaf.ndim))) for leaf in jax.tree.leaves(x)]
    return sum(rest, first)


def _norm(gradient: Any) -> Array:
    square = _squares(gradient)
    positive = square > 0  # the root's derivative at 0 is infinite, and times 0 no number
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, square, 1)), 0)


# --- of what D says ---------------------------------------------------------------------------------------------------


def drift(view: View) -> Array:
    """``E D(real)^2``, so that scores stay near 0 (Karras et al. 2018, arXiv:1710.10196, appendix A.1; weight .001)."""
    return jnp.square(view.on_real.logits).mean()


def feature_matching(view: View) -> Array:
    """``|E f(real) - E f(fake)|^2``, f being D's last hidden layer (Salimans et al. 2016, section 3.1). Of G's loss."""
    desired, actual = view.context.mean((view.on_real.features.mean(0), view.on_fake.features.mean(0)))
    return jnp.square(jax.lax.stop_gradient(desired) - actual).sum()


def auxiliary_discriminator(view: View) -> Array:
    """``-E log P(label | real) - E log P(label | fake)`` (Odena et al. 2017, arXiv:1610.09585, eq. 3). Of D's loss."""
    return _cross_entropy(view.on_real, view.label) + _cross_entropy(view.on_fake, view.label)


def auxiliary_generator(view: View) -> Array:
    """``-E log P(label | fake)``, the part of eq. 3 that G can change. Of G's loss."""
    return _cross_entropy(view.on_fake, view.label)


def _cross_entropy(judgement: DiscriminatorOutput, label: Array) -> Array:
    assert judgement.class_logits is not None
    mean: Array = optax.softmax_cross_entropy_with_integer_labels(judgement.class_logits, label).mean()
    return mean


def lecam(view: View, memory: Memory) -> tuple[Array, Memory]:
    """``E relu(D(real) - a_F)^2 + E relu(a_R - D(fake))^2`` (Tseng et al. 2021, arXiv:2104.03310, eq. 4, and the
    authors' code, which keeps the parts above 0).

    ``a_R`` and ``a_F`` are moving means of D's logits on reals and on fakes, with decay ``decay`` (.99 there), from
    step ``start`` on; before, they are the newest means and nothing is added. Weight .3 there, .01 to .5 elsewhere.
    """
    numbers, step = view.numbers("lecam"), view.context.step
    on_real, on_fake = view.on_real.logits, view.on_fake.logits
    newest = jax.lax.stop_gradient(view.context.mean({"real": on_real.mean(), "fake": on_fake.mean()}))
    started = step >= numbers["start"]
    decay = jnp.where(step > numbers["start"], numbers["decay"], 0)
    memory = {name: decay * memory[name] + (1 - decay) * newest[name] for name in newest}
    apart = jnp.square(jax.nn.relu(on_real - memory["fake"])).mean()
    apart += jnp.square(jax.nn.relu(memory["real"] - on_fake)).mean()
    return jnp.where(started, apart, 0), memory


def _two_means(gan: GAN) -> Memory:
    return {name: jnp.zeros((), gan.dtype) for name in ("real", "fake")}


# --- under change of images or latents --------------------------------------------------------------------------------


def moved(images: Any, keys: Array) -> Any:
    """Mirror each image with chance ½ and move it by up to an eighth of its sides, filling by reflection.

    The transformation of CR (Zhang et al. 2020, arXiv:1910.12027, section 3.1).

    Args:
      images: ``[B, H, W, C]``, or several of these.
      keys: ``[B]``.
    """

    def one(image: Array, key: Array) -> Array:
        flip, place = jax.random.split(key)
        image = jnp.where(jax.random.bernoulli(flip), image[:, ::-1], image)
        rows, columns = (max(1, side // 8) for side in image.shape[:2])
        padded = jnp.pad(image, ((rows, rows), (columns, columns), (0, 0)), mode="reflect")
        top, left = jax.random.randint(place, (2,), 0, jnp.asarray([2 * rows + 1, 2 * columns + 1]))
        return jax.lax.dynamic_slice(padded, (top, left, jnp.zeros_like(top)), image.shape)

    return on_each_side(lambda of_a_side: jax.vmap(one)(of_a_side, keys), images)


def consistency_discriminator(view: View) -> Array:
    """Return the consistency term of D's loss.

    It is ``a E|D(x) - D(T x)|^2 + b E|D(G(z)) - D(T G(z))|^2 + c E|D(G(z)) - D(G(z + s n))|^2``.

    The numbers ``real`` (a), ``fake`` (b), ``latent`` (c) and ``noise`` (s) choose: a alone is CR (Zhang et al. 2020,
    arXiv:1910.12027; 10), a and b are bCR, c is zCR's part for D (Zhao et al. 2021, arXiv:2002.04724, algorithms 1 and
    2; 10, 10, 5, with s from .03 to .07). T is `moved`.
    """
    numbers = view.numbers("consistency")
    total = jnp.zeros((), view.context.gan.dtype)
    for like, images, said in (("real", view.real, view.on_real), ("fake", view.fake, view.on_fake)):
        other = view.discriminate(moved(images, view.keys(f"consistency, {like}")), like)
        total += numbers[like] * jnp.square(said.logits - other.logits).mean()
    other = view.discriminate(jax.lax.stop_gradient(_near(view)), "fake")
    return total + numbers["latent"] * jnp.square(view.on_fake.logits - other.logits).mean()


def consistency_generator(view: View) -> Array:
    """``-d E|G(z) - G(z + s n)|^2``, d the number ``diversity`` (zCR, Zhao et al. 2021, eq. 3; .5). Of G's loss."""
    distance = jnp.square(images_of(view.fake) - images_of(_near(view))).mean()
    return -view.numbers("consistency")["diversity"] * distance


def _near(view: View) -> Any:
    """Images of latents near the batch's own, all else alike."""
    z = view.latents("latents")
    noise = normal(view.keys("consistency, latents"), z.shape[1:], z.dtype)
    return view.synthesize(view.map(z + view.numbers("consistency")["noise"] * noise, "generator"), "generator")


@dataclasses.dataclass(frozen=True)
class PathLength:
    """``E (|J_w^T y| - a)^2``, y ~ N(0, I) / sqrt(H W) (Karras et al. 2020, arXiv:1912.04958, eq. 4). Of G's loss.

    a is the moving mean of the lengths, the newest of which has the share ``decay`` in it (.01 there): the new mean
    is what lengths are held against, and its share of the newest is differentiated, as in the authors' code. ``w`` is
    what G's mapping network makes of fresh latents, as in training, so with mixed styles where it mixes them; or the
    latents themselves where it has none. Of several copies of ``w`` the mean of the squared length counts. Weight 2
    there, every 4th step.

    Attributes:
      half_batch: every second example of a batch, as many as the authors take; a device has an even number of them.
    """

    half_batch: bool = False

    def __call__(self, view: View, memory: Memory) -> tuple[Array, Memory]:
        """Return the mean over the batch, and the new mean length."""
        view = view.every_second() if self.half_batch else view
        w = view.map(view.latents("path length"), "path length")
        height, width, *_ = view.context.gan.image_shape

        def product(w: Array) -> Array:
            images = images_of(view.synthesize(w, "path length"))
            y = normal(view.keys("path length, direction"), images.shape[1:], images.dtype)
            return (images * y).sum() / jnp.sqrt(jnp.asarray(height * width, images.dtype))

        gradient = jax.grad(product)(w).astype(view.context.gan.dtype)
        square = jnp.square(gradient).sum(-1)
        lengths = jnp.sqrt(square.reshape(len(square), -1).mean(1))
        share = view.numbers("path_length")["decay"]
        mean = memory["mean"] + share * (view.context.mean(lengths.mean()) - memory["mean"])
        return jnp.square(lengths - mean).mean(), {"mean": jax.lax.stop_gradient(mean)}


# --- of parameters ----------------------------------------------------------------------------------------------------


def orthogonal(view: View) -> Array:
    """``sum over kernels of |W W^T ∘ (1 - I)|^2 / 2``, rows of W ``[out, rest]`` being made orthogonal to each other.

    Its gradient is ``2 (W W^T ∘ (1 - I)) W`` (Brock et al. 2019, arXiv:1809.11096, eq. 3, and the author's code; weight
    1e-4 there). Kernels count; embeddings, gains and biases don't.
    """

    def one(kernel: Array) -> Array:
        rows = kernel.reshape(-1, kernel.shape[-1]).T
        products = rows @ rows.T
        off = products - jnp.diag(jnp.diag(products))
        return jnp.square(off).sum() / 2

    leaves = jax.tree_util.tree_leaves_with_path(view.params)
    kernels = [x for path, x in leaves if x.ndim >= 2 and path[-1].key == "kernel"]
    return jnp.asarray(sum(map(one, kernels)), view.context.gan.dtype)


# --- of what else networks made ---------------------------------------------------------------------------------------


def reconstruction(view: View) -> Array:
    """``E (decoded - image)^2``, the mean over all numbers of an image. Of an autoencoder's loss."""
    decoded, image = (view.generated.extra[name] for name in ("decoded", "image"))
    return jnp.square((decoded - image).astype(view.context.gan.dtype)).mean()


def self_supervision(view: View) -> Array:
    """``E (decoded - target)^2`` over all pairs that D made of reals: its ``extra["decoded"]`` and ``extra["target"]``.

    Decoders show that D's maps still hold the image (Liu et al. 2021, arXiv:2101.04775, eq. 3, who take a perceptual
    distance; a squared error needs no outside weights). Of D's loss.
    """
    decoded, target = (view.on_real.extra[name] for name in ("decoded", "target"))
    return jnp.square((decoded - target).astype(view.context.gan.dtype)).mean()


# --- names ------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Forgetful:
    """A term without a memory, as one with."""

    function: Callable[[View], Array]

    def __call__(self, view: View, memory: Memory) -> tuple[Array, Memory]:
        """Return the term and the memory that it was given."""
        return self.function(view), memory


def _mean_of_lengths(gan: GAN) -> Memory:
    return {"mean": jnp.zeros((), gan.dtype)}


@dataclasses.dataclass(frozen=True)
class Kind:
    """What the name of a term stands for.

    Attributes:
      discriminator, generator: what it adds to that player's loss, or None.
      init: of its memory, if it has one.
      chosen: whether the functions are made by options, as ``discriminator(finite_difference=True)``.
      needs: what D's output must have in ``extra``.
    """

    discriminator: Callable[..., Any] | None = None
    generator: Callable[..., Any] | None = None
    init: Callable[[GAN], Memory] | None = None
    chosen: bool = False
    needs: tuple[str, ...] = ()

    def terms(self, name: str, every: int = 1, **options: Any) -> tuple[Term | None, Term | None]:
        """Return D's term and G's, where there are such."""
        return self._term(self.discriminator, name, every, options), self._term(self.generator, name, every, options)

    def _term(
        self, function: Callable[..., Any] | None, name: str, every: int, options: Mapping[str, Any]
    ) -> Term | None:
        if function is None:
            return None
        apply = function(**options) if self.chosen else function
        if self.init is None:
            gradients = getattr(apply, "gradients", False)
            return Term(name, Forgetful(apply), every=every, gradients=gradients, needs=self.needs)
        return Term(name, apply, self.init, every)


TERMS: dict[str, Kind] = {
    "wgan_gp": Kind(wgan_gp),
    "dragan": Kind(dragan),
    "r1": Kind(partial(ZeroCentred, "real"), chosen=True),
    "r2": Kind(partial(ZeroCentred, "fake"), chosen=True),
    "drift": Kind(drift),
    "lecam": Kind(lecam, init=_two_means),
    "consistency": Kind(consistency_discriminator, consistency_generator),
    "orthogonal": Kind(orthogonal, orthogonal),
    "auxiliary_discriminator": Kind(auxiliary_discriminator),
    "auxiliary_generator": Kind(generator=auxiliary_generator),
    "feature_matching": Kind(generator=feature_matching),
    "path_length": Kind(generator=PathLength, init=_mean_of_lengths, chosen=True),
    "reconstruction": Kind(generator=reconstruction),
    "self_supervision": Kind(self_supervision, needs=("decoded", "target")),
}
