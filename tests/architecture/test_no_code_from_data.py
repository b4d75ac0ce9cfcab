"""Nothing that is read can run: no module loads a format that holds code."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.architecture.imports import ROOT, modules

_BANNED = {"pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}


def _sources() -> dict[str, Path]:
    scripts = [*(ROOT / "scripts").rglob("*"), *(ROOT / "benchmarks").rglob("*.py")]
    others = {
        str(path.relative_to(ROOT)): path
        for path in scripts
        if path.is_file() and (path.suffix == ".py" or b"python" in path.read_bytes()[:40])
    }
    return {**modules(), **others}


def _offences(tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.partition(".")[0] in _BANNED]
        elif isinstance(node, ast.ImportFrom):
            if (node.module or "").partition(".")[0] in _BANNED:
                found.append(str(node.module))
        elif isinstance(node, ast.Call):
            found += _of_call(node)
    return found


def _of_call(node: ast.Call) -> list[str]:
    called = ast.unparse(node.func)
    options = {each.arg: ast.unparse(each.value) for each in node.keywords}
    owner, _, name = called.rpartition(".")
    if called in ("eval", "exec", "compile", "__import__"):
        return [called]
    if called == "torch.load" or name == "load_from_checkpoint":
        return [] if options.get("weights_only") == "True" else [called]
    if options.get("allow_pickle", "False") != "False":
        return [f"{called}(allow_pickle)"]
    if owner == "yaml" and name not in ("safe_load", "safe_load_all", "safe_dump", "dump"):
        return [called]
    if options.get("trust_remote_code", "False") != "False":
        return [f"{called}(trust_remote_code)"]
    return []


@pytest.mark.parametrize("name", sorted(_sources()))
def test_no_module_runs_what_it_reads(name: str) -> None:
    """No pickle, marshal or eval, and no loader that would unpickle."""
    assert _offences(ast.parse(_sources()[name].read_text())) == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle", "from pickle import loads", "import torch.nn, dill", "eval('1')",
        "torch.load(path)", "torch.load(path, weights_only=False)", "yaml.load(text)",
        "np.load(path, allow_pickle=True)", "M.load_from_checkpoint(path)", "exec(code)",
        "AutoModel.from_pretrained(path, trust_remote_code=True)",
    ],
)  # fmt: skip
def test_what_would_run_code_is_seen(code: str) -> None:
    """The test above can fail."""
    assert len(_offences(ast.parse(code))) == 1


@pytest.mark.parametrize(
    "code",
    [
        "torch.load(path, weights_only=True)",
        "yaml.safe_load(text)",
        "np.load(path)",
        "model.eval()",
    ],
)
def test_what_is_safe_is_let_pass(code: str) -> None:
    """Loaders that refuse code, and methods that only have such a name."""
    assert _offences(ast.parse(code)) == []
