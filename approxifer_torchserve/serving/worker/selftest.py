"""Loads a wrapped handler as a TorchServe worker does and sends it one job of each kind.

Run by ``approxifer archive --sample`` in a process of its own::

    python -m approxifer_torchserve.serving.worker.selftest MODEL_DIR SAMPLE TYPE RESULT_JSON
"""

from __future__ import annotations

import json
import os
import secrets
import statistics
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import ts
from ts.metrics.metric_cache_yaml_impl import MetricsCacheYamlImpl
from ts.model_loader import TsModelLoader

from approxifer_torchserve.serving.plan import Plan
from approxifer_torchserve.serving.worker import messages, trees, wire
from approxifer_torchserve.serving.worker.reply import Reply

REPEATS = 3


class SelfTest:
    """One worker's side of the protocol, spoken to as the plugin would."""

    def __init__(self, model_dir: Path, body: bytes, content_type: str) -> None:
        self.plan = Plan.read(model_dir)
        manifest = json.loads((model_dir / "MAR-INF" / "MANIFEST.json").read_text("utf-8"))
        self.key = secrets.token_hex(32)
        # The worker looks for the key of its parent process, the frontend.
        (model_dir / f"approxifer-{os.getppid()}.key").write_text(self.key, encoding="ascii")
        metrics = MetricsCacheYamlImpl(
            config_file_path=str(Path(ts.__file__).parent / "configs" / "metrics.yaml")
        )
        metrics.initialize_cache()
        model = manifest["model"]
        metrics.model_name = model["modelName"]
        self.service = TsModelLoader().load(
            model["modelName"], str(model_dir), model["handler"], None, 1, None, True, metrics
        )
        self.service.set_cl_socket(None)
        self.wrapper = self.service._entry_point.__self__
        self.body, self.content_type = body, content_type
        self.milliseconds: dict[str, float] = {}
        self.first_ms = 0.0

    def send(self, job: dict[str, Any], parameters: dict[str, tuple[str, bytes]]) -> Any:
        """Sends one job a few times; returns the reply's header and sections."""
        kind = job["kind"]
        part = self._send(kind, parameters, messages.job_header(self.key, "selftest", job))
        header, sections = Reply.parse(part.body)
        if "erasure" in header and kind != "raw":
            raise SystemExit(f"{kind}: {header['erasure']}")
        if "error" in header:
            error = header["error"]
            raise SystemExit(f"{kind}: {error['status']} {error['message']}")
        return header, sections, part

    def _send(
        self, kind: str, parameters: dict[str, tuple[str, bytes]], headers: dict[str, str]
    ) -> messages.Part:
        """Sends one request a few times; returns its part of the last response."""
        times = []
        for _ in range(REPEATS):
            request = messages.request("selftest", parameters, headers)
            start = time.perf_counter()
            response = self.service.predict([request])
            times.append((time.perf_counter() - start) * 1000)
        self.first_ms = self.first_ms or round(times[0], 3)
        self.milliseconds[kind] = round(statistics.median(times), 3)
        code, text, parts = messages.parse_response(response)
        if code != 200:
            raise SystemExit(f"{kind}: {code} {text}")
        return parts[0]

    def group(self) -> tuple[list[dict[str, Any]], dict[str, tuple[str, bytes]]]:
        """Returns a group's members and parameters in which every query is the sample."""
        count = self.plan.queries
        members = [{"index": i, "headers": {}, "parameters": ["body"]} for i in range(count)]
        return members, {f"m{i}/body": (self.content_type, self.body) for i in range(count)}

    def run(self) -> dict[str, Any]:
        """Tries what the plan's mode allows; exits with the reason if the sample fails."""
        body = {"body": (self.content_type, self.body)}
        header: dict[str, Any] = {}
        if self.plan.enabled:
            header, sections, reply = self.send({"kind": "raw", "want": True}, body)
        else:
            # The worker is the user's handler and nothing else: it knows no jobs.
            reply = self._send("raw", body, {})
            sections = {"answer": reply.body}
        if reply.status >= 400:
            raise SystemExit(f"raw: the handler set status {reply.status}: {sections['answer']!r}")
        found: dict[str, Any] = {
            "staged": self.wrapper.staged,
            "codable": False,
            "answer_bytes": len(sections["answer"]),
            "milliseconds": self.milliseconds,
        }
        found["first_ms"] = self.first_ms
        reason = self._code(header, sections, found)
        found["reason"] = reason
        found["codable"] = reason is None
        return found

    def _code(
        self, header: dict[str, Any], sections: dict[str, bytes], found: dict[str, Any]
    ) -> str | None:
        if not self.plan.enabled:
            return "enabled is false"
        if not self.wrapper.staged:
            return "the handler's handle() is its own"
        if "queries" in header:
            return f"the sample is {header['queries']} queries"
        if "erasure" in header:
            return f"{header['erasure']} for the sample"
        if "prediction" in sections:
            found["known_prediction"] = sections["prediction"].hex()
        if not self.plan.grouped:
            return f"mode is {self.plan.mode}"
        if "prediction" not in sections:
            return "inference does not return floating tensors with one row per query"
        found["prediction"] = _describe(sections["prediction"])
        members, parameters = self.group()
        job = {"size": len(members), "members": members}
        header, sections, _ = self.send({"kind": "encode", **job}, parameters)
        if header.get("alone"):
            return f"preprocess gives {self._query()}, which cannot be interpolated"
        found["query"] = _describe(sections["coded0"])
        answers = {}
        for i in range(self.plan.num_workers):
            coded = {"coded": ("application/octet-stream", sections[f"coded{i}"])}
            _, reply, _ = self.send({"kind": "coded", "coded": i}, coded)
            answers[f"p{i}"] = ("application/octet-stream", reply["prediction"])
            given = _describe(reply["prediction"])
            if given != found["prediction"]:
                role = self.plan.models[i]
                raise SystemExit(f"weights of {role} give {given}, not {found['prediction']}")
        last = self.plan.num_workers - 1
        if self.plan.mode == "systematic" and self.plan.systematic[last] is None:
            self.send({"kind": "parity", "coded": last, **job}, parameters)
        if self.plan.check == "screen":
            screen = {"kind": "screen", "size": len(members), "available": list(range(last + 1))}
            self.send(screen, answers)
        lost = {"kind": "decode", "size": len(members), "members": members[:1]}
        lost["available"] = sorted(int(name[1:]) for name in answers if name != "p0")
        if not self.plan.code.stragglers:
            lost["available"] = list(range(self.plan.num_workers))
        self.send(lost, {**answers, "m0/body": parameters["m0/body"]})
        return None

    def _query(self) -> str:
        """Says what preprocess makes of the sample."""
        request = messages.request("selftest", {"body": (self.content_type, self.body)})
        value = self.wrapper.handler.preprocess([{"body": request["parameters"][0]["value"]}])
        return ", ".join(_tensors(value)) or f"a {type(value).__name__}"


def _describe(blob: bytes) -> list[str]:
    return _tensors(wire.decode(blob))


def _tensors(tree: Any) -> list[str]:
    tensors = trees.leaves(tree) or []
    return [f"{list(t.shape)} {str(t.dtype).removeprefix('torch.')}" for t in tensors]


def main(arguments: list[str]) -> None:
    """Runs the self-test and writes what it found."""
    model_dir, sample, content_type, result = arguments
    test = SelfTest(Path(model_dir), Path(sample).read_bytes(), content_type)
    Path(result).write_text(json.dumps(test.run()), encoding="utf-8")


def _run() -> int:
    try:
        main(sys.argv[1:])
    except SystemExit as error:
        print(error, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    # The worker's own log lines are not wanted here, its reasons on failure are.
    failed = _run()
    sys.stdout.flush()
    sys.stderr.flush()
    # A handler may have started threads that never end, which an ordinary exit would wait for.
    os._exit(failed)
