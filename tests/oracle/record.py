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
    cases = []
    for name in CASES:
        found = digest(torch_outcome(name))
        # Of 12 digits: what is rounding on another machine is no difference to read.
        lines = (
            f'"{leaf}": {json.dumps([shape, *(float(f"{number:.12g}") for number in numbers)])}'
            for leaf, (shape, *numbers) in found.items()
        )
        cases.append(f'"{name}": {{\n' + ",\n".join(lines) + "\n}")
    RECORD.write_text("{\n" + ",\n".join(cases) + "\n}\n")


if __name__ == "__main__":
    main()
