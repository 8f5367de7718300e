"""A report in a folder."""

import re
import subprocess
import sys

import pytest

from dreamer.protocol.errors import DiskError, InputError
from dreamer.simulations.report.compare import compare, load
from dreamer.simulations.report.files import read_result, write_comparison, write_report
from dreamer.simulations.report.result import OriginUse, RelayUse

FIGURES = {"result.json", "nodes.csv", "pulls.csv", "traffic.csv"}


def names(folder) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def no_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)


def test_a_report_is_a_page_pictures_and_figures(written, run):
    drawn = ("completion", "lanes", "origin", "relay", "load", "costs")
    pictures = {f"pictures/{name}.{ending}" for name in drawn for ending in ("svg", "png")}
    assert names(written) == FIGURES | pictures | {"report.html"}
    assert read_result(written / "result.json") == load(written) == run()


def test_a_picture_stands_alone_in_its_file(written):
    text = (written / "pictures" / "lanes.svg").read_text("utf-8")
    assert text.startswith('<?xml version="1.0" encoding="utf-8"?>\n<svg ')
    assert 'xmlns="http://www.w3.org/2000/svg"' in text
    assert "currentColor" not in text
    # Neither when nor with what it was drawn.
    assert not re.search(r"metadata|matplotlib|20\d\d-\d\d", text)


def test_pictures_of_an_earlier_run_do_not_stay(run, tmp_path):
    old = tmp_path / "pictures" / "costs.png"
    old.parent.mkdir()
    old.write_bytes(b"of another run")
    mine = tmp_path / "pictures" / "mine.png"
    mine.write_bytes(b"a person's own")
    page = write_report(run(origin=OriginUse(), relay=RelayUse()), tmp_path)
    assert page == tmp_path / "report.html"
    assert not old.exists()
    assert mine.exists()


def test_without_matplotlib_the_figures_are_not_lost(no_matplotlib, run, tmp_path):
    with pytest.raises(InputError, match=r"pip install 'dreamer\[sim\]'"):
        write_report(run(), tmp_path / "out")
    assert names(tmp_path / "out") == FIGURES
    assert load(tmp_path / "out") == run()


def test_a_place_that_is_no_folder_is_named(no_matplotlib, run, tmp_path):
    taken = tmp_path / "report"
    taken.write_text("a file")
    with pytest.raises(DiskError, match=r"can't write .*result\.json: .*--out"):
        write_report(run(), taken)
    assert taken.read_text() == "a file"


@pytest.mark.root
def test_a_full_disk_leaves_the_earlier_report_readable(no_matplotlib, run, tmp_path):
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", str(place)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("may not mount")
    try:
        with pytest.raises(InputError):
            write_report(run(), place)
        with pytest.raises(DiskError, match="No space left on device"):
            write_report(run(2000), place)
        assert load(place) == run()
        assert names(place) == FIGURES
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_comparison_is_a_page_and_its_picture(run, tmp_path):
    page = write_comparison(compare(run(), run(seed=8)), tmp_path / "both")
    assert names(tmp_path / "both") == {
        "comparison.html",
        "pictures/completion.svg",
        "pictures/completion.png",
    }
    assert page.read_text("utf-8").startswith("<!doctype html>")
