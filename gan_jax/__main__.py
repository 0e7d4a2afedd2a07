"""What ``python launch.py`` is in a checkout, anywhere: ``python -m gan_jax --config=dcgan``."""

from gan_jax.cli.main import run

if __name__ == "__main__":
    run()
