"""The page of a bundle: what it says against the manifest, what hostile strings do to it, and in a browser."""

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner

from mochi_aot.artifacts.reader import Bundle
from mochi_aot.compiler.checkpoint import Checkpoint
from mochi_aot.compiler.compile import compile_bundle
from mochi_aot.compiler.job import Job
from mochi_aot.compiler.rebuilt import Rebuilder
from mochi_aot.compiler.reference.geometry import Geometry
from mochi_aot.tools.commands.inspect import main
from mochi_aot.tools.page.contents import Contents, read_contents
from mochi_aot.tools.page.cuts import alike
from mochi_aot.tools.page.markup import VOID
from mochi_aot.tools.page.modelled import Modelled, model
from mochi_aot.tools.page.page import page
from tests.artifacts import samples

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
HOSTILE = "\"><script>alert(1)</script><img src=x onerror=alert(2)>'\x1b[2J\ud800"


class Reader(HTMLParser):
    """Collects elements, the text of cells, and what does not nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str | None]] = []
        self.ids: list[str] = []
        self.rows: list[list[str]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += attrs
        self.ids += [value for name, value in attrs if name == "id" and value]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "title"} & set(self.open):
            self.text.append(data)
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory, tiny_checkpoint: Checkpoint) -> Bundle:
    path = tmp_path_factory.mktemp("page") / "tiny.bundle"
    compile_bundle(tiny_checkpoint, Job((1, 2), (Geometry(16, 32, 7),), dtype="float32", with_encoder=True), path)
    return Bundle.open(path)


@pytest.fixture(scope="module")
def contents(bundle: Bundle) -> Contents:
    return read_contents(bundle)


@pytest.fixture(scope="module")
def modelled(contents: Contents) -> Modelled:
    """Of a bundle whose encoder lacks an instruction that this compiler makes."""
    sized = contents.sizes[0]
    encode = sized.programs["encode"]
    other = replace(encode, instructions=encode.instructions[:-1])
    changed = replace(sized, programs={**sized.programs, "encode": other})
    return model(replace(contents, sizes=[changed]), explain=True)


@pytest.fixture(scope="module")
def html(contents: Contents, modelled: Modelled) -> str:
    return page(contents, modelled)


def test_the_page_is_well_formed_and_needs_nothing_else(html: str) -> None:
    reader = Reader(html)
    assert len(reader.ids) == len(set(reader.ids))
    assert not {"script", "link", "img", "iframe", "style_"} & set(reader.tags) and reader.tags["style"] == 1
    links = [value or "" for name, value in reader.attributes if name in ("href", "src", "xlink:href")]
    assert {link[1:] for link in links if link.startswith("#")} == {link[1:] for link in links} <= set(reader.ids)
    assert not re.search(r"url\(|@import|https?:", html)


def test_the_numbers_of_each_program_are_the_manifests(html: str, contents: Contents, bundle: Bundle) -> None:
    """Instructions by op, read from the file again and counted here; each program's section has them and no others."""
    geometry = bundle.manifest.geometries[0]
    articles = re.findall(r"<article>.*?</article>", html, flags=re.DOTALL)
    assert len(articles) == len(geometry.programs)
    for role, article in zip(contents.sizes[0].programs, articles, strict=True):
        program = bundle.program(role, geometry)
        rows = {row[0]: row[1] for row in Reader(article).rows if len(row) == 2}
        del rows["op"]
        counted = Counter(instruction.op for instruction in program.instructions)
        assert rows == {op: f"{count:,}" for op, count in counted.items()}
        assert f"<b>{len(program.instructions):,}</b><span>instructions" in article
        for op, count in program.stats.collectives.items():
            assert f"{op} x {count}" in article


def test_every_weight_is_counted_once(html: str, bundle: Bundle) -> None:
    rows = [row for row in Reader(html).rows if len(row) == 8]
    assert sum(int(row[1].replace(",", "")) for row in rows[1:]) == len(bundle.manifest.weights)


def test_cuts_are_those_of_the_shards(bundle: Bundle) -> None:
    """Devices that hold the same piece by the name hold the same shard, and a cut weight's pieces are others: seeded
    numbers do not repeat, but for what is one value all over."""
    cut = 0
    for weight in bundle.manifest.weights:
        (group,) = alike(replace(bundle.manifest, weights=[weight]))
        left, right = weight.shards
        if group.pattern.pieces == (0, 0):
            assert left == right, weight.name
        else:
            cut += left != right
    assert cut > 1


def test_modelled_sums_are_those_of_the_bundle(contents: Contents, modelled: Modelled) -> None:
    assert set(modelled.programs) == set(contents.sizes[0].programs) - {"encode"}
    for role, made in modelled.programs.items():
        program = contents.sizes[0].programs[role]
        assert sum(kind.ops for kind in made.kinds) == len(program.instructions)
        assert sum(kind.sent_bytes for kind in made.kinds) == program.stats.collective_bytes
        assert len(made.memory) == len(program.instructions) + 1
        assert min(made.memory) >= program.stats.weight_bytes


def test_every_plan_considered_is_there(html: str, modelled: Modelled) -> None:
    assert modelled.explanation is not None
    firsts = [row[0] for row in Reader(html).rows if len(row) == 6 and row[0] != "plan"]
    assert [c.plan.name for c in modelled.explanation.choice.candidates if c.plan.name not in firsts] == []


def test_inspect_explains_in_text_and_json(bundle: Bundle, modelled: Modelled, monkeypatch: pytest.MonkeyPatch) -> None:
    """The plans that are chosen there are those that the compile chose, whose names are in the bundle's programs."""
    monkeypatch.setattr(Rebuilder, "__init__", lambda *_: None)
    monkeypatch.setattr(Rebuilder, "explain", lambda _: modelled.explanation)
    (sized,) = bundle.manifest.geometries
    compiled = {role: bundle.program(role, sized).plan for role in sized.programs}
    plain = CliRunner().invoke(main, [str(bundle.path)]).stdout
    text = CliRunner().invoke(main, [str(bundle.path), "--explain"])
    assert text.exit_code == 0 and text.stdout.startswith(plain.rstrip("\n") + "\n\nprogram ")
    lines = text.stdout[len(plain) :].splitlines()
    chosen = {line.split()[0]: line.split()[1] for line in lines if line.endswith(" chosen")}
    assert chosen and all(compiled[role] == plan for role, plan in chosen.items())
    told = json.loads(CliRunner().invoke(main, [str(bundle.path), "--explain", "--json"]).stdout)
    considered = told.pop("considered")
    assert told == json.loads(CliRunner().invoke(main, [str(bundle.path), "--json"]).stdout)
    picked = {role: plan["plan"] for plan in considered["plans"] if plan["chosen"] for role in plan["programs"]}
    assert picked == compiled
    assert considered["mesh"] == bundle.manifest.mesh and considered["target"] == "torch"


def test_a_hostile_bundle_is_text(contents: Contents) -> None:
    manifest = contents.manifest
    weight = replace(manifest.weights[0], name=HOSTILE)
    program = contents.sizes[0].programs["denoise"]
    told = replace(program.instructions[0], op=HOSTILE)
    named = {"denoise": replace(program, plan=HOSTILE, instructions=[told])}
    hostile = Contents(
        HOSTILE,
        HOSTILE,
        replace(manifest, weights=[weight], created_by=HOSTILE, versions={HOSTILE: HOSTILE}, model={HOSTILE: HOSTILE}),
        [replace(contents.sizes[0], programs=named)],
        [HOSTILE],
    )
    reader = Reader(page(hostile, Modelled(reasons=[HOSTILE])))
    assert not {"script", "img"} & set(reader.tags)
    assert not any(name.startswith("on") for name, _ in reader.attributes)
    text = "".join(reader.text)
    assert text.count("<script>alert(1)</script>") >= 9
    assert "\x1b" not in text and "\\x1b[2J\\ud800" in text
    text.encode()


def test_sizes_that_no_model_has_are_a_reason(contents: Contents) -> None:
    manifest = contents.manifest
    sizes = manifest.model["dit"]
    assert isinstance(sizes, dict)
    for field, value in (("layers", 10**9), ("heads", 0), ("heads", "many"), ("head_dim", True)):
        model_sizes = {**manifest.model, "dit": {**sizes, field: value}}
        made = model(replace(contents, manifest=replace(manifest, model=model_sizes)), explain=False)
        assert made.programs == {} and "configuration has" in made.reasons[0]


def test_a_program_of_another_compiler_is_told(html: str, modelled: Modelled) -> None:
    (reason,) = modelled.reasons
    assert reason.startswith("encode: this compiler makes other instructions")
    assert reason in "".join(Reader(html).text)


def test_without_the_compiler_the_page_says_so(tmp_path: Path) -> None:
    samples.write_bundle(tmp_path / "sample.bundle")
    script = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'mochi_aot.compiler'): sys.modules[name] = None\n"
        "from mochi_aot.tools.commands.inspect import main\n"
        "main()\n"
    )
    out = tmp_path / "page.html"
    command = [sys.executable, "-c", script, str(tmp_path / "sample.bundle"), "--html", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"{out}: ")
    assert " is not installed here" in "".join(Reader(out.read_text()).text)


def test_the_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    samples.write_bundle(tmp_path / "sample.bundle")
    (tmp_path / "out").mkdir()
    result = CliRunner().invoke(main, [str(tmp_path / "sample.bundle"), "--html", str(tmp_path / "none" / "page.html")])
    assert result.exit_code == 2 and "none does not exist" in result.stderr
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here to look at the page with")
@pytest.mark.parametrize("width", [400, 1280])
def test_in_a_browser_nothing_overflows_or_is_reported(html: str, tmp_path: Path, width: int) -> None:
    """The page in a frame of this width, since a window has a least width; a script beside it measures, and shows."""
    assert CHROMIUM is not None
    # The policy forbids the page to be in a frame of an opaque origin no more than anything else: it is inlined.
    tell = "<script>document.title=JSON.stringify([innerWidth,document.documentElement.scrollWidth])</script>"
    policy = re.compile(r'<meta http-equiv="Content-Security-Policy"[^>]*>')
    assert policy.search(html)
    inner = policy.sub("", html).replace("</body>", f"{tell}</body>")
    (tmp_path / "inner.html").write_text(inner)
    style = f"border:0;width:{width}px;height:900px"
    outer = f'<body style="margin:0"><iframe id=f src="inner.html" style="{style}"></iframe>'
    outer += "<script>f.onload=()=>{document.title=f.contentDocument.title}</script>"
    (tmp_path / "outer.html").write_text(outer)
    (tmp_path / "page.html").write_text(html)
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    logging = ["--enable-logging=stderr", "--allow-file-access-from-files", "--dump-dom", "--virtual-time-budget=3000"]

    def dumped(name: str) -> subprocess.CompletedProcess[str]:
        command = [CHROMIUM or "", *flags, *logging, f"file://{tmp_path / name}"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)

    match = re.search(r"<title>\[(\d+),(\d+)\]</title>", dumped("outer.html").stdout)
    assert match is not None
    assert int(match[2]) <= int(match[1]) == width
    assert "CONSOLE" not in dumped("page.html").stderr
