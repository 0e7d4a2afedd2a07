"""What PyTorch computes of each case, and what fixed seeds draw, written down for machines without PyTorch.

    python -m tests.oracle.record            # writes tests/oracle/recorded.json anew

Do that where a step is meant to give other numbers than before, and read the difference.
"""

import json

from tests.oracle.cases import CASES, RECORD, Outcome, case_config, digest, first_images, first_values


def torch_outcome(name: str) -> Outcome:
    """The case's steps by PyTorch."""
    import jax

    from tests.oracle.torch_run import theirs

    config = case_config(name)
    with jax.enable_x64(True):
        return theirs(config, first_values(name), *first_images(config))


def main() -> None:
    """Writes `RECORD`."""
    found = {name: digest(torch_outcome(name)) for name in CASES}
    cases = (
        f'"{name}": {{\n' + ",\n".join(f'"{leaf}": {json.dumps(numbers)}' for leaf, numbers in leaves.items()) + "\n}"
        for name, leaves in found.items()
    )
    RECORD.write_text("{\n" + ",\n".join(cases) + "\n}\n")


if __name__ == "__main__":
    main()
