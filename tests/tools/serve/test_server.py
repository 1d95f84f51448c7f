"""The real server in a process of its own, asked by real clients, and killed."""

import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from openai.types import Video, VideoDeleteResponse

from mochi_aot.runtime.backend import KernelUse
from mochi_aot.runtime.pipeline import Usage
from mochi_aot.tools.serve.metrics import Metrics
from tests.runtime import toy_bundle
from tests.tools.serve.burst import burst
from tests.tools.serve.servers import PATIENCE, SIZE, Server, by_mochi_run, served


@pytest.fixture(scope="module")
def server(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with served(bundle, tmp_path_factory.mktemp("server") / "state", "--max-queue", "3") as server:
        yield server


def test_a_video_by_the_openai_package(server: Server, bundle: Path, tmp_path: Path) -> None:
    """Bit for bit what mochi-run makes, and the same record but for the file's name and how long it took."""
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    more = {"seed": 7, "num_inference_steps": 4, "negative_prompt": "blurry", "guidance_scale": 4.5, "fps": 10}
    video = client.videos.create(prompt="a red fox", model="toy", size="16x16", extra_body=more)  # type: ignore[call-overload]
    assert (video.object, video.model, video.size, video.prompt) == ("video", "toy", "16x16", "a red fox")
    video = client.videos.poll(video.id)
    assert (video.status, video.progress, video.seconds, video.error) == ("completed", 100, "0.7", None)
    served_video = client.videos.download_content(video.id).read()
    words = ["--prompt", "a red fox", "--negative-prompt", "blurry", "--steps", "4", "--seed", "7"]
    words += ["--guidance-scale", "4.5", "--fps", "10", "--geometry", "16x16x7"]
    expected, record = by_mochi_run(bundle, tmp_path, *words)
    assert served_video == expected
    found = server.ask("GET", f"/v1/videos/{video.id}/record").json
    assert found["arguments"].pop("output") == f"{video.id}.mp4" and record["arguments"].pop("output")
    assert found.pop("seconds").keys() and record.pop("seconds")
    assert found == record
    assert video.id in [item.id for item in client.videos.list(limit=2)]
    part = server.ask("GET", f"/v1/videos/{video.id}/content", Range="bytes=4-7")
    assert (part.status, part.body) == (206, b"ftyp")
    assert client.videos.delete(video.id).deleted
    with pytest.raises(openai.NotFoundError, match="there is no video"):
        client.videos.retrieve(video.id)
    assert list(server.state.joinpath("videos").glob(f"{video.id}*")) == []


def test_errors_in_the_form_of_openai(server: Server) -> None:
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    with pytest.raises(openai.BadRequestError, match="this model makes 32x16 with 13 frames") as refused:
        client.videos.create(prompt="fox", size="1280x720")
    assert refused.value.param == "size" and refused.value.type == "invalid_request_error"
    with pytest.raises(openai.NotFoundError, match="there is no model 'sora-2'; this server has toy"):
        client.videos.create(prompt="fox", model="sora-2")
    with pytest.raises(openai.BadRequestError, match="'input_reference' is a file, and none is taken here"):
        client.videos.create(prompt="fox", input_reference=b"\x89PNG")


def test_a_video_as_the_media_server_makes_it(server: Server) -> None:
    """Requests and answers by the fields that the public server of that dialect has."""
    body = {"prompt": "a red fox", "negative_prompt": "", "num_inference_steps": 3, "seed": 1, "aspect_ratio": "16:9"}
    accepted = server.ask("POST", "/v1/videos/generations", body)
    assert accepted.status == 202
    job = accepted.json
    asked = {"prompt": "a red fox", "negative_prompt": "", "num_inference_steps": 3, "seed": 1}
    assert job.items() >= {"job_type": "video", "status": "queued", "model": "toy", "request_parameters": asked}.items()
    done = server.wait(job["id"], "completed", "failed")
    assert done["status"] == "completed" and done["completed_at"] >= done["created_at"]
    video = server.ask("GET", f"/v1/videos/generations/{job['id']}/download")
    assert video.headers["content-type"] == "video/mp4" and video.body[4:8] == b"ftyp"
    assert job["id"] in [item["id"] for item in server.ask("GET", "/v1/videos/jobs").json]
    assert server.ask("GET", "/tt-liveness").json.items() >= {"status": "alive", "model_ready": True}.items()
    absent = server.ask("GET", "/v1/videos/generations/none")
    assert absent.status == 404 and "there is no video 'none'" in absent.json["detail"]
    wrong = server.ask("POST", "/v1/videos/generations", {"prompt": 7})
    assert wrong.status == 422 and wrong.json["detail"][0]["loc"] == ["body", "prompt"]


def test_answers_have_the_fields_of_the_openai_package(server: Server) -> None:
    """No field more or less than its types have; `size` and `model` apart, of which OpenAI knows its own only."""
    asked = server.ask("POST", "/v1/videos", {"prompt": "a red fox", "num_inference_steps": 2, "size": "16x16"}).json
    server.wait(asked["id"], "completed")
    done = server.ask("GET", f"/v1/videos/{asked['id']}").json
    for answer in (asked, done):
        assert answer.keys() == Video.model_fields.keys()
        Video.model_validate({**answer, "size": "720x1280"}, strict=True)
    failed = server.ask("GET", "/v1/videos/none").json["error"]
    assert failed.keys() == {"message", "type", "param", "code"}
    listed = server.ask("GET", "/v1/videos?limit=1&order=asc").json
    assert listed.keys() == {"object", "data", "first_id", "last_id", "has_more"}
    VideoDeleteResponse.model_validate(server.ask("DELETE", f"/v1/videos/{asked['id']}").json, strict=True)


def test_the_form_of_vllm_omni(server: Server) -> None:
    """The request of its documentation's quick start, sizes apart: a multipart form of texts."""
    fields = {"prompt": "A cinematic tracking shot", "width": "16", "height": "16", "num_frames": "7", "fps": "16"}
    fields |= {"num_inference_steps": "2", "negative_prompt": "blurry", "guidance_scale": "4.0", "seed": "42"}
    parts = [f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n' for name, text in fields.items()]
    kind = "multipart/form-data; boundary=x"
    job = server.ask("POST", "/v1/videos", f"{''.join(parts)}--x--\r\n".encode(), Content_Type=kind)
    assert job.status == 200 and (job.json["size"], job.json["seconds"]) == ("16x16", "0.44")
    server.wait(job.json["id"], "completed")
    content = server.ask("GET", f"/v1/videos/{job.json['id']}/content")
    assert (content.headers["content-type"], content.body[4:8]) == ("video/mp4", b"ftyp")
    assert server.ask("DELETE", f"/v1/videos/{job.json['id']}").status == 200
    refused = server.ask(
        "POST", "/v1/videos", {"prompt": "fox", "flow_shift": 5.0}
    )  # of its fields, one without effect
    assert refused.status == 400 and refused.json["error"]["param"] == "flow_shift"


def test_what_tt_studio_sends(server: Server) -> None:
    """Its backend's three requests: a bearer token, empty without a key; a prompt, perhaps with seed and steps."""
    token = {"Authorization": "Bearer ", "Accept": "*/*", "User_Agent": "python-requests/2.32.3"}
    first = server.ask("POST", "/v1/videos/generations", {"prompt": "a red fox"}, **token)
    more = {"prompt": "a red fox", "seed": 3, "num_inference_steps": 2}
    second = server.ask("POST", "/v1/videos/generations", more, **token)
    assert (first.status, second.status) == (202, 202)  # 200 would be the video itself
    assert "application/json" in second.headers["content-type"]
    name = second.json.get("job_id") or second.json.get("id")  # as the studio looks for it
    assert server.wait(name, "completed", "failed")["status"] == "completed"
    polled = server.ask("GET", f"/v1/videos/generations/{name}", **token)
    assert polled.json["status"] == "completed"
    video = server.ask("GET", f"/v1/videos/generations/{name}/download", **token)
    assert (video.headers["content-type"], video.body[4:8]) == ("video/mp4", b"ftyp")


def test_a_job_has_the_fields_of_the_media_server(server: Server) -> None:
    """Those of its `Job.to_public_dict`, in each status, by name and type."""
    always = {"id": str, "job_type": str, "status": str, "created_at": int, "model": str, "request_parameters": dict}
    ended, body = always | {"completed_at": int}, {"prompt": "a red fox", "num_inference_steps": 1000, "seed": 1}
    running = server.ask("POST", "/v1/videos/generations", body).json
    server.wait(running["id"], "in_progress")
    waiting = server.ask("POST", "/v1/videos/generations", body).json
    cancelled = server.ask("POST", f"/v1/videos/generations/{waiting['id']}/cancel").json
    assert (waiting["status"], cancelled["status"]) == ("queued", "cancelled")
    cancelling = server.ask("POST", f"/v1/videos/generations/{running['id']}/cancel").json
    stopped = server.wait(running["id"], "cancelled")
    for job, fields in (
        (running, always),
        (waiting, always),
        (cancelling, always),
        (cancelled, ended),
        (stopped, ended),
    ):
        assert {name: type(value) for name, value in job.items()} == fields
        assert job["request_parameters"].items() >= body.items()
    absent = server.ask("GET", "/v1/videos/generations/none/download")
    assert absent.status == 404 and isinstance(absent.json["detail"], str)


def test_a_full_queue_events_and_cancelling(server: Server) -> None:
    """Long jobs: one runs, three wait, and the fifth is told when to come again."""
    body = {"prompt": "a red fox", "num_inference_steps": 1000, "seed": 1}
    first = server.ask("POST", "/v1/videos", body).json
    server.wait(first["id"], "in_progress")
    waiting = [server.ask("POST", "/v1/videos", body).json["id"] for _ in range(3)]
    full = server.ask("POST", "/v1/videos", body)
    assert full.status == 429 and int(full.headers["retry-after"]) >= 1
    assert full.json["error"]["message"] == "the queue is full: 3 jobs wait"
    assert b"mochi_queue_length 3.0" in server.ask("GET", "/metrics").body
    stopped = [server.ask("POST", f"/v1/videos/generations/{name}/cancel").json["status"] for name in waiting]
    assert stopped == ["cancelled"] * 3
    assert server.ask("POST", f"/v1/videos/generations/{first['id']}/cancel").json["status"] == "cancelling"
    stream = server.ask("GET", f"/v1/videos/{first['id']}/events").body.decode()
    last = json.loads([line for line in stream.splitlines() if line.startswith("data: ")][-1].removeprefix("data: "))
    assert (last["id"], last["status"], last["steps"]) == (first["id"], "cancelled", 1000)
    assert server.ask("POST", f"/v1/videos/generations/{first['id']}/cancel").status == 404
    shown = server.ask("GET", f"/v1/videos/{first['id']}").json
    assert (shown["status"], shown["error"]["code"]) == ("failed", "cancelled")


def test_several_bundles_are_chosen_by_model(bundle: Path, tmp_path: Path) -> None:
    """The first one is meant without a name; the media server's dialect has no name for another one."""
    with served(bundle, tmp_path / "state", "--name", "first", "--bundle", f"second={bundle}") as server:
        names = [model["id"] for model in server.ask("GET", "/v1/models").json["data"]]
        assert names == ["first", "second"]
        body = {"prompt": "a red fox", "num_inference_steps": 2, "seed": 1}
        jobs = {model: server.ask("POST", "/v1/videos", {**body, "model": model}).json for model in (None, *names)}
        assert [job["model"] for job in jobs.values()] == ["first", "first", "second"]
        for job in jobs.values():
            assert server.wait(job["id"], "completed", "failed")["model"] == job["model"]
        videos = {server.ask("GET", f"/v1/videos/{job['id']}/content").body for job in jobs.values()}
        assert len(videos) == 1 and videos.pop()[4:8] == b"ftyp"
        ready = server.ask("GET", "/tt-liveness").json["worker_info"]
        assert ready == {"first": {"is_ready": True}, "second": {"is_ready": True}}
        assert server.ask("POST", "/v1/videos", {**body, "model": "third"}).status == 404


def test_the_metrics_are_of_what_happened(server: Server, bundle: Path) -> None:
    name = server.ask("POST", "/v1/videos", {"prompt": "fox", "num_inference_steps": 3, **SIZE}).json["id"]
    before = values(server)
    server.wait(name, "completed")
    server.ask("GET", f"/v1/videos/{name}/events")
    after = values(server)
    ended = 'mochi_jobs_ended_total{status="completed"}'
    assert after[ended] >= before.get(ended, 0) and after["mochi_step_seconds_count"] >= 3
    assert after['mochi_loads_total{model="toy"}'] == 1 and after["mochi_ready"] == 1
    read = after['mochi_weight_bytes_read_total{model="toy"}']
    weights = sum(array.nbytes for array in toy_bundle.WEIGHTS.values())
    most = sum(path.stat().st_size for path in (bundle / "weights").iterdir())  # each job and the warm-up reads it
    assert weights <= read <= most * (1 + after["mochi_jobs_accepted_total"])
    whole_pages = sum(-(-path.stat().st_size // 4096) * 4096 for path in (bundle / "weights").iterdir())
    from_disk = after['mochi_weight_bytes_from_disk_total{model="toy"}']
    assert from_disk <= whole_pages * (1 + after["mochi_jobs_accepted_total"])


def values(server: Server) -> dict[str, float]:
    lines = server.ask("GET", "/metrics").body.decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")}


def test_kernels_are_counted() -> None:
    metrics = Metrics(lambda: 0)
    for _ in range(2):
        metrics.used("m", Usage(10, 4, KernelUse(found=3, built=2)))
    page = metrics.page().decode()
    for line in ('kernels_total{how="found",model="m"} 6.0', 'kernels_total{how="built",model="m"} 4.0'):
        assert f"mochi_{line}" in page
    assert 'mochi_weight_bytes_read_total{model="m"} 20.0' in page


HOSTILE = [
    b"", b"{", b"null", b"[1]", b"[" * 100_000, b'{"prompt": NaN}', b"\xff\xfe", b'{"seed": ' + b"9" * 5000 + b"}",
    b'{"prompt": "\\ud800"}', b'{"prompt": "a\\u0000b"}', b'{"prompt": "fox", "size": "../../x"}',
    b'{"prompt": "fox", "output": "/etc/passwd"}', b'{"prompt": "fox", "\\ud800": 1}', b'{"prompt": {"a": []}}',
    b'{"prompt": "fox", "model": "%s%n{0}"}', b'{"prompt": "fox", "fps": 1e400}',
]  # fmt: skip


@pytest.mark.parametrize("path", ["/v1/videos", "/v1/videos/generations"])
def test_hostile_bodies_are_refused(path: str, server: Server) -> None:
    for body in HOSTILE:
        answer = server.ask("POST", path, body)
        ignored = path.endswith("generations") and answer.status == 202  # fields that this dialect leaves out
        assert answer.status in (400, 404, 422) or ignored, (body[:60], answer)
        assert b"Traceback" not in answer.body and answer.json
        if ignored:
            server.ask("DELETE", f"{path}/{answer.json['id']}")
    for kind in ("multipart/form-data", "multipart/form-data; boundary=x", "text/plain"):
        assert server.ask("POST", "/v1/videos", b"--x\r\n\xff", Content_Type=kind).status == 400
    assert server.ask("POST", path, b" " * 300_000).status == 413
    for name in ("..%2f..%2fjobs.sqlite3", "%00", "a" * 5000, "%ff", "jobs.sqlite3"):
        assert server.ask("GET", f"{path}/{name}").status == 404
    assert server.ask("PATCH", path).status == 405


def test_a_body_that_never_ends_keeps_nobody_waiting(server: Server) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    head = b"POST /v1/videos HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{"
    with socket.create_connection((host, int(port))) as slow:
        slow.sendall(head)
        assert server.ask("GET", "/health").status == 200
    assert server.ask("GET", "/health").status == 200


def test_a_crowd(server: Server) -> None:
    """More at once than the queue takes, slow readers, bodies that never end, connections that are cut."""
    seen = burst(server, SIZE, requests=100, slow=5, endless=10, cut=20)
    assert seen.statuses.total() == 125 and set(seen.statuses) == {"200", "429", "slow", "cut"}
    assert len(seen.accepted) == seen.statuses["200"] >= 3 and seen.probes
    assert seen.peak < seen.before + 100e6  # 1,000 requests and as many bad clients took 13 MB


def test_the_description_names_every_path(server: Server) -> None:
    described = server.ask("GET", "/openapi.json").json["paths"]
    assert described["/v1/videos"]["post"]["requestBody"]["content"].keys() == {
        "application/json",
        "multipart/form-data",
    }
    for path, operations in described.items():
        for method in operations:
            asked = server.ask(method.upper(), path.replace("{id}", "none"), b"{}" if method == "post" else None)
            assert asked.status not in (405, 500) and b"no such path" not in asked.body, (method, path)


@pytest.mark.slow
def test_killed_again_and_again_no_job_is_lost(bundle: Path, tmp_path: Path) -> None:
    """SIGKILL while jobs wait and one runs, then SIGTERM, which puts it back; the videos are mochi-run's."""
    state, body = tmp_path / "state", {"prompt": "a red fox", "num_inference_steps": 200, **SIZE}
    with served(bundle, state) as server:
        names = [server.ask("POST", "/v1/videos", {**body, "seed": seed}).json["id"] for seed in range(5)]
        server.wait(names[1], "in_progress")
        server.process.kill()
        server.process.wait()
    with served(bundle, state) as server:
        server.wait(names[2], "in_progress", "completed")
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(PATIENCE) == 143
    with served(bundle, state) as server:
        for seed, name in enumerate(names):
            assert server.wait(name, "completed", "failed")["status"] == "completed"
            words = ["--prompt", "a red fox", "--steps", "200", "--seed", str(seed), "--geometry", "16x16x7"]
            assert server.ask("GET", f"/v1/videos/{name}/content").body == by_mochi_run(bundle, tmp_path, *words)[0]
        files = {f"{name}{suffix}" for name in names for suffix in (".mp4", ".json")}
        assert {path.name for path in state.joinpath("videos").iterdir()} == files
    log = (tmp_path / "state.log").read_text()
    assert "Traceback" not in log and any(json.loads(line).get("job") == names[0] for line in log.splitlines())
