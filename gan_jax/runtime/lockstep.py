"""A computation over a batch in a fixed number of logical shards, the same to the bit on any number of devices.

Floating-point sums depend on their order, and XLA orders them by shapes: a batch of 128 on one device and of 16 on each
of eight give other bits, and GANs magnify them. Here the batch is always cut in as many shards (the idea of EasyScale,
Li et al., SC'23, arXiv:2208.14228, where a shard is a logical worker). Whatever concerns a shard alone is computed by a
loop over the shards of the device, by one loop body wherever it runs; what all have in common, by a loop that is run
once, so that XLA compiles it without looking at what surrounds it. Sums over shards (of gradients, of batch norm's
moments) are added as a binary tree over the shards' numbers, of which each device adds a whole subtree.

A function that speaks to others by an axis name (``psum``, ``all_gather``) can't be put in such a loop as it is: it
waits for the others in the midst. So its program (jaxpr) is cut at these places, and each part looped by itself.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.extend.core as jex
import jax.numpy as jnp
from jax import lax

Array = jax.Array

AXIS = "shard"

# For compiling a program with `lockstep` in it: what doesn't depend on the shard must stay in its loop.
COMPILER_OPTIONS: dict[str, str | bool] = {"xla_disable_hlo_passes": "while-loop-invariant-code-motion"}


def lockstep(
    function: Callable[..., Any], shared: Any, own: Any, *, device_axis: str, shards: int, each: int, count: Array
) -> Any:
    """``function(shared, own)`` for every shard, under the axis name `AXIS`, for use inside pmap.

    Args:
      function: of what all shards have in common and of what a shard has for itself; its results must be the same for
        all shards (as means over the axis are).
      shared: pytree.
      own: pytree of arrays ``[each, ...]``, those of this device's shards.
      device_axis: pmap's axis name. Shards lie on devices in order, ``each`` on every one.
      shards: their number, a power of two.
      each: as many of them are on a device.
      count: int32 ``(each, 1)``, as an argument of the program: if XLA knew how often a loop runs, it would unroll
        some, and compile what is in them differently.

    Returns:
      The function's results.
    """
    single = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), own)
    plain = jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), jnp.result_type(x)), shared)
    closed, shape = jax.make_jaxpr(function, axis_env=[(AXIS, shards)], return_shape=True)(plain, single)
    shared_leaves, own_leaves = jax.tree.leaves(shared), jax.tree.leaves(own)
    varies = [False] * len(shared_leaves) + [True] * len(own_leaves)
    results = _Machine(device_axis, shards, each, count).run(closed, _values([*shared_leaves, *own_leaves], varies))
    if any(value.varies for value in results):
        raise ValueError("a result differs from shard to shard: average it over the axis")
    return jax.tree.unflatten(jax.tree.structure(shape), [value.array for value in results])


class _Value:
    """An array that all shards have in common, or, if it ``varies``, ``[each, ...]``, one for each."""

    def __init__(self, array: Any, varies: bool) -> None:
        self.array, self.varies = array, varies


class _Machine:
    """Runs jaxprs on `_Value` s."""

    def __init__(self, device_axis: str, shards: int, each: int, count: Array) -> None:
        self.device_axis, self.shards, self.each, self.count = device_axis, shards, each, count

    def run(self, closed: Any, values: Sequence[_Value]) -> list[_Value]:
        """Return the results of a closed jaxpr."""
        return _Program(self, closed).run(values)

    def once(self, function: Callable[..., Sequence[Array]], shared: Sequence[Any]) -> list[Array]:
        """``function(shared, [])``, in a loop of its own."""
        kinds: list[Any] = []

        def one() -> list[Array]:
            plain, kinds[:] = _without_keys(function(shared, []))
            return plain

        begin = [jnp.zeros(x.shape, x.dtype) for x in jax.eval_shape(one)]
        return _with_keys(lax.fori_loop(0, self.count[1], lambda _, __: one(), begin), kinds)

    def each_by_itself(
        self, function: Callable[..., Sequence[Array]], shared: Sequence[Any], own: Sequence[Any]
    ) -> list[Array]:
        """``function(shared, own)`` shard by shard, all alike: results ``[each, ...]``."""
        rows, kinds = _without_keys(own)
        if self.each == 1:  # XLA would take the only row's index away, and compile what is left differently
            rows = [jnp.concatenate([x, x]) for x in rows]
        kinds_after: list[Any] = []

        def one(i: Any) -> list[Array]:
            mine = [lax.dynamic_index_in_dim(x, i, keepdims=False) for x in rows]
            plain, kinds_after[:] = _without_keys(function(shared, _with_keys(mine, kinds)))
            return plain

        def body(i: Any, kept: list[Array]) -> list[Array]:
            new = lax.optimization_barrier(one(i))
            return [lax.dynamic_update_index_in_dim(x, y, i, 0) for x, y in zip(kept, new, strict=True)]

        begin = [jnp.zeros((max(self.each, 2), *x.shape), x.dtype) for x in jax.eval_shape(one, 0)]
        found = lax.fori_loop(0, self.count[0], body, begin)
        return _with_keys([x[: self.each] for x in found], kinds_after)

    def spread(self, value: _Value) -> Array:
        """``[each, ...]``, whether it varies or not."""
        array = value.array
        return array if value.varies else jnp.broadcast_to(array, (self.each, *jnp.shape(array)))

    def sum(self, value: _Value) -> Array:
        """Over all shards, as a binary tree."""
        local = _tree_sum(self.spread(value))
        return _tree_sum(lax.all_gather(local, self.device_axis))

    def gathered(self, value: _Value) -> Array:
        """``[shards, ...]``."""
        if not value.varies:
            return jnp.broadcast_to(value.array, (self.shards, *jnp.shape(value.array)))
        everyone: Array = lax.all_gather(value.array, self.device_axis, tiled=True)
        return everyone

    def number(self) -> Array:
        """Of each shard on this device, int32 ``[each]``."""
        number: Array = lax.axis_index(self.device_axis) * self.each + jnp.arange(self.each, dtype=jnp.int32)
        return number


def _tree_sum(x: Array) -> Array:
    """Over the first axis, whose length is a power of two: neighbours first."""
    while len(x) > 1:
        x = x[0::2] + x[1::2]
    return x[0]


class _Program:
    """One jaxpr, on its way through a `_Machine`.

    Equations wait until a collective operation needs their results; then they, and only they, become one loop for what
    all shards have in common, and one for the rest. Those that have no inputs are repeated wherever they are needed.
    """

    def __init__(self, machine: _Machine, closed: Any) -> None:
        self.machine, self.closed = machine, closed
        self.values: dict[Any, _Value] = {}
        self.constants: dict[Any, Any] = {}  # the equation that makes it
        self.pending: dict[Any, tuple[Any, bool]] = {}  # the equation that makes it, and whether its results vary
        self.later: dict[Any, int] = {}  # how many equations yet to run, and results, read a variable

    def run(self, values: Sequence[_Value]) -> list[_Value]:
        """Return the results of the jaxpr, from its arguments."""
        jaxpr = self.closed.jaxpr
        equations, outvars = _merged(jaxpr)
        for atoms in (*(equation.invars for equation in equations), outvars):
            for var in _variables(atoms):
                self.later[var] = self.later.get(var, 0) + 1
        self.values.update(zip(jaxpr.invars, values, strict=True))
        self.values.update((var, _Value(x, False)) for var, x in zip(jaxpr.constvars, self.closed.consts, strict=True))
        for equation in equations:
            inputs = _variables(equation.invars)
            rule = _rule(equation)
            if rule is not None:
                self.need(inputs)
                results = rule(self.machine, equation, [self.read(atom) for atom in equation.invars])
                self.values.update(zip(equation.outvars, results, strict=True))
                self.done(equation)
            elif all(var in self.constants for var in inputs):
                self.constants.update(dict.fromkeys(equation.outvars, equation))
            else:
                varies = any(self.varies(var) for var in inputs)
                self.pending.update(dict.fromkeys(equation.outvars, (equation, varies)))
        self.need(_variables(outvars))
        return [self.read(atom) for atom in outvars]

    def varies(self, var: Any) -> bool:
        """Whether it differs from shard to shard."""
        if var in self.pending:
            return self.pending[var][1]
        return var in self.values and self.values[var].varies

    def read(self, atom: Any) -> _Value:
        """Of something that was computed, or is constant."""
        if not isinstance(atom, jex.Literal) and atom in self.values:
            return self.values[atom]
        return _Value(self.array(atom, {}), False)

    def array(self, atom: Any, known: dict[Any, Any]) -> Any:
        """From those ``known``, which is added to, or constant."""
        if isinstance(atom, jex.Literal):
            return atom.val
        if atom not in known:
            self.evaluate(self.constants[atom], known)
        return known[atom]

    def evaluate(self, equation: Any, known: dict[Any, Any]) -> None:
        """Add the results of an equation."""
        arrays = [self.array(atom, known) for atom in equation.invars]
        with equation.ctx.manager:
            results = equation.primitive.bind(*arrays, **equation.primitive.get_bind_params(equation.params))
        known.update(zip(equation.outvars, results if equation.primitive.multiple_results else [results], strict=True))

    def done(self, equation: Any) -> None:
        """Of what it reads, one reader fewer is to come."""
        for var in _variables(equation.invars):
            self.later[var] -= 1

    def need(self, wanted: Sequence[Any]) -> None:
        """Compute those of the variables that are pending, and what they depend on."""
        chosen, looked_at, queue = set(), set(), list(wanted)
        while queue:
            var = queue.pop()
            if var in self.pending and var not in looked_at:
                looked_at.add(var)
                chosen.add(id(self.pending[var][0]))
                queue += _variables(self.pending[var][0].invars)
        for part in (False, True):
            these = {id(e): e for e, varies in self.pending.values() if id(e) in chosen and varies == part}
            if these:
                self.compute(list(these.values()), part)

    def compute(self, equations: Sequence[Any], varies: bool) -> None:
        """One loop of these equations."""
        for equation in equations:
            self.done(equation)
        made = [var for equation in equations for var in equation.outvars]
        for var in made:
            del self.pending[var]
        kept = [var for var in made if self.later.get(var, 0) > 0]
        read = dict.fromkeys(v for e in equations for v in _variables(e.invars) if v in self.values)
        shared = [var for var in read if not self.values[var].varies]
        own = [var for var in read if self.values[var].varies]

        def part(shared_arrays: Sequence[Array], own_arrays: Sequence[Array]) -> list[Array]:
            known = dict(zip([*shared, *own], [*shared_arrays, *own_arrays], strict=True))
            for equation in equations:
                self.evaluate(equation, known)
            return [known[var] for var in kept]

        arguments = [self.values[var].array for var in shared], [self.values[var].array for var in own]
        arrays = self.machine.each_by_itself(part, *arguments) if varies else self.machine.once(part, arguments[0])
        self.values.update((var, _Value(x, varies)) for var, x in zip(kept, arrays, strict=True))


def _variables(atoms: Sequence[Any]) -> list[Any]:
    return [atom for atom in atoms if not isinstance(atom, jex.Literal)]


def _live(jaxpr: Any) -> list[Any]:
    """Return the equations that the results of ``jaxpr`` depend on."""
    wanted, kept = set(_variables(jaxpr.outvars)), []
    for equation in reversed(jaxpr.eqns):
        if not wanted.isdisjoint(equation.outvars):
            kept.append(equation)
            wanted.update(_variables(equation.invars))
    return kept[::-1]


def _merged(jaxpr: Any) -> tuple[list[Any], list[Any]]:
    """Return the live equations, equal ones as one, and the results.

    XLA would merge them too, but when depends on the number of devices, and it simplifies by how many read a value: it
    divides by a scalar that several read, and multiplies by the reciprocal of one that is read once.
    """
    first: dict[Any, list[Any]] = {}
    instead: dict[Any, Any] = {}

    def known(atom: Any) -> Any:
        return atom if isinstance(atom, jex.Literal) else instead.get(atom, atom)

    kept = []
    for equation in _live(jaxpr):
        equation = equation.replace(invars=[known(atom) for atom in equation.invars])
        inputs = [(repr(a.val), a.aval) if isinstance(a, jex.Literal) else a for a in equation.invars]
        by_itself = equation.effects or _inner(equation) or len(equation.outvars) > 1
        key = (equation.primitive, id(equation) if by_itself else frozenset(equation.params.items()), *inputs)
        results = first.setdefault(key, equation.outvars)
        if results is equation.outvars:
            kept.append(equation)
        else:
            instead.update(zip(equation.outvars, results, strict=True))
    return kept, [known(atom) for atom in jaxpr.outvars]


def _without_keys(arrays: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """PRNG keys as the numbers in them, and for each array the keys' kind, or None."""
    kinds = [jax.random.key_impl(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else None for x in arrays]
    return [jax.random.key_data(x) if kind else x for x, kind in zip(arrays, kinds, strict=True)], kinds


def _with_keys(arrays: Sequence[Any], kinds: Sequence[Any]) -> list[Any]:
    return [jax.random.wrap_key_data(x, impl=k) if k else x for x, k in zip(arrays, kinds, strict=True)]


def _inner(equation: Any) -> list[Any]:
    """Return the jaxprs in an equation's parameters, closed."""
    found = []
    for parameter in equation.params.values():
        for x in parameter if isinstance(parameter, tuple | list) else (parameter,):
            if isinstance(x, jex.ClosedJaxpr):
                found.append(x)
            elif isinstance(x, jex.Jaxpr):
                found.append(jex.ClosedJaxpr(x, ()))
    return found


def _speaks(equation: Any) -> bool:
    """Whether an equation, or one inside it, is a collective operation."""
    if equation.primitive.name in _COLLECTIVES:
        return True
    return any(_speaks(inner) for closed in _inner(equation) for inner in closed.jaxpr.eqns)


def _rule(equation: Any) -> Any | None:
    """How the machine runs an equation that concerns several shards; None for those that don't."""
    if not _speaks(equation):
        return None
    name = equation.primitive.name
    if name in _COLLECTIVES:
        return _COLLECTIVES[name]
    if name == "scan":
        return _scan
    if name == "cond":
        return _cond
    if len(_inner(equation)) == 1 and "while" not in name:  # jit, custom derivatives, remat: what is inside
        return lambda machine, equation, values: machine.run(_inner(equation)[0], values)
    raise NotImplementedError(f"{name} with a collective operation in it, in logical shards")


def _psum(machine: _Machine, equation: Any, values: Sequence[_Value]) -> list[_Value]:
    return [_Value(machine.sum(value), False) for value in values]


def _all_gather(machine: _Machine, equation: Any, values: Sequence[_Value]) -> list[_Value]:
    (value,), axis = values, equation.params["all_gather_dimension"]
    everyone = jnp.moveaxis(machine.gathered(value), 0, axis)
    if equation.params["tiled"]:
        shape = list(everyone.shape)
        everyone = everyone.reshape(*shape[:axis], shape[axis] * shape[axis + 1], *shape[axis + 2 :])
    return [_Value(everyone, False)]


def _reduce_scatter(machine: _Machine, equation: Any, values: Sequence[_Value]) -> list[_Value]:
    (value,), axis = values, equation.params["scatter_dimension"]
    whole = jnp.moveaxis(machine.sum(value), axis, 0)
    parts = whole.reshape(machine.shards, -1, *whole.shape[1:])[machine.number()]
    if not equation.params["tiled"]:
        return [_Value(parts[:, 0], True)]
    return [_Value(jnp.moveaxis(parts, 1, axis + 1), True)]


def _axis_index(machine: _Machine, equation: Any, values: Sequence[_Value]) -> list[_Value]:
    del equation, values
    return [_Value(machine.number(), True)]


def _scan(machine: _Machine, equation: Any, values: Sequence[_Value]) -> list[_Value]:
    """Run a loop whose body speaks: a loop of the body in lockstep."""
    params, closed = equation.params, equation.params["jaxpr"]
    end = _as_within(equation.invars, closed.jaxpr.invars)  # constants and carry; scanned ones have an axis more
    begin = end - _as_within(equation.outvars, closed.jaxpr.outvars)
    xs = [jnp.moveaxis(value.array, 1, 0) if value.varies else value.array for value in values[end:]]
    varies = [value.varies for value in values]
    while True:  # a carried value that varies makes others vary
        arrays = [machine.spread(value) if v else value.array for value, v in zip(values[:end], varies, strict=False)]
        out = _flags(machine, closed, [*arrays, *(x[0] for x in xs)], varies)
        after = [a or b for a, b in zip(varies[begin:end], out[: end - begin], strict=True)]
        if after == varies[begin:end]:
            break
        varies[begin:end] = after

    def body(carried: list[Array], xs: list[Array]) -> tuple[list[Array], list[Array]]:
        results = machine.run(closed, _values([*arrays[:begin], *carried, *xs], varies))
        kept = [machine.spread(r) if v else r.array for r, v in zip(results, after, strict=False)]
        return kept, [r.array for r in results[len(kept) :]]

    carried, ys = lax.scan(body, arrays[begin:], xs, length=params["length"], reverse=params["reverse"])
    stacked = [jnp.moveaxis(y, 0, 1) if v else y for y, v in zip(ys, out[len(after) :], strict=True)]
    return _values([*carried, *stacked], [*after, *out[len(after) :]])


def _as_within(outer: Sequence[Any], inner: Sequence[Any]) -> int:
    """How many variables have the same shape outside of a loop as in its body."""
    return sum(a.aval.shape == b.aval.shape for a, b in zip(outer, inner, strict=True))


def _cond(machine: _Machine, equation: Any, values: Sequence[_Value]) -> list[_Value]:
    """Make a choice, the same for all shards, with a branch that speaks."""
    index, *operands = values
    if index.varies:
        raise NotImplementedError("a choice of each shard's own, with a collective operation in it")
    arrays, varies = [value.array for value in operands], [value.varies for value in operands]
    branches = equation.params["branches"]
    flags = [any(each) for each in zip(*(_flags(machine, b, arrays, varies) for b in branches), strict=True)]

    def branch(closed: Any) -> Callable[..., list[Array]]:
        def run(*arrays: Array) -> list[Array]:
            results = machine.run(closed, _values(arrays, varies))
            return [machine.spread(r) if v else r.array for r, v in zip(results, flags, strict=True)]

        return run

    return _values(lax.switch(index.array, [branch(closed) for closed in branches], *arrays), flags)


def _flags(machine: _Machine, closed: Any, arrays: Sequence[Any], varies: Sequence[bool]) -> list[bool]:
    """Which results of a closed jaxpr vary."""
    found: list[bool] = []

    def run(*arrays: Array) -> None:
        found.extend(value.varies for value in machine.run(closed, _values(arrays, varies)))

    jax.eval_shape(run, *arrays)
    return found


def _values(arrays: Sequence[Any], varies: Sequence[bool]) -> list[_Value]:
    return [_Value(x, v) for x, v in zip(arrays, varies, strict=True)]


_COLLECTIVES = {
    "psum": _psum,
    "all_gather": _all_gather,
    "reduce_scatter": _reduce_scatter,
    "axis_index": _axis_index,
}
