"""Trains, samples, interpolates, evaluates: ``python launch.py --config=configs/dcgan.py [--config.KEY=VALUE ...]``."""

from gan_jax.cli.main import run

if __name__ == "__main__":
    run()
