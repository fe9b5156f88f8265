"""Weights of their own: into the archive, loaded when they are needed, one forward for each role.

The model under test is affine, so a parity's exact weights are known: the same matrix, and for the
parity sum_i c_i X_i the bias times sum_i c_i.
"""

import io
import json
import logging
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from serving_harness import MODELS, archived, png, wrapped
from torch import nn
from typer.testing import CliRunner

from approxifer_torchserve.artifacts import weights as own_weights
from approxifer_torchserve.artifacts.report import ReportError
from approxifer_torchserve.cli.main import app
from approxifer_torchserve.codes import make_code
from approxifer_torchserve.serving.archive.packing import ArchiveError
from approxifer_torchserve.serving.config import ConfigError
from approxifer_torchserve.serving.plan import PLAN_FILE, Plan
from approxifer_torchserve.serving.worker import wire

TRUSTED = {"on_late": ["reconstruct"], "min_degraded_accuracy": 0}
ONE = {"code": {"name": "parm", "queries": 3, "stragglers": 1}, "policy": TRUSTED}
TWO = {"code": {"name": "parm", "queries": 2, "stragglers": 2}, "policy": TRUSTED}
HANDLER = str(MODELS / "png_handler.py")


def base():
    generator = torch.Generator().manual_seed(7)
    model = nn.Linear(64, 5)
    with torch.no_grad():
        model.weight.copy_(torch.randn(5, 64, generator=generator))
        model.bias.copy_(torch.randn(5, generator=generator))
    return model


def parity(total):
    """The exact model of a parity whose coefficients add up to a total."""
    model = base()
    with torch.no_grad():
        model.bias.mul_(total)
    return model


def saved(tmp_path, name, model, scripted=False):
    path = tmp_path / f"{name}{'.pt' if scripted else '.safetensors'}"
    if scripted:
        torch.jit.save(torch.jit.script(model), str(path))
    else:
        own_weights.save(model, path)
    return path


@pytest.fixture
def one(tmp_path):
    return {"parity": saved(tmp_path, "sum", parity(3))}


def wrap(tmp_path, weights, approxifer=ONE, source=None, **options):
    if source is None:
        options = {"handler": HANDLER, "model_name": "m", **options}
    return archived(
        tmp_path / "out",
        source,
        approxifer=approxifer,
        weights=weights,
        force=True,
        **options,
    )


def user(worker):
    return worker.service._entry_point.__self__.handler


def service(worker):
    return worker.service._entry_point.__self__.coded


def truth(seed):
    pixels = np.array(Image.open(io.BytesIO(png(seed))), dtype="float32")
    with torch.no_grad():
        return base()(torch.from_numpy(pixels).flatten() / 255)


# ---------------------------------------------------------------- the worker


def loads(caplog):
    return [r.getMessage() for r in caplog.records if ": loaded" in r.getMessage()]


@pytest.mark.parametrize("scripted", [False, True])
def test_a_lost_answer_is_exactly_what_the_model_would_have_said(tmp_path, caplog, scripted):
    caplog.set_level(logging.INFO)
    weights = {"parity": saved(tmp_path, "sum", parity(3), scripted)}
    ours, report = wrapped(tmp_path, approxifer=ONE, weights=weights)
    assert report.plan.models == ("base", "base", "base", "parity")
    group = {i: png(i) for i in range(3)}
    replies = ours.reply(*[ours.raw(f"q{i}", body) for i, body in group.items()])
    assert loads(caplog) == [], "nobody has asked for a parity"
    mine = user(ours).model
    for _ in range(2):
        ((header, sections),) = ours.reply(ours.job("p", "parity", group, coded=3))
        assert header["kind"] == "parity"
        assert user(ours).model is mine
    (line,) = loads(caplog)
    assert "weights of parity: loaded weights-parity" in line
    assert "0.0 MB on cpu" in line
    blobs = {"p0": replies[0][1]["prediction"], "p2": replies[2][1]["prediction"]}
    blobs["p3"] = sections["prediction"]
    lost = ours.job("d", "decode", {1: group[1]}, blobs, available=[0, 2, 3], size=3)
    ((header, answers),) = ours.reply(lost)
    assert header["answers"]["1"]["status"] == 200
    scores = torch.tensor(json.loads(answers["answer1"])["scores"])
    torch.testing.assert_close(scores, truth(1), atol=1e-4, rtol=0)


def test_a_batch_of_all_roles_takes_one_forward_for_each(tmp_path):
    weights = {f"parity{j}": saved(tmp_path, f"p{j}", parity(c)) for j, c in enumerate((2, 3))}
    ours, report = wrapped(tmp_path, approxifer=TWO, weights=weights)
    code = report.plan.code.make()
    queries = torch.rand(2, 64)
    coded = code.encode(queries)
    jobs = [
        ours.signed(f"{i}", {"kind": "coded", "coded": i}, {"coded": ("", wire.encode(query))})
        for i, query in enumerate(coded)
    ]
    user(ours).calls.clear()
    raw, *rest = ours.reply(ours.raw("q", png(0)), *jobs)
    assert [call for call in user(ours).calls if call[0] == "inference"] == [
        ("inference", 3),
        ("inference", 1),
        ("inference", 1),
    ]
    torch.testing.assert_close(torch.tensor(json.loads(raw[1]["answer"])["scores"]), truth(0))
    said = torch.stack([wire.decode(sections["prediction"]) for _, sections in rest])
    came = torch.tensor([False, False, True, True])
    with torch.no_grad():
        exact = base()(queries)
    torch.testing.assert_close(code.decode(said, came), exact, atol=1e-4, rtol=1e-4)
    held = service(ours).weights._held
    assert sorted(held) == ["parity0", "parity1"]
    for item in held.values():
        assert not item.module.training
        assert not any(parameter.requires_grad for parameter in item.module.parameters())


def test_weights_that_cannot_be_loaded_cost_their_own_job_only_and_are_tried_again(
    tmp_path, caplog, one
):
    ours, report = wrapped(tmp_path, approxifer=ONE, weights=one)
    path = report.path / "approxifer/weights-parity.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:50])
    now = [100.0]
    service(ours).weights.clock = lambda: now[0]
    group = {i: png(i) for i in range(3)}
    for _ in range(3):
        raw, broken = ours.reply(ours.raw("q", png(0)), ours.job("p", "parity", group, coded=3))
        assert "answer" in raw[1]
        assert broken[0]["unloaded"] is True
        assert "weights of parity" in broken[0]["erasure"]
        assert broken[1] == {}
    assert len([r for r in caplog.records if "tried again" in r.getMessage()]) == 1
    path.write_bytes(whole)
    now[0] += 31
    ((header, sections),) = ours.reply(ours.job("p", "parity", group, coded=3))
    assert "erasure" not in header
    expected = sum(truth(i) for i in range(3))
    torch.testing.assert_close(wire.decode(sections["prediction"]), expected, atol=1e-4, rtol=1e-4)


def test_weights_are_given_up_where_nobody_asks_for_them_any_more(tmp_path, one):
    ours, _ = wrapped(tmp_path, approxifer=ONE, weights=one)
    now = [100.0]
    weights = service(ours).weights
    weights.clock = lambda: now[0]
    parity_job = ours.job("p", "parity", {i: png(i) for i in range(3)}, coded=3)
    ours.reply(parity_job)
    now[0] += 599
    ours.reply(parity_job)
    now[0] += 599
    ours.reply(ours.raw("q", png(0)))
    assert list(weights._held) == ["parity"]
    now[0] += 2
    ours.reply(ours.raw("q", png(0)))
    assert weights._held == {}


def test_a_handler_that_does_not_call_its_model_gives_no_parity(tmp_path, one):
    extra = [HANDLER]
    ours, _ = wrapped(tmp_path, "headless_handler.py", extra=extra, approxifer=ONE, weights=one)
    ((header, _),) = ours.reply(ours.job("p", "parity", {i: png(i) for i in range(3)}, coded=3))
    assert "does not call handler.model" in header["erasure"]
    user(ours).model = None
    service(ours).weights._failed.clear()
    ((header, _),) = ours.reply(ours.job("p", "parity", {i: png(i) for i in range(3)}, coded=3))
    assert "no torch.nn.Module (it is NoneType)" in header["erasure"]


def test_the_handlers_own_model_is_back_after_an_inference_that_failed(tmp_path):
    weights = {"parity": saved(tmp_path, "wide", nn.Sequential(nn.Linear(9, 5)), scripted=True)}
    ours, _ = wrapped(tmp_path, approxifer=ONE, weights=weights)
    mine = user(ours).model
    parity_job = ours.job("p", "parity", {i: png(i) for i in range(3)}, coded=3)
    ((header, _),) = ours.reply(parity_job)
    assert "inference failed" in header["error"]["message"]
    assert user(ours).model is mine


# --------------------------------------------------------------- the archive


def test_files_lie_in_the_archive_under_names_of_their_own(tmp_path, one):
    report = wrap(tmp_path, one)
    name = "approxifer/weights-parity.safetensors"
    with zipfile.ZipFile(report.path) as packed:
        assert packed.read(name) == one["parity"].read_bytes()
        plan = Plan.parse(packed.read(PLAN_FILE))
    assert plan.worker.weights == {"parity": name}
    again = wrap(tmp_path, None, {"code": {"name": "approxifer"}}, report.path, rewrap=True)
    with zipfile.ZipFile(again.path) as packed:
        assert name not in packed.namelist()
    assert not again.plan.worker.weights


@pytest.mark.parametrize(
    ("approxifer", "given", "message"),
    [
        (ONE, [], "code parm needs .* weights of parity: give it by --weights parity=FILE"),
        (TWO, ["parity0"], "of parity1: give it by --weights parity1=FILE"),
        (ONE, ["parity", "student"], "parm has no role student; it has parity"),
        ({}, ["parity"], "approxifer has no role parity; it needs no weights but the model's"),
    ],
)
def test_each_role_wants_one_file_and_no_file_is_left_over(
    tmp_path, approxifer, given, message, one
):
    with pytest.raises(ConfigError, match=message):
        wrap(tmp_path, dict.fromkeys(given, one["parity"]), approxifer)


def test_a_twin_that_is_served_plainly_needs_none(tmp_path, one):
    for weights in ({}, one):
        report = wrap(tmp_path, weights, {**ONE, "enabled": False})
        assert not report.plan.worker.weights


def test_weights_that_no_policy_uses_are_pointed_out(tmp_path, one):
    report = wrap(tmp_path, one, {"code": ONE["code"]})
    assert "no parity is used: " in " ".join(report.warnings)
    assert "no parity" not in " ".join(wrap(tmp_path, one).warnings)


@pytest.mark.parametrize("what", ["missing", "text", "pickle", "wide", "more"])
def test_a_file_that_cannot_be_used_is_refused_when_archiving(tmp_path, what):
    path = tmp_path / "file"
    own = tmp_path / "own.pt"
    torch.save(base().state_dict(), own)
    if what == "text":
        path.write_text("weights")
    elif what == "pickle":
        torch.save(parity(3).state_dict(), path)
    elif what == "wide":
        own_weights.save(nn.Linear(65, 5), path)
    elif what == "more":
        own_weights.save(nn.Sequential(nn.Linear(64, 5)), path)
    message = "these differ: weight" if what == "wide" else "weights of parity"
    with pytest.raises(ConfigError, match=message):
        wrap(tmp_path, {"parity": path}, serialized_file=own)


def test_weights_that_were_trained_for_another_code_are_refused_when_archiving(tmp_path):
    path = tmp_path / "parity.safetensors"
    code = make_code(**ONE["code"])
    own_weights.save(parity(3), path, own_weights.describe(code, "parity"))
    wrap(tmp_path, {"parity": path})
    with pytest.raises(ConfigError, match=r"weights of parity: .*expected weights that were"):
        wrap(tmp_path, {"parity": path}, {**ONE, "code": {**ONE["code"], "queries": 2}})


def test_a_report_counts_for_the_weights_that_it_measured(tmp_path, one):
    report = tmp_path / "report.json"
    name = "parm(byzantine=0,queries=3,stragglers=1)"
    found = {"base_accuracy": 0.9, "codes": {name: {"A_d": 0.85}}}
    asked = {**ONE, "policy": {"on_late": ["reconstruct"]}}
    for weights in ({}, {"parity": own_weights.digest(one["parity"])}):
        report.write_text(json.dumps({**found, "weights": weights}))
        assert wrap(tmp_path, one, asked, report=report).plan.policy.reconstruct
    report.write_text(json.dumps({**found, "weights": {"parity": "0" * 64}}))
    with pytest.raises(ReportError, match="report: it was measured with other weights of parity"):
        wrap(tmp_path, one, asked, report=report)


def test_a_sample_tries_the_weights_too(tmp_path, one):
    sample = tmp_path / "sample.png"
    sample.write_bytes(png(1))
    assert wrap(tmp_path, one, sample=sample).sample.codable
    narrow = {"parity": saved(tmp_path, "narrow", nn.Linear(64, 4), scripted=True)}
    with pytest.raises(
        ArchiveError, match=r"weights of parity give .*\[4\] float32.*\[5\] float32"
    ):
        wrap(tmp_path, narrow, sample=sample)


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        ("whole_handler.py", "parm needs weights of its own .parity., and this handler cannot be"),
        ("modelless_handler.py", r"inference\(\) of modelless_handler.py does not call self.model"),
    ],
)
def test_a_handler_without_a_model_to_swap_is_refused(tmp_path, handler, message, one):
    (tmp_path / "modelless_handler.py").write_text(
        "from ts.torch_handler.base_handler import BaseHandler\n"
        "class Modelless(BaseHandler):\n"
        "    def inference(self, data):\n"
        "        return self.table[data]\n"
    )
    folder = MODELS if (MODELS / handler).exists() else tmp_path
    with pytest.raises(ValueError, match=message):
        wrap(tmp_path, one, handler=str(folder / handler))


def test_an_onnx_model_cannot_be_swapped(tmp_path, one):
    (tmp_path / "net.onnx").write_text("")
    with pytest.raises(ArchiveError, match="ONNX"):
        wrap(tmp_path, one, serialized_file=tmp_path / "net.onnx")


def test_our_names_are_not_written_over(tmp_path, one):
    mine = tmp_path / "mine" / "approxifer"
    mine.mkdir(parents=True)
    (mine / "weights-parity.safetensors").write_text("mine")
    with pytest.raises(ArchiveError, match="the name approxifer is taken"):
        wrap(tmp_path, one, extra_files=[mine.parent])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "--weights parity=FILE"),
        (["--weights", "student={parity}"], "has no role student"),
        (["--weights", "parity"], "expected ROLE=FILE, got parity"),
        (
            ["--weights", "parity={parity}", "--weights", "parity={parity}"],
            "expected one file for each of the model and the roles",
        ),
    ],
)
def test_the_command_says_what_is_missing_and_exits_with_2(
    tmp_path, one, monkeypatch, words, message
):
    monkeypatch.setenv("COLUMNS", "250")
    monkeypatch.setenv("NO_COLOR", "1")
    common = ["archive", "--model-name", "m", "--handler", HANDLER, "--code", "parm", "-k", "3"]
    common += ["--export-path", str(tmp_path)]
    words = [word.format(**one) for word in words]
    done = CliRunner().invoke(app, [*common, *words])
    assert done.exit_code == 2, done.output
    assert message in done.output
    done = CliRunner().invoke(app, [*common, "--weights", f"parity={one['parity']}"])
    assert done.exit_code == 0, done.output
