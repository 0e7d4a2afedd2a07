"""The page to play with: what the server answers, whom it answers, and the page itself in a real browser."""

import http.client
import io
import json
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

import gan_jax
from gan_jax.core.state import GANState
from gan_jax.evaluate.sample import slerp
from gan_jax.use import directions, play
from gan_jax.util.errors import UserError

Trained = dict[str, tuple[Path, GANState]]
# The bytes of the picture, once nothing is being drawn.
_SHOWN = """async () => document.body.dataset.drawing || !document.getElementById("picture").src ? null :
    [...new Uint8Array(await (await fetch(document.getElementById("picture").src)).arrayBuffer())]"""
_CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def players(trained: Trained) -> dict[str, play.Player]:
    return {name: play.Player(gan_jax.load(trained[name][0])) for name in ("cgan", "stylegan2", "dcgan")}


@contextmanager
def serving(player: play.Player, host: str = "127.0.0.1") -> Iterator[int]:
    with play.server(player, host, 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


def ask(port: int, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    connection.request(method, path, data, headers)
    answer = connection.getresponse()
    found = answer.status, dict(answer.headers), answer.read()
    connection.close()
    return found


def pixels(png: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image)


def drawn(player: play.Player, **asked: Any) -> np.ndarray:
    found = pixels(player.image(asked))
    return found if player.run.gan.image_shape[-1] == 3 else found[..., None]


def levels(images: Any) -> np.ndarray:
    found: np.ndarray = np.clip(np.asarray(images)[0] * 127.5 + 127.5, 0, 255)
    return found


def test_a_picture_is_the_first_sample_of_its_seed(players: dict[str, play.Player]) -> None:
    of_classes, styled, plain = players["cgan"], players["stylegan2"], players["dcgan"]
    assert_allclose(drawn(plain, a={"seed": 5}), plain.run.sample(1, seed=5)[0], atol=1)
    assert_allclose(
        drawn(of_classes, a={"seed": 5, "label": 7}), of_classes.run.sample(1, seed=5, label="7")[0], atol=1
    )
    for options in ({"noise_mode": "const", "truncation": 0.4}, {"noise_mode": "random"}):
        asked = {"seed": 5, "noise": options["noise_mode"], "truncation": options.get("truncation", 1.0)}
        assert_allclose(drawn(styled, a=asked), styled.run.sample(1, seed=5, **options)[0], atol=1)
    few = plain.run.sample(1, seed=5, truncation=0.5)[0]
    assert_allclose(drawn(plain, a={"seed": 5, "truncation": 0.5}), few, atol=1)
    with pytest.raises(UserError, match="is of another GAN: this one's codes are w of 6 numbers"):
        directions.fitting(plain.run.directions(count=1), styled.run, "x.npz")


def test_between_two_lies_what_the_space_has_there(players: dict[str, play.Player]) -> None:
    styled, of_classes = players["stylegan2"], players["cgan"]
    w = [styled.run.mapping(styled.run.latents(1, seed=seed)) for seed in (1, 2)]
    wanted = levels(styled.run.synthesis(0.75 * w[0] + 0.25 * w[1], seed=1, noise_mode="const"))
    assert_allclose(drawn(styled, a={"seed": 1}, b={"seed": 2}, t=0.25), wanted, atol=1)
    z = [of_classes.run.latents(1, seed=seed)[0] for seed in (1, 2)]
    label = np.zeros(10, np.float32)
    label[3], label[5] = 0.75, 0.25
    wanted = levels(of_classes.run.generate(slerp(z[0], z[1], jnp.float32(0.25))[None], label, seed=1))
    assert_allclose(drawn(of_classes, a={"seed": 1, "label": 3}, b={"seed": 2, "label": 5}, t=0.25), wanted, atol=1)


@pytest.mark.parametrize("name", ["cgan", "stylegan2"])
def test_directions_and_codes_move_it(name: str, players: dict[str, play.Player]) -> None:
    player = players[name]
    shift = player.run.directions().shift({0: 1.5, 1: -1.0})
    options: dict[str, Any] = {"noise_mode": "const"} if player.run.has_mapping else {}
    wanted = levels(player.run.generate(player.run.latents(1, seed=4), seed=4, shift=shift, **options))
    assert_allclose(drawn(player, a={"seed": 4, "shifts": [1.5, -1.0]}), wanted, atol=1)
    length = 6 if player.run.has_mapping else 8
    code = np.linspace(-1, 1, length).astype(np.float32)
    if player.run.has_mapping:
        wanted = levels(player.run.synthesis(np.tile(code, (1, 4, 1)) + shift, noise_mode="const"))
    else:
        wanted = levels(player.run.generate(code[None] + shift))
    assert_allclose(drawn(player, a={"code": code.tolist(), "shifts": [1.5, -1.0]}), wanted, atol=1)


def test_the_server_answers_the_page(players: dict[str, play.Player]) -> None:
    player = players["cgan"]
    with serving(player) as port:
        status, headers, page = ask(port, "GET", "/")
        assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert b"<title>gan_jax</title>" in page
        about = json.loads(ask(port, "GET", "/about")[2])
        assert (about["model"], about["step"], about["space"], len(about["classes"])) == ("dcgan", 0, "z", 10)
        assert (about["directions"], about["noise"], about["report"]) == (8, [], False)
        status, headers, png = ask(port, "POST", "/image", {"a": {"seed": 3, "label": 2}})
        assert (status, headers["Content-Type"], headers["Cache-Control"]) == (200, "image/png", "no-store")
        assert_array_equal(pixels(png)[..., None], drawn(player, a={"seed": 3, "label": 2}))
        status, _, lines = ask(port, "POST", "/project?steps=3", png)
        said = [json.loads(line) for line in lines.splitlines()]
        assert [line.get("step") for line in said] == [1, 2, 3, None]
        assert len(said[-1]["code"]) == 8
        assert ask(port, "GET", "/report")[0] == ask(port, "GET", "/etc/passwd")[0] == 404
        wrong: dict[str, tuple[str, Any]] = {
            "a seed must be a whole number from 0 to 4,294,967,295, not -1": ("/image", {"a": {"seed": -1}}),
            "a seed must be a whole number from 0 to 4,294,967,295, not 3.7": ("/image", {"a": {"seed": 3.7}}),
            "truncation must be a number from 0.01 to 100, not 0": ("/image", {"a": {"truncation": 0}}),
            "a picture is named numbers, as seed and label, not None": ("/image", {"a": None}),
            "nothing was sent": ("/project", b""),
            "label must be a whole number from 0 to 9, not 10": ("/image", {"a": {"label": 10}}),
            "a code has 8 numbers, not 2": ("/image", {"a": {"code": [1, 2]}}),
            "there is no direction 8: there are 8": ("/image", {"a": {"shifts": [0] * 8 + [1]}}),
            "t must be a number from 0 to 1, not 'x'": ("/image", {"a": {}, "b": {"seed": 1}, "t": "x"}),
            'a request is {"a": picture}': ("/image", {}),
            "not understood: send JSON": ("/image", b"{"),
            "cannot read the picture: not a PNG": ("/project", b"no picture"),
        }
        for message, (path, body) in wrong.items():
            status, _, answer = ask(port, "POST", path, body)
            assert status == 400
            assert message in json.loads(answer)["error"]


def test_on_this_machine_alone_no_other_page_is_answered(players: dict[str, play.Player]) -> None:
    with serving(players["dcgan"]) as port:
        own = f"127.0.0.1:{port}"
        for headers, status in (
            ({"Host": "evil.example"}, 403),
            ({"Host": own, "Origin": "http://evil.example"}, 403),
            ({"Host": own, "Origin": f"http://{own}"}, 200),
            ({"Host": f"localhost:{port}"}, 200),
        ):
            assert ask(port, "POST", "/image", {"a": {}}, **headers)[0] == status
        assert ask(port, "POST", "/image", b"", **{"Content-Length": "99999999999"})[0] == 400
        with pytest.raises(
            UserError, match=rf"cannot serve on 127\.0\.0\.1:{port}: .* in use: give another --port or --host"
        ):
            play.server(players["dcgan"], "127.0.0.1", port)


@pytest.mark.skipif(_CHROMIUM is None, reason="needs a Chromium")
@pytest.mark.parametrize(("width", "height"), [(1200, 900), (390, 844)])
def test_the_page_in_a_browser(width: int, height: int, players: dict[str, play.Player], tmp_path: Path) -> None:
    """Every control once, in headless Chromium, as wide as a desk's screen and a phone's."""
    api = pytest.importorskip("playwright.sync_api")
    player = players["cgan"]
    with serving(player) as port, api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": height})
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)

        def shown(**asked: Any) -> None:
            """The page comes to show just that."""
            wanted, end = player.image(asked), time.monotonic() + 60
            while bytes(page.evaluate(_SHOWN) or []) != wanted:
                assert time.monotonic() < end, f"the page never shows {asked}"
                page.wait_for_timeout(50)

        page.goto(f"http://127.0.0.1:{port}")
        none = [0.0] * 8
        first = {"seed": 0, "label": 0, "truncation": 3, "shifts": none}
        shown(a=first)
        assert page.text_content("#said").startswith("drawn in ")
        page.fill("#seed", "7")
        page.select_option("#label", "4")
        second = {**first, "seed": 7, "label": 4}
        shown(a=second)
        page.locator("#truncation").fill("0.5")
        shown(a={**second, "truncation": 0.5})
        page.locator("#directions input").nth(1).fill("2")
        shown(a={**second, "truncation": 0.5, "shifts": [0, 2, *[0] * 6]})
        page.click("#reset")
        shown(a=second)
        page.locator("#mix").fill("0.3")
        shown(a=second, b={**second, "seed": 1}, t=0.3)
        page.locator("#mix").fill("0")
        page.click("#keep")
        page.wait_for_selector("#shelf img")
        page.fill("#seed", "9")
        shown(a={**second, "seed": 9})
        page.click("#keep")
        page.locator("#between").fill("0.5")
        shown(a={"a": second}, b={"a": {**second, "seed": 9}}, t=0.5)
        page.locator("#mix").fill("0.3")  # and what is mixed is kept so
        mixed = {"a": {**second, "seed": 9}, "b": {**second, "seed": 1}, "t": 0.3}
        shown(**mixed)
        page.click("#keep")
        page.locator("#between").fill("1")
        shown(a=mixed)
        page.locator("#shelf img").nth(0).click()
        page.locator("#shelf img").nth(1).click()
        page.locator("#between").fill("0.5")
        shown(a=second, b={**second, "seed": 9}, t=0.5)
        with page.expect_download() as download:
            page.click("#download")
        download.value.save_as(tmp_path / "got.png")
        assert (tmp_path / "got.png").read_bytes() == player.image({"a": second, "b": {**second, "seed": 9}, "t": 0.5})
        page.set_input_files("#file", tmp_path / "got.png")
        ended = "document.getElementById('progress').hidden && !document.getElementById('file').value"
        page.wait_for_function(ended, timeout=120_000)  # 300 steps, 10 a second on a slow machine
        page.wait_for_function("document.getElementById('said').textContent.startsWith('drawn in')", timeout=120_000)
        assert page.evaluate("code.length") == 8
        page.set_input_files("#file", [{"name": "x.png", "mimeType": "image/png", "buffer": b"no picture"}])
        page.wait_for_selector("#said.bad")
        assert "cannot read the picture" in page.text_content("#said")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.screenshot(path=str(tmp_path / "page.png"), full_page=True)
        browser.close()
        assert not [error for error in errors if "400" not in error]
