"""A pure function of arrays as ONNX: each primitive of its jaxpr becomes one or a few operators.

It knows the primitives that the generators here are made of, and names one that it doesn't know. What doesn't depend
on the inputs, weights above all, is computed now. Dimensions may be symbolic (`jax.export.symbolic_shape`) in one
variable, linearly: the batch.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import onnx
from jax.extend import core
from onnx import TensorProto, helper, numpy_helper

from gan_jax.util.errors import UserError

OPSET = 18
_TYPES = {
    "float32": TensorProto.FLOAT,
    "bfloat16": TensorProto.FLOAT,  # most runtimes compute in no such numbers
    "int32": TensorProto.INT32,
    "int64": TensorProto.INT64,
    "uint32": TensorProto.UINT32,
    "bool": TensorProto.BOOL,
    "uint8": TensorProto.UINT8,
}
_INLINED = ("jit", "pjit", "custom_jvp_call", "custom_vjp_call", "closed_call", "checkpoint", "remat")
_SAME = ("stop_gradient", "copy", "copy_p", "optimization_barrier", "reduce_precision")
_BY_NAME = {
    "add": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "div": "Div",
    "max": "Max",
    "min": "Min",
    "neg": "Neg",
    "exp": "Exp",
    "log": "Log",
    "tanh": "Tanh",
    "logistic": "Sigmoid",
    "sqrt": "Sqrt",
    "abs": "Abs",
    "sign": "Sign",
    "floor": "Floor",
    "erf": "Erf",
    "sin": "Sin",
    "cos": "Cos",
    "lt": "Less",
    "le": "LessOrEqual",
    "gt": "Greater",
    "ge": "GreaterOrEqual",
    "eq": "Equal",
    "and": "And",
    "or": "Or",
    "not": "Not",
}


def convert(function: Callable[..., Any], inputs: Sequence[tuple[str, Any]], output: str) -> onnx.ModelProto:
    """Return the model of ``function``, of one output.

    Args:
      function: pure, of arrays.
      inputs: names and `jax.ShapeDtypeStruct` of its arguments.
      output: name of what it returns.

    Raises:
      UserError: it has a primitive that isn't known here.
    """
    closed = jax.make_jaxpr(function)(*[like for _, like in inputs])
    graph = _Graph()
    for (name, like), variable in zip(inputs, closed.jaxpr.invars, strict=True):
        graph.inputs.append(helper.make_tensor_value_info(name, _TYPES[str(like.dtype)], _named(like.shape)))
        graph.known[variable] = name
    batches = [(name, axis) for name, like in inputs for axis, n in enumerate(like.shape) if not isinstance(n, int)]
    graph.batch = batches[0] if batches else None
    (result,) = graph.run(closed.jaxpr, closed.consts)
    graph.node("Identity", [graph.name(result)], [output])
    aval = closed.jaxpr.outvars[0].aval
    outputs = [helper.make_tensor_value_info(output, _TYPES[str(aval.dtype)], _named(aval.shape))]
    made = helper.make_graph(graph.nodes, "generator", graph.inputs, outputs, graph.constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="gan_jax")
    model.ir_version = 9  # what runtimes of the last years read
    onnx.checker.check_model(model)
    return model


def _named(shape: Sequence[Any]) -> list[Any]:
    return [n if isinstance(n, int) else str(n) for n in shape]


def _end(end: Any, whole: Any) -> int:
    """Where a slice ends, of an axis of a length that may be symbolic."""
    return 2**31 - 1 if end == whole else int(end)


class _Graph:
    """What is made; values are arrays, where they are known now, or names."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.inputs: list[Any] = []
        self.known: dict[Any, Any] = {}
        self.batch: tuple[str, int] | None = None
        self._batch_size = ""
        self._count = 0

    def run(self, jaxpr: Any, consts: Sequence[Any]) -> list[Any]:
        """Values of the outputs; those of the inputs are known."""
        self.known |= dict(zip(jaxpr.constvars, consts, strict=True))
        for equation in jaxpr.eqns:
            values = [self.value(variable) for variable in equation.invars]
            outs = self._made(equation, values)
            self.known |= dict(zip(equation.outvars, outs, strict=True))
        return [self.value(variable) for variable in jaxpr.outvars]

    def value(self, variable: Any) -> Any:
        return variable.val if isinstance(variable, core.Literal) else self.known[variable]

    def _made(self, equation: Any, values: list[Any]) -> list[Any]:
        primitive, parameters = equation.primitive, equation.params
        if primitive.name in _INLINED:
            inner = next(parameters[key] for key in ("jaxpr", "call_jaxpr", "fun_jaxpr") if key in parameters)
            inner, consts = (inner.jaxpr, inner.consts) if hasattr(inner, "consts") else (inner, [])
            self.known |= dict(zip(inner.invars, values, strict=True))
            return self.run(inner, consts)
        fixed = all(isinstance(n, int) for out in equation.outvars for n in getattr(out.aval, "shape", ()))
        if fixed and not any(isinstance(value, str) for value in values):
            found = primitive.bind(*values, **parameters)
            return list(found) if primitive.multiple_results else [found]
        if primitive.name in _SAME:
            return values
        make = getattr(self, f"_{primitive.name}", None)
        if primitive.name in _BY_NAME:
            return [self.node(_BY_NAME[primitive.name], self.names(values))]
        if make is None:
            raise UserError(f"no ONNX for the primitive {primitive.name}, which this generator has")
        out = equation.outvars[0].aval
        made = make(values, [variable.aval for variable in equation.invars], out, parameters)
        return made if isinstance(made, list) else [made]

    def node(self, kind: str, inputs: Sequence[str], outputs: Sequence[str] | None = None, **attributes: Any) -> str:
        outputs = outputs or [self._new()]
        self.nodes.append(helper.make_node(kind, list(inputs), list(outputs), **attributes))
        return outputs[0]

    def name(self, value: Any) -> str:
        """Return the name of a value; an array becomes a constant."""
        if isinstance(value, str):
            return value
        array = np.asarray(value)
        array = array.astype(np.float32) if str(array.dtype) == "bfloat16" else array
        name = self._new()
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def names(self, values: Sequence[Any]) -> list[str]:
        return [self.name(value) for value in values]

    def ints(self, numbers: Sequence[int]) -> str:
        return self.name(np.array(numbers, np.int64))

    def _new(self) -> str:
        self._count += 1
        return f"v{self._count}"

    def shape(self, shape: Sequence[Any]) -> str:
        """Return a shape as a tensor, computed where it has the batch in it."""
        if all(isinstance(n, int) for n in shape):
            return self.ints(shape)
        parts = [self.ints([n]) if isinstance(n, int) else self._dimension(n) for n in shape]
        return self.node("Concat", parts, axis=0)

    def _dimension(self, dimension: Any) -> str:
        """Return a dimension ``a batch + c`` as a tensor ``[1]``."""
        at = [int(dimension._evaluate(dict.fromkeys(dimension._get_vars(), n))) for n in (1, 2, 3)]
        slope = at[1] - at[0]
        if at[2] - at[1] != slope:
            raise UserError(f"no ONNX for an array of {dimension} numbers, which isn't linear in the batch")
        assert self.batch is not None
        if not self._batch_size:
            whole = self.node("Shape", [self.batch[0]])
            self._batch_size = self.node("Slice", [whole, self.ints([self.batch[1]]), self.ints([self.batch[1] + 1])])
        scaled = self._batch_size if slope == 1 else self.node("Mul", [self._batch_size, self.ints([slope])])
        return scaled if at[0] == slope else self.node("Add", [scaled, self.ints([at[0] - slope])])

    def transposed(self, value: str, order: Sequence[int]) -> str:
        same = list(order) == list(range(len(order)))
        return value if same else self.node("Transpose", [value], perm=list(order))

    def _transpose(self, values: Any, _: Any, __: Any, parameters: Any) -> str:
        return self.transposed(self.name(values[0]), parameters["permutation"])

    def _reshape(self, values: Any, _: Any, out: Any, __: Any) -> str:
        unknown = [n for n in out.shape if not isinstance(n, int)]
        if len(unknown) == 1 and 0 not in out.shape:
            shape = self.ints([n if isinstance(n, int) else -1 for n in out.shape])
        else:
            shape = self.shape(out.shape)
        return self.node("Reshape", [self.name(values[0]), shape])

    _squeeze = _expand_dims = _reshape

    def _broadcast_in_dim(self, values: Any, avals: Any, out: Any, parameters: Any) -> str:
        places = parameters["broadcast_dimensions"]
        shape = [1] * len(out.shape)
        for n, place in zip(avals[0].shape, places, strict=True):
            shape[place] = n
        moved = self._reshape(values, avals, jax.core.ShapedArray(tuple(shape), out.dtype), {})
        return moved if tuple(shape) == tuple(out.shape) else self.node("Expand", [moved, self.shape(out.shape)])

    def _convert_element_type(self, values: Any, _: Any, out: Any, __: Any) -> str:
        return self.node("Cast", [self.name(values[0])], to=_TYPES[str(out.dtype)])

    def _rsqrt(self, values: Any, *_: Any) -> str:
        return self.node("Reciprocal", [self.node("Sqrt", [self.name(values[0])])])

    def _square(self, values: Any, *_: Any) -> str:
        name = self.name(values[0])
        return self.node("Mul", [name, name])

    def _integer_pow(self, values: Any, _: Any, __: Any, parameters: Any) -> str:
        return self.node("Pow", [self.name(values[0]), self.name(np.float32(parameters["y"]))])

    def _ne(self, values: Any, *_: Any) -> str:
        return self.node("Not", [self.node("Equal", self.names(values))])

    def _clamp(self, values: Any, *_: Any) -> str:
        low, x, high = self.names(values)
        return self.node("Min", [self.node("Max", [x, low]), high])

    def _rem(self, values: Any, _: Any, out: Any, __: Any) -> str:
        return self.node("Mod", self.names(values), fmod=1)

    def _select_n(self, values: Any, *_: Any) -> str:
        which, no, yes = self.names(values)
        return self.node("Where", [which, yes, no])

    def _concatenate(self, values: Any, _: Any, __: Any, parameters: Any) -> str:
        return self.node("Concat", self.names(values), axis=int(parameters["dimension"]))

    def _split(self, values: Any, _: Any, __: Any, parameters: Any) -> list[str]:
        outputs = [self._new() for _ in parameters["sizes"]]
        sizes = self.ints([int(n) for n in parameters["sizes"]])
        self.node("Split", [self.name(values[0]), sizes], outputs, axis=int(parameters["axis"]))
        return outputs

    def _slice(self, values: Any, avals: Any, __: Any, parameters: Any) -> str:
        strides = parameters["strides"] or (1,) * len(parameters["start_indices"])
        cuts = zip(parameters["start_indices"], parameters["limit_indices"], strides, avals[0].shape, strict=True)
        axes = [axis for axis, (begin, end, step, whole) in enumerate(cuts) if (begin, end, step) != (0, whole, 1)]
        picked = [[int(numbers[axis]) for axis in axes] for numbers in (parameters["start_indices"], strides)]
        ends = [_end(parameters["limit_indices"][axis], avals[0].shape[axis]) for axis in axes]
        return self.node("Slice", [self.name(values[0]), *map(self.ints, (picked[0], ends, axes, picked[1]))])

    def _rev(self, values: Any, _: Any, __: Any, parameters: Any) -> str:
        axes = list(parameters["dimensions"])
        return self.node(
            "Slice",
            [self.name(values[0]), *map(self.ints, ([-1] * len(axes), [-(2**31)] * len(axes), axes, [-1] * len(axes)))],
        )

    def _pad(self, values: Any, _: Any, __: Any, parameters: Any) -> str:
        config = parameters["padding_config"]
        if any(inner for _, _, inner in config):
            raise UserError("no ONNX for pads between numbers, which this generator has")
        pads = [int(before) for before, _, _ in config] + [int(after) for _, after, _ in config]
        return self.node("Pad", [self.name(values[0]), self.ints(pads), self.name(values[1])])

    def _reduced(self, kind: str, values: Any, parameters: Any) -> str:
        return self.node(
            kind, [self.name(values[0]), self.ints([int(axis) for axis in parameters["axes"]])], keepdims=0
        )

    def _reduce_sum(self, values: Any, _: Any, __: Any, parameters: Any) -> str:
        return self._reduced("ReduceSum", values, parameters)

    def _reduce_max(self, values: Any, _: Any, __: Any, parameters: Any) -> str:
        return self._reduced("ReduceMax", values, parameters)

    def _dot_general(self, values: Any, avals: Any, _: Any, parameters: Any) -> str:
        (left, right), (left_batch, right_batch) = parameters["dimension_numbers"]
        letters = iter("abcdefghijklmnopqrstuvwxyz")
        x, y = ([""] * len(aval.shape) for aval in avals)
        both = [*zip(left_batch, right_batch, strict=True), *zip(left, right, strict=True)]
        for i, j in both:
            x[i] = y[j] = next(letters)
        x, y = ([letter or next(letters) for letter in names] for names in (x, y))
        out = [x[i] for i in left_batch]
        out += [x[i] for i in range(len(x)) if i not in (*left, *left_batch)]
        out += [y[j] for j in range(len(y)) if j not in (*right, *right_batch)]
        plain = (len(x), len(y), tuple(left), tuple(right)) == (2, 2, (1,), (0,))
        if plain:
            return self.node("MatMul", self.names(values))
        return self.node("Einsum", self.names(values), equation=f"{''.join(x)},{''.join(y)}->{''.join(out)}")

    def _gather(self, values: Any, avals: Any, out: Any, parameters: Any) -> str:
        numbers, sizes = parameters["dimension_numbers"], parameters["slice_sizes"]
        table, index = values
        if not isinstance(index, str) and np.ndim(index) == 1:  # a slice, maybe with axes of 1 taken away
            axes = list(numbers.start_index_map)
            begin = [int(i) for i in np.asarray(index)]
            ends = [_end(i + sizes[axis], avals[0].shape[axis]) for i, axis in zip(begin, axes, strict=True)]
            cut = self.node("Slice", [self.name(table), *map(self.ints, (begin, ends, axes))])
            return self._reshape([cut], avals, out, {}) if numbers.collapsed_slice_dims else cut
        whole = tuple(sizes[1:]) == tuple(avals[0].shape[1:])
        rows = tuple(numbers.collapsed_slice_dims) == tuple(numbers.start_index_map) == (0,) and whole
        if not (rows and tuple(numbers.offset_dims) == tuple(range(len(out.shape) - len(sizes) + 1, len(out.shape)))):
            raise UserError("no ONNX for a gather other than of rows or a slice, which this generator has")
        flat = self.node("Squeeze", [self.name(index), self.ints([len(avals[1].shape) - 1])])
        return self.node("Gather", [self.name(table), flat], axis=0)

    def _conv_general_dilated(self, values: Any, avals: Any, _: Any, parameters: Any) -> str:
        spec, strides = parameters["dimension_numbers"], parameters["window_strides"]
        spread, padding = parameters["lhs_dilation"], parameters["padding"]
        if parameters["batch_group_count"] != 1:
            raise UserError("no ONNX for a convolution in groups of examples, which this generator has")
        images = self.transposed(self.name(values[0]), spec.lhs_spec)
        kernel = self.transposed(self.name(values[1]), spec.rhs_spec)
        sizes = [int(avals[1].shape[axis]) for axis in spec.rhs_spec[2:]]
        told: dict[str, Any] = {
            "dilations": list(parameters["rhs_dilation"]),
            "group": parameters["feature_group_count"],
        }
        if math.prod(spread) == 1:
            pads = [int(before) for before, _ in padding] + [int(after) for _, after in padding]
            out = self.node("Conv", [images, kernel], strides=list(strides), pads=pads, **told)
        elif math.prod(strides) == 1 and told["group"] == 1 and math.prod(told["dilations"]) == 1:
            # Zeros between the pixels: a transposed convolution with the kernel turned about.
            kernel = self.transposed(self._rev([kernel], (), (), {"dimensions": (2, 3)}), (1, 0, 2, 3))
            pads = [size - 1 - int(before) for size, (before, _) in zip(sizes, padding, strict=True)]
            pads += [size - 1 - int(after) for size, (_, after) in zip(sizes, padding, strict=True)]
            out = self.node("ConvTranspose", [images, kernel], strides=list(spread), pads=pads)
        else:
            raise UserError("no ONNX for a convolution with both strides and spread pixels, which this generator has")
        return self.transposed(out, np.argsort(spec.out_spec).tolist())
