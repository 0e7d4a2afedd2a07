"""Data sets prepared by TensorFlow Datasets, read without TensorFlow."""

import importlib.util
import os
from pathlib import Path
from typing import Any

import numpy as np

from gan_jax.data.cache import Cache
from gan_jax.data.images import Decoded
from gan_jax.data.options import Options
from gan_jax.data.parts import Part, Source, check_labels
from gan_jax.util import named, progress
from gan_jax.util.errors import UserError, clipped, listed, needed, printable, unknown_name

_TEST_SPLITS = ("test", "validation")  # the first of them that there is; "train" is the train part
_SLICE = 1000  # labels read at a time


def find(options: Options, cache: Cache) -> Source:
    """Find the data set ``options.name`` of TFDS, for instance ``mnist`` or ``lsun/bedroom``, below ``options.dir``.

    It must have been prepared as array_record. If it wasn't, it is downloaded and prepared now where TensorFlow is
    installed (the extra ``prepare``). The test part is its test or validation split.

    Raises:
      UserError: there is no such data set, it isn't prepared and can't be, or it lacks the features asked for.
    """
    with needed("tensorflow_datasets", "tfds"):
        import tensorflow_datasets as tfds

    if not options.name:
        raise UserError("the tfds source needs data.name, for instance mnist, cifar10 or lsun/bedroom")
    own = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"  # TFDS's, which must be somewhere, too
    place = str(named.path(options.dir or own, "data.dir"))
    directory = place if options.dir else None
    try:
        builder = tfds.builder(options.name, data_dir=directory)
    except tfds.core.DatasetNotFoundError as error:
        known = tfds.list_builders(with_community_datasets=False)
        raise unknown_name("data.name of the tfds source", options.name, known) from error
    except Exception as error:  # code of the data set's own runs here
        raise UserError(f"data.name {options.name!r} of the tfds source: {_first_line(error)}") from error
    if not builder.is_prepared():
        builder = _prepare(options, str(builder.data_dir_root))
    image_key, label_key = _keys(builder.info.features, options)
    splits = ["train", *[split for split in _TEST_SPLITS if split in builder.info.splits][:1]]
    if "train" not in builder.info.splits:
        raise UserError(f"tfds:{options.name} has no split 'train', but {listed(builder.info.splits)}")
    train, *test = [_part(builder, split, image_key, label_key, options, cache) for split in splits]
    known = builder.info.features[label_key].names if label_key else None
    classes = tuple(printable(clipped(str(name))) for name in known or ())
    return Source(f"tfds:{options.name}", train, test[0] if test else None, classes)


class _Records:
    """One feature of the records of a split, as it is stored: an image's bytes, or a label."""

    def __init__(self, records: Any, features: Any, key: str, name: str) -> None:
        import tensorflow_datasets as tfds

        self._records, self._key, self._name = records, key, name
        self._feature = tfds.features.FeaturesDict({key: features[key]})  # so that no other is parsed
        encoded = isinstance(features[key], tfds.features.Image)
        self._decoders = {key: tfds.decode.SkipDecoding()} if encoded else None

    def __call__(self, numbers: np.ndarray) -> list[Any]:
        try:
            records = self._records.__getitems__([int(number) for number in numbers])
            return [self._feature.deserialize_example_np(r, decoders=self._decoders)[self._key] for r in records]
        except Exception as error:  # of damaged files, the reader and the parser raise anything
            raise UserError(f"cannot read {self._name} ({_first_line(error)}): prepare it anew") from error


def _part(builder: Any, split: str, image_key: str, label_key: str, options: Options, cache: Cache) -> Part:
    import tensorflow_datasets as tfds

    name, features = f"tfds:{options.name}, {split}", builder.info.features
    for file in Path(builder.data_dir).iterdir():
        if not (file.is_file() or file.is_dir()):  # a named pipe would be read for ever
            raise UserError(f"tfds:{options.name}: {str(file)!r} is no regular file: remove it")
    try:
        raw = tfds.decode.DeserializeMethod.RAW_BYTES
        records = builder.as_data_source(split=split, deserialize_method=raw)
        count = len(records)
    except (NotImplementedError, ValueError, OSError) as error:
        raise UserError(
            f"tfds:{options.name} in {builder.data_dir} can't be read ({_first_line(error)}): "
            f"prepare it as array_record in another folder, {_command(options.name, 'FOLDER')}, and set data.dir to it"
        ) from error
    files = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in Path(builder.data_dir).iterdir()]
    identity = "\n".join([str(builder.data_dir), split, *("|".join(map(str, file)) for file in sorted(files))])
    labels = None
    if label_key:
        read = _Records(records, features, label_key, name)
        labels = cache.array(f"{identity}\n{label_key}", lambda: _read_all(read, count, f"labels of {name}"))
        labels = check_labels(labels, count, name)
    names = [f"{name}[{number}]" for number in range(count)]
    images = Decoded(_Records(records, features, image_key, name), names, options)
    return Part(images, labels, f"{identity}\n{image_key}")


def _read_all(read: _Records, count: int, what: str) -> np.ndarray:
    numbers = np.arange(count)
    with progress.bar(total=count, desc=f"reading {what}", delay=1, leave=False) as bar:
        slices = []
        for start in range(0, count, _SLICE):
            slices.append(np.asarray(read(numbers[start : start + _SLICE])))
            bar.update(len(slices[-1]))
    return np.concatenate(slices) if slices else np.zeros(0, np.int64)


def _keys(features: Any, options: Options) -> tuple[str, str]:
    """Names of the image and of the label feature; that of labels is empty where there are none."""
    import tensorflow_datasets as tfds

    images = [key for key, feature in features.items() if isinstance(feature, tfds.features.Image)]
    labels = [key for key, feature in features.items() if isinstance(feature, tfds.features.ClassLabel)]
    where = f"tfds:{options.name}"
    if options.image_key not in ("", *images):
        raise unknown_name(f"data.image_key of {where}", options.image_key, images)
    if options.label_key not in ("", *labels):
        raise unknown_name(f"data.label_key of {where}", options.label_key, labels or ["(it has no labels)"])
    if not images:
        raise UserError(f"{where} has no image feature, but {listed(features)}")
    image_key = options.image_key or ("image" if "image" in images else images[0])
    label_key = options.label_key or ("label" if "label" in labels else next(iter(labels), ""))
    return image_key, label_key


def _prepare(options: Options, root: str) -> Any:
    """Download and prepare what isn't there, with TFDS's own progress bars. Return its builder."""
    import tensorflow_datasets as tfds

    command = _command(options.name, root)
    if not all(importlib.util.find_spec(needed) for needed in ("tensorflow", "importlib_resources")):
        raise UserError(
            f"tfds:{options.name} is not prepared in {root}: pip install -e '.[prepare]' and give the same command "
            f"again, which then downloads and prepares it; or prepare it elsewhere, {command}, and set data.dir to it"
        )
    try:
        builder = tfds.builder(options.name, data_dir=root, file_format="array_record")
        with progress.others_bars():
            builder.download_and_prepare()
        return builder
    except Exception as error:  # the network, the disk, a host that is gone, a data set's own code
        raise UserError(
            f"cannot download and prepare tfds:{options.name} in {root}: {type(error).__name__}: {_first_line(error)}; "
            f"prepare it where that is possible, {command}, and set data.dir to it"
        ) from error


def _command(name: str, root: str) -> str:
    return f"`tfds build {name} --file_format=array_record --data_dir={root}`"


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]
