"""Building blocks of the networks: convolutions, dense layers, normalisations, the discriminator's head."""

from gan_jax.layers.common import (
    Discriminator,
    Generator,
    Norm,
    cropped,
    discriminator_input,
    discriminator_output,
    framed,
    generator_input,
    generator_output,
    of_all_classes,
    rematerialized,
    sides,
    weight_types,
)
from gan_jax.layers.head import CONDITIONALS, DiscriminatorOutput, Embedding, check_conditional, judged, with_label
from gan_jax.layers.modules import INITS, Array, Conv, Dense, Dtype, StridedConv, TransposedConv, spectrally_normalized
from gan_jax.layers.norms import (
    REFERENCES,
    BatchNorm,
    LayerNorm,
    VirtualBatchNorm,
    bias_before,
    normalized,
    with_references,
)
from gan_jax.ops.activations import leaky_relu, relu
from gan_jax.ops.collectives import cross_device_mean
from gan_jax.ops.conv4 import kernel_gradient, strided_conv, transposed_conv
from gan_jax.ops.xla_cpu import reshaped

__all__ = [
    "CONDITIONALS",
    "INITS",
    "REFERENCES",
    "Array",
    "BatchNorm",
    "Conv",
    "Dense",
    "Discriminator",
    "DiscriminatorOutput",
    "Dtype",
    "Embedding",
    "Generator",
    "LayerNorm",
    "Norm",
    "StridedConv",
    "TransposedConv",
    "VirtualBatchNorm",
    "bias_before",
    "check_conditional",
    "cropped",
    "cross_device_mean",
    "discriminator_input",
    "discriminator_output",
    "framed",
    "generator_input",
    "generator_output",
    "judged",
    "kernel_gradient",
    "leaky_relu",
    "normalized",
    "of_all_classes",
    "relu",
    "rematerialized",
    "reshaped",
    "sides",
    "spectrally_normalized",
    "strided_conv",
    "transposed_conv",
    "weight_types",
    "with_label",
    "with_references",
]
