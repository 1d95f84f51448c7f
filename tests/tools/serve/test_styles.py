"""Deltas of a served bundle, which requests choose by `model`."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from mochi_aot.tools.commands.serve import main
from tests.runtime import toy_bundle
from tests.tools.serve.servers import SIZE, by_mochi_run, served

WORDS = ["--prompt", "a red fox", "--steps", "2", "--seed", "5", "--geometry", "16x16x7"]


@pytest.mark.slow
def test_each_job_is_made_in_its_style(bundle: Path, tmp_path: Path) -> None:
    """Bit for bit as mochi-run makes it, whichever style the last job had; the bundle's own where none is asked for."""
    styles = {None: [], "toy": [], "bright": ["--delta", str(tmp_path / "bright")]}
    styles["dim"] = ["--delta", str(tmp_path / "dim")]
    toy_bundle.write_brighter(tmp_path / "bright", bundle, 2.0)
    toy_bundle.write_brighter(tmp_path / "dim", bundle, -1.0)
    expected = {name: by_mochi_run(bundle, tmp_path, *WORDS, *words)[0] for name, words in styles.items()}
    assert len(set(expected.values())) == 3
    options = ["--delta", f"bright={tmp_path / 'bright'}", "--delta", f"dim={tmp_path / 'dim'}"]
    with served(bundle, tmp_path / "state", *options) as server:
        body = {"prompt": "a red fox", "num_inference_steps": 2, "seed": 5, **SIZE}
        asked = []
        for name in ("bright", "dim", None, "bright", "toy", "toy", "dim"):
            job = server.ask("POST", "/v1/videos", body | ({} if name is None else {"model": name})).json
            asked.append((job["id"], name))
            assert job["model"] == (name or "toy")
        for job_id, name in asked:
            server.wait(job_id, "completed")
            assert server.ask("GET", f"/v1/videos/{job_id}/content").body == expected[name], name
        refused = server.ask("POST", "/v1/videos", body | {"model": "other"})
        assert refused.json["error"]["message"] == "there is no model 'other'; this server has toy, bright, dim"
        assert [model["id"] for model in server.ask("GET", "/v1/models").json["data"]] == ["toy", "bright", "dim"]


def test_what_is_no_delta_of_the_bundle_is_told_at_the_start(bundle: Path, tmp_path: Path) -> None:
    for words, code, message in [
        (["--delta", f"x={tmp_path}"], 3, "has no delta.msgpack; expected a delta"),
        (["--delta", "x"], 2, "'x' is not NAME=PATH"),
        (["--delta", f"toy={tmp_path}"], 2, "two bundles or deltas are called 'toy'"),
    ]:
        done = CliRunner().invoke(main, [str(bundle), "--state", str(tmp_path / "state"), "--port", "0", *words])
        assert done.exit_code == code and message in done.stderr, done.stderr
