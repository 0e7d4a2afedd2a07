"""Faults of what a config brings of the user's own: names, files, what a run remembers of them."""

from tests.faults.fault import Fault

_CODE, _NAMED, _PLAIN = "gan_jax/runs/code.py", "gan_jax/util/named.py", "gan_jax/core/plain.py"
_RUN = ("tests/runs/test_code.py::test_a_run_resumes_and_is_sampled_by_its_workdir_alone",)
_EQUAL = ("tests/test_outside.py::test_the_same_file_is_the_same_gan_and_a_changed_one_another",)
_STEP = ("tests/test_outside.py::test_all_of_a_users_own_is_what_a_step_is_made_of",)

FAULTS: tuple[Fault, ...] = (
    Fault(
        "a-file-is-run-anew-for-each-gan",
        _NAMED,
        "    if key not in _files:\n",
        "    if True:\n",
        _EQUAL,
        "Trials of a sweep that use a file of the user's own share no program.",
    ),
    Fault(
        "a-changed-file-is-not-run",
        _NAMED,
        "key = os.path.abspath(place), hashlib.sha256(content).digest()",
        'key = os.path.abspath(place), b""',
        _EQUAL,
        "Who changes a file in a notebook trains the old code.",
    ),
    Fault(
        "what-sets-a-config-is-code",
        _CODE,
        "            if node.name in _ELSEWHERE",
        "            if node.name in ()",
        _RUN,
        "A run whose config file sets other steps is refused as one of other code.",
    ),
    Fault(
        "code-is-run-out-of-a-workdir",
        _CODE,
        "if path.resolve().is_relative_to(self.folder.resolve()):",
        "if path.is_relative_to(self.folder) and not path.exists():",
        ("tests/runs/test_code.py::test_no_code_is_run_out_of_a_workdir",),
        "Whoever writes to a workdir has code run by those who sample it.",
    ),
    Fault(
        "a-term-of-ones-own-forgets",
        _PLAIN,
        "            return jnp.asarray(value), memory\n",
        "            return jnp.asarray(value), {name: x * 0 for name, x in memory.items()}\n",
        _STEP,
        "A term's memory is lost at each step.",
    ),
    Fault(
        "a-changed-code-is-recorded-once-too-often",
        _CODE,
        'if change["step"] >= step and change["key"] in before:',
        'if change["key"] in before:',
        ("tests/runs/test_code.py::test_what_changed_is_counted_from_where_a_run_really_goes_on",),
        "Each later start of a run with changed code records the change again.",
    ),
)
