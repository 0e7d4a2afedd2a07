"""Faults of archives, shards and packed sets."""

from tests.faults.fault import Fault

_ARCHIVE, _ZIPS, _SHARDS, _PACK, _PACKED = (
    f"gan_jax/data/{name}.py" for name in ("archive", "zips", "shards", "pack", "packed")
)
_ARCHIVES = "tests/data/test_archives.py"

FAULTS: tuple[Fault, ...] = (
    Fault(
        "an-archive-that-changed-is-read-on",
        _ARCHIVE,
        "changed = (file.size, file.changed) != stamp",
        "changed = False",
        (f"{_ARCHIVES}::test_members_are_read_by_threads_and_by_who_gets_them_sent",),
        "Pictures are whatever lies now where others lay.",
    ),
    Fault(
        "a-member-may-be-of-any-size",
        _ARCHIVE,
        "elif reason := too_large(max(size, packed)):",
        "elif size < 0:",
        (f"{_ARCHIVES}::test_what_claims_to_be_huge_is_never_unpacked",),
        "A small zip fills the memory.",
    ),
    Fault(
        "a-folder-around-the-classes-is-the-class",
        _ARCHIVE,
        "if top and (deep or labelled) and all(",
        "if top and labelled and all(",
        (f"{_ARCHIVES}::test_an_archive_is_the_folder_that_it_holds",),
        "A zipped folder has other classes than the folder.",
    ),
    Fault(
        "a-zip-behind-a-program-is-read-from-its-start",
        _ZIPS,
        "return start + shift, size, shift, count",
        "return start + shift, size, 0, count",
        (f"{_ARCHIVES}::test_a_zips_list_is_what_pythons_own_module_reads",),
        "Zips that unpack themselves can't be read.",
    ),
    Fault(
        "json-has-the-last-word-on-a-label",
        _SHARDS,
        'key=lambda image: (not image[0].endswith(".json"), image[2])',
        'key=lambda image: (image[0].endswith(".json"), image[2])',
        ("tests/data/test_shards.py::test_cls_has_the_last_word_and_other_json_none",),
        "Shards that have both have the labels of other readers' least choice.",
    ),
    Fault(
        "records-come-in-the-order-of-their-shards",
        _PACKED,
        "for i, record in zip(own, records, strict=True):",
        "for i, record in zip(range(len(own)), records, strict=True):",
        ("tests/data/test_packed.py::test_records_are_read_in_any_order_by_threads",),
        "A batch has some images twice, and rubbish for others.",
    ),
    Fault(
        "what-was-begun-of-another-set-is-gone-on-with",
        _PACK,
        "if begun != known:",
        "if begun is None:",
        ("tests/data/test_packed.py::test_nothing_is_written_over",),
        "A packed set has shards of two.",
    ),
    Fault(
        "labels-in-an-archive-are-not-read",
        _ARCHIVE,
        "return None if image is None else archive.read(image)",
        "return None",
        (f"{_ARCHIVES}::test_labels_in_an_archive_are_those_of_the_folder",),
        "A zip with labels.csv has its folders for classes.",
    ),
    Fault(
        "labels-beside-the-folder-around-name-no-image",
        "gan_jax/data/labels.py",
        ".removeprefix(file.around)",
        "",
        (f"{_ARCHIVES}::test_labels_beside_the_folder_around_all_name_that_too",),
        "Labels that are all there are said to be missing.",
    ),
    Fault(
        "a-tar-elsewhere-is-read-a-byte-too-late",
        "gan_jax/data/ranges.py",
        "start, some = held = at, self.read(at, max(size, _AHEAD))",
        "start, some = held = at, self.read(at + 1, max(size, _AHEAD))",
        ("tests/data/test_remote.py::test_an_archive_in_a_bucket_is_the_folder_that_it_holds",),
        "A tar in a bucket is read a byte beside where it is.",
    ),
    Fault(
        "a-picture-in-a-bucket-takes-two-requests",
        _ZIPS,
        "if begin <= 30 + _ROOM else",
        "if begin > 30 + _ROOM else",
        ("tests/data/test_remote.py::test_an_archive_in_a_bucket_is_the_folder_that_it_holds",),
        "Drawing a batch from a zip in a bucket takes twice as long.",
    ),
    Fault(
        "a-whole-file-is-taken-for-its-part",
        "gan_jax/data/remote.py",
        "if len(content) > end - at:",
        "if len(content) < end - at:",
        ("tests/data/test_remote.py::test_who_gives_no_parts_of_files_is_told_of",),
        "A zip of a server without ranges is said to be damaged.",
    ),
)
