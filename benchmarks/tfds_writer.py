"""Writes images as TFDS would have prepared them (array_record), without TensorFlow: for tests and benchmarks."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from array_record.python.array_record_module import ArrayRecordWriter
from tensorflow_datasets.proto import tf_example_generated_pb2 as example_proto

_FEATURES = "tensorflow_datasets.core.features"


def write(
    root: Path, name: str, splits: Mapping[str, Sequence[bytes]], labels: Mapping[str, Sequence[int]] | None
) -> None:
    """Write the data set ``name`` below ``root``, version 1.0.0.

    Args:
      root: what becomes ``data.dir``.
      name: of the data set, for instance ``tiny``.
      splits: the PNG files of each split.
      labels: the labels of each split, or None.
    """
    folder = root / name / "1.0.0"
    folder.mkdir(parents=True)
    described = []
    for split, images in splits.items():
        writer = ArrayRecordWriter(str(folder / f"{name}-{split}.array_record-00000-of-00001"), "group_size:1")
        size = 0
        for i, image in enumerate(images):
            example = example_proto.Example()
            example.features.feature["image"].bytes_list.value.append(image)
            if labels is not None:
                example.features.feature["label"].int64_list.value.append(labels[split][i])
            record = example.SerializeToString()
            writer.write(record)
            size += len(record)
        writer.close()
        template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
        shards = {"numBytes": str(size), "shardLengths": [str(len(images))]}
        described.append({"filepathTemplate": template, "name": split, **shards})
    image_feature = {"dtype": "uint8", "shape": {"dimensions": ["-1", "-1", "3"]}, "encodingFormat": "png"}
    features = {"image": {"image": image_feature, "pythonClassName": f"{_FEATURES}.image_feature.Image"}}
    if labels is not None:
        classes = str(1 + max(max(values) for values in labels.values()))
        kind = f"{_FEATURES}.class_label_feature.ClassLabel"
        features["label"] = {"classLabel": {"numClasses": classes}, "pythonClassName": kind}
    top = {"featuresDict": {"features": features}, "pythonClassName": f"{_FEATURES}.features_dict.FeaturesDict"}
    (folder / "features.json").write_text(json.dumps(top))
    info = {"name": name, "version": "1.0.0", "fileFormat": "array_record", "splits": described}
    (folder / "dataset_info.json").write_text(json.dumps(info))
