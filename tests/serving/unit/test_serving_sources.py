"""Handlers' sources are read as Python reads them."""

import pytest
from serving_harness import MODELS, archived

from approxifer_torchserve.serving.archive.inspection import inspect_handler

HANDLER = (MODELS / "vector_handler.py").read_text()
BOM = b"\xef\xbb\xbf"
STAGED = "from ts.torch_handler.base_handler import BaseHandler\n"


def found(tmp_path, text, name="h.py"):
    (tmp_path / name).write_bytes(text.encode() if isinstance(text, str) else text)
    return inspect_handler(tmp_path, name, {})


@pytest.mark.parametrize(
    "text",
    [
        BOM + HANDLER.encode(),
        b"# -*- coding: latin-1 -*-\n# gr\xfc\xdfe\n" + HANDLER.encode(),
        HANDLER.replace("\n", "\r\n").encode(),
        f"x = '\\d'\n{HANDLER}".encode(),
        b"# gr\xfc\xdfe\n" + HANDLER.encode(),
    ],
    ids=["byte order mark", "coding line", "line ends", "suspected escape", "no UTF-8"],
)
def test_whatever_python_reads(tmp_path, text, recwarn):
    plain = found(tmp_path, HANDLER)
    read = found(tmp_path, text)
    assert (read.staged, read.refused) == (plain.staged, plain.refused)
    assert not recwarn.list


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def (", "is not Python"),
        (b"# coding: nonsense\n", "is not Python"),
        ("x = 1\0", "is not Python"),
        ("(" * 5000 + ")" * 5000, "is not Python"),
        ("", "expects one class or handle(), got none"),
        (f"{STAGED}class A(BaseHandler): ...\nclass B(BaseHandler): ...", "got A, B"),
    ],
)
def test_what_is_no_handler_is_refused(tmp_path, text, said):
    assert said in " ".join(found(tmp_path, text).refused)


@pytest.mark.parametrize(
    ("text", "staged", "checked"),
    [
        (f"{STAGED}try:\n    class H(BaseHandler): ...\nexcept ImportError:\n    pass", True, True),
        (
            f"{STAGED}if True:\n    class H(BaseHandler):\n        def handle(self): ...",
            False,
            True,
        ),
        (
            "try:\n    from ts.torch_handler.base_handler import BaseHandler as B\n"
            "except ImportError:\n    B = object\nclass H(B): ...",
            True,
            True,
        ),
        (
            f"{STAGED}try:\n    import x\n    class A(BaseHandler): ...\n"
            "except ImportError:\n    class B(BaseHandler): ...",
            True,
            False,
        ),
        (f"{STAGED}with open('x') as f:\n    def handle(data, ctx): ...", False, True),
        (f"{STAGED}class H(BaseHandler):\n    handle = print", False, True),
        (
            f"{STAGED}class H(BaseHandler):\n    def __init__(self):\n"
            "        self.handle = MicroBatching(self)",
            False,
            True,
        ),
        (
            f"{STAGED}class H(BaseHandler):\n    def preprocess(self, data):\n"
            "        handle = open(data)",
            True,
            True,
        ),
    ],
    ids=["try", "if", "base in try", "two", "with", "set", "micro-batching", "a local name"],
)
def test_classes_and_functions_wherever_an_import_makes_them(tmp_path, text, staged, checked):
    capability = found(tmp_path, text)
    assert capability.refused == []
    assert (capability.staged, capability.checked) == (staged, checked)


WORD = "send_intermediate_predict_response"


@pytest.mark.parametrize("text", [f"# {WORD}\n", f'"""We do not use {WORD}."""\n'])
def test_a_word_in_a_comment_is_no_streaming(tmp_path, text):
    assert found(tmp_path, text + HANDLER).refused == []


def test_only_what_the_handler_imports_can_stream(tmp_path):
    (tmp_path / "notes.py").write_text(f"from ts.protocol import {WORD}\n")
    assert found(tmp_path, HANDLER).refused == []
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("from . import deep\n")
    (package / "deep.py").write_text("import notes\n")
    said = " ".join(found(tmp_path, f"import package\n{HANDLER}").refused)
    assert f"notes.py streams its answers ({WORD})" in said


@pytest.mark.parametrize("name", ["handler.d.py", "inner.py"])
def test_a_folder_may_have_a_files_name(tmp_path, name):
    folder = tmp_path / "extra" / name
    folder.mkdir(parents=True)
    (folder / "readme.txt").write_text("x")
    handler = str(MODELS / "vector_handler.py")
    extra = [tmp_path / "extra"]
    report = archived(tmp_path / "o", model_name="m", handler=handler, extra_files=extra)
    assert report.path.exists()
