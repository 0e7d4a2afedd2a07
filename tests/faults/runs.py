"""Faults of runs: resuming, rollbacks, checkpoints, sweeps, searches, processes."""

from tests.faults.fault import Fault

_TRAIN, _TRIAL, _WORKDIR = "gan_jax/train.py", "gan_jax/trial.py", "gan_jax/workdir.py"
_DIES = ("tests/test_rollback.py::test_a_run_that_dies_after_a_rollback_goes_on_with_its_seed",)
_BEGIN = ("tests/test_rollback.py::test_a_run_without_a_checkpoint_goes_back_to_another_start",)
_STREAM = ("tests/test_rollback.py::test_a_stream_has_the_order_of_the_rollbacks_seed_as_memory_has",)

FAULTS: tuple[Fault, ...] = (
    Fault(
        "a-resumed-run-forgets-the-rollbacks-seed",
        _TRAIN,
        "state = state.replace(seed=np.uint32(seeds[-1])) if seeds else state",
        "state = state.replace(seed=np.uint32(seeds[-1] if seeds else config.seed))",
        _DIES,
        "A run that went back, and was stopped, goes on to another end than one that was not stopped.",
    ),
    Fault(
        "a-rollback-repeats-its-seed",
        _TRAIN,
        'workdir.add_rollback({"to": to, "seed": seed, "why": str(error)})',
        'workdir.add_rollback({"to": to + 1, "seed": seed, "why": str(error)})',
        _STREAM,
        "A run that went back repeats what led to its divergence.",
    ),
    Fault(
        "a-streams-order-stays-that-of-the-configs-seed",
        _TRAIN,
        "feed = build.build_feed(config, gan, dataset, devices, int(state.seed))",
        "feed = build.build_feed(config, gan, dataset, devices)",
        _STREAM,
        "After a rollback memory and stream train different networks.",
    ),
    Fault(
        "a-run-without-checkpoints-begins-as-before",
        _TRAIN,
        "np.uint32(seeds[-1] if seeds else config.seed))",
        "np.uint32(config.seed))",
        _BEGIN,
        "A rollback to the beginning diverges again.",
    ),
)
