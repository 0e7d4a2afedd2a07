"""A page to play with a trained generator: a small HTTP server, and `play.html`.

The server remembers nothing: a request says all that its picture depends on, and what is uploaded is read, projected
and forgotten. All computation is in one thread at a time.

A picture is described as the page does it: ``seed``, or a ``code`` ``[D]`` that was found by projection; ``label``, a
number; ``truncation``; ``shifts``, standard deviations along each direction; ``noise``, the mode. A request has one, or
two and where between them the picture lies, on a straight line in w, else on a great circle in z; each of the two may
be such a request.
"""

import io
import json
import sys
import threading
import time
from collections.abc import Mapping
from functools import cached_property
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlparse

import jax
import numpy as np
from PIL import Image

from gan_jax.core import draw
from gan_jax.evaluate.sample import fixed_keys, slerp
from gan_jax.layers.noise import MODES
from gan_jax.use import check, directions, projected
from gan_jax.util.errors import UserError, clipped, listed

if TYPE_CHECKING:
    from gan_jax.use.trained import Trained

LOCAL = ("127.0.0.1", "localhost", "::1")
STEPS = 300  # of a projection
_DIRECTIONS = 10
_MOST = 30_000_000  # bytes of an upload
_WHOLE = 3.0  # how far a truncated prior goes


class Player:
    """Draws what the page asks for.

    Args:
      run: the GAN.
    """

    def __init__(self, run: "Trained") -> None:
        check.not_of_conditions(run.gan, "the page to play with")
        self.run, self._lock = run, threading.Lock()
        self._own = draw.network_options(run.gan)
        self._of_w = run.has_mapping and "truncation" in draw.network_options(run.gan, "mapping")
        self._of_prior = "truncation" in draw.options_of(run.gan)[0]

    @cached_property
    def directions(self) -> directions.Directions:
        """Those in the run's folder, or as SeFa finds them."""
        file = self.run.workdir / "directions" / "directions.npz"
        if file.is_file():
            return directions.fitting(directions.load(file), self.run, file)
        return self.run.directions(count=_DIRECTIONS)

    @cached_property
    def _mean(self) -> np.ndarray:
        """w's moving mean ``[copies, w_dim]``."""
        mean: np.ndarray = np.asarray(self.run.mapping(self.run.latents(1), truncation=0.0))[0]
        return mean

    def about(self) -> dict[str, Any]:
        """Return what the page needs to know."""
        run, report = self.run, self.run.workdir / "report.html"
        height, width, _ = run.gan.image_shape
        truncation = {"low": 0.1, "high": _WHOLE, "usual": _WHOLE}  # beyond it a prior isn't truncated
        if self._of_w:
            truncation = {"low": 0.0, "high": 1.5, "usual": 1.0}
        return {
            "model": run.config.model,
            "workdir": str(run.workdir),
            "step": run.step,
            "width": width,
            "height": height,
            "space": run.space,
            "classes": run.classes if run.gan.classes else [],
            "truncation": truncation if self._of_w or self._of_prior else None,
            "noise": list(MODES) if "noise_mode" in self._own else [],
            "directions": len(self.directions.vectors),
            "method": self.directions.method,
            "report": report.is_file(),
        }

    def image(self, asked: Mapping[str, Any]) -> bytes:
        """Return a PNG of ``asked``, ``{"a": picture, "b": picture, "t": number}``, the last two if there are two.

        Raises:
          UserError: it isn't that.
        """
        if not isinstance(asked, Mapping) or "a" not in asked:
            raise UserError('a request is {"a": picture}, or {"a": picture, "b": picture, "t": number}')
        with self._lock:
            code, label = self._place(asked)
            first = asked
            while "a" in first:
                first = first["a"]
            options: dict[str, Any] = {}
            if "noise_mode" in self._own:
                options["noise_mode"] = _one_of(first.get("noise", "const"), MODES)
            keys = fixed_keys(_seed(first.get("seed", 0)), np.zeros(1, int))
            if self.run.has_mapping:
                made = self.run.synthesis(code[None], keys=keys, **options)
            else:
                made = self.run.generate(code[None], label[None], keys=keys, **options)
            pixels = self.run.gan.pixels.shown(self.run.gan.pixels.whole(made))[0]
        return _png(pixels)

    def _place(self, asked: Any) -> tuple[np.ndarray, np.ndarray]:
        """Code and shares of each class, of a picture or of what lies between two; either may lie between two, too."""
        if not isinstance(asked, Mapping):
            raise UserError(f"a picture is named numbers, as seed and label, not {clipped(repr(asked))}")
        if "a" not in asked:
            return self._code(asked)
        code, label = self._place(asked["a"])
        if asked.get("b") is None:
            return code, label
        other, its = self._place(asked["b"])
        t = _number(asked.get("t", 0.0), "t", 0, 1)
        code = (1 - t) * code + t * other if self.run.has_mapping else np.asarray(_slerp(code, other, t))
        return code, (1 - t) * label + t * its

    def project(self, data: bytes, told: Any, steps: int = STEPS) -> dict[str, Any]:
        """Return the code of an uploaded picture, its label and distance, and the picture as the GAN sees it.

        Args:
          data: of its file.
          told: called now and then with the step and the distance.
          steps: of the search.

        Raises:
          UserError: it is no picture.
        """
        target = projected.from_bytes(self.run, data, "the picture")
        with self._lock:
            found = self.run.project(self.run.gan.pixels.greys(target), steps=steps, told=told)
        return {
            "code": [float(number) for number in found.code],
            "label": found.label,
            "distance": found.distance,
        }

    def _code(self, picture: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """w ``[copies, w_dim]``, or a latent, and shares of each class."""
        run, classes = self.run, max(self.run.gan.classes, 1)
        label = _whole(picture.get("label", 0), "label", classes - 1) if run.gan.classes else 0
        shares = np.eye(classes, dtype=np.float32)[label]
        usual, low = (1.0, 0.0) if self._of_w else (_WHOLE, 0.01)
        psi = _number(picture.get("truncation", usual), "truncation", low, 100)
        shifts = [_number(value, "a shift", -100, 100) for value in picture.get("shifts", [])]
        strengths = {number: value for number, value in enumerate(shifts) if value}
        shift: Any = self.directions.shift(strengths) if strengths else 0
        if picture.get("code") is not None:
            code = np.asarray([_number(value, "a code", -1e6, 1e6) for value in picture["code"]], np.float32)
            if code.shape != (self.run.code_length,):
                raise UserError(f"a code has {self.run.code_length} numbers, not {len(code)}")
            whole = np.tile(code, (len(self._mean), 1)) if run.has_mapping else code
            return whole + shift, shares
        truncated = {"truncation": psi} if self._of_prior and psi < _WHOLE else {}
        z = run.latents(1, seed=_seed(picture.get("seed", 0)), **truncated)
        if not run.has_mapping:
            return np.asarray(z)[0] + shift, shares
        w = np.asarray(run.mapping(z, np.array([label])))[0]
        return (self._mean + psi * (w - self._mean) if self._of_w else w) + shift, shares


_slerp = jax.jit(slerp)


def _number(value: Any, what: str, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise UserError(f"{what} must be a number from {low:g} to {high:g}, not {clipped(repr(value))}")
    return float(value)


def _whole(value: Any, what: str, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= high:
        raise UserError(f"{what} must be a whole number from 0 to {high:,}, not {clipped(repr(value))}")
    return value


def _seed(value: Any) -> int:
    return _whole(value, "a seed", 2**32 - 1)


def _one_of(value: Any, known: tuple[str, ...]) -> str:
    if value not in known:
        raise UserError(f"noise must be {listed(known, between=' or ')}, not {clipped(repr(value))}")
    return str(value)


def _png(pixels: np.ndarray) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(out, "PNG")
    return out.getvalue()


def server(player: Player, host: str, port: int) -> ThreadingHTTPServer:
    """Return a server of the page, which doesn't run yet; its ``server_port`` is the port, also if 0 was asked for.

    Raises:
      UserError: the port is taken, or there is no such host.
    """

    class Handler(_Handler):
        pass

    Handler.player, Handler.local = player, host in LOCAL
    try:
        return _Server((host, port), Handler)
    except OSError as error:
        raise UserError(
            f"cannot serve on {host}:{port}: {error.strerror or error}: give another --port or --host"
        ) from error


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *asked: Any) -> None:
        """Say nothing of pages that were closed."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(*asked)


class _Handler(BaseHTTPRequestHandler):
    """Answers the page."""

    player: Player
    local: bool

    def do_GET(self) -> None:
        """Answer with the page, what it needs to know, or the report."""
        path = urlparse(self.path).path
        if not self._is_ours():
            return
        if path == "/":
            page = resources.files("gan_jax.use").joinpath("play.html").read_bytes()
            self._answer(page, "text/html; charset=utf-8")
        elif path == "/about":
            self._answer(json.dumps(self.player.about()).encode(), "application/json")
        elif path == "/report" and (file := self.player.run.workdir / "report.html").is_file():
            self._answer(file.read_bytes(), "text/html; charset=utf-8")
        else:
            self.send_error(HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        """Answer with a picture, or the code of one."""
        url = urlparse(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        if not self._is_ours():
            return
        if not 0 < length <= _MOST:
            self.close_connection = True
            self._refuse(f"an upload has at most {_MOST // 1_000_000} MB" if length else "nothing was sent")
            return
        data = self.rfile.read(length)
        try:
            if url.path == "/image":
                self._image(data)
            elif url.path == "/project":
                self._project(data, parse_qs(url.query))
            else:
                self.send_error(HTTPStatus.NOT_FOUND)
        except UserError as error:
            self._refuse(str(error))
        except ValueError:
            self._refuse("not understood: send JSON, or a picture to /project")

    def _image(self, data: bytes) -> None:
        begin = time.perf_counter()
        picture = self.player.image(json.loads(data))
        self._answer(picture, "image/png", {"X-Milliseconds": f"{1000 * (time.perf_counter() - begin):.0f}"})

    def _project(self, data: bytes, query: Mapping[str, list[str]]) -> None:
        """Lines of JSON: how far it is, and at the end the code."""
        steps = int(query.get("steps", [str(STEPS)])[0])
        begun = False

        def line(value: Mapping[str, Any]) -> None:
            nonlocal begun
            if not begun:
                self.send_response(HTTPStatus.OK)
                self.send_header("Content-Type", "application/x-ndjson")
                self.end_headers()
                begun = True
            self.wfile.write(json.dumps(value).encode() + b"\n")
            self.wfile.flush()

        def told(step: int, distance: float) -> None:
            line({"step": step, "of": steps, "distance": distance})

        try:
            line(self.player.project(data, told, max(1, min(steps, 5000))))
        except UserError as error:
            if not begun:
                raise
            line({"error": str(error)})

    def _is_ours(self) -> bool:
        """Whether the page itself asks: on this machine alone no other site's page may, by whatever name."""
        host = urlparse(f"//{self.headers.get('Host', '')}").hostname
        origin = self.headers.get("Origin")
        same = origin is None or urlparse(origin).netloc == self.headers.get("Host")
        if same and (not self.local or host in LOCAL):
            return True
        self.send_error(HTTPStatus.FORBIDDEN)
        return False

    def _answer(self, data: bytes, kind: str, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(HTTPStatus.OK)
        for name, value in {
            "Content-Type": kind,
            "Content-Length": str(len(data)),
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _refuse(self, why: str) -> None:
        data = json.dumps({"error": why}).encode()
        self.send_response(HTTPStatus.BAD_REQUEST)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Say nothing of each request."""
