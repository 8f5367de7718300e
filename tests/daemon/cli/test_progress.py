from rich.console import Console

from dreamer.daemon.cli import meter
from dreamer.daemon.cli.meter import Lines, metering
from dreamer.daemon.ports import Progress
from dreamer.protocol.limits import PROGRESS_LINE_INTERVAL_S


def test_lines_come_with_a_new_phase_and_every_few_seconds(capsys):
    now = [100.0]
    lines = Lines("pull", lambda: now[0])
    for done in range(5):
        lines.show(Progress("fetch", done, 4))
    now[0] += PROGRESS_LINE_INTERVAL_S
    lines.show(Progress("fetch", 3, 4))
    lines.show(Progress("finish", 4, 4))
    assert capsys.readouterr().err.splitlines() == [
        "pull: fetch 0 B of 4 B",
        "pull: fetch 3 B of 4 B",
        "pull: finish 4 B of 4 B",
    ]


def test_bar_on_a_terminal_shows_bytes_by_lane(monkeypatch, capsys):
    shown = []
    real = Console

    def terminal(**options):
        shown.append(real(**options, force_terminal=True, width=120, legacy_windows=False))
        return shown[-1]

    monkeypatch.setattr("rich.console.Console", terminal)
    monkeypatch.setattr(meter.sys.stderr, "isatty", lambda: True, raising=False)
    with metering("pull") as show:
        show(Progress("fetch", 2**20, 2**21, 2.0**20, {"webrtc": 2**20}, "[red]note"))
    err = capsys.readouterr().err
    assert "1.0 MiB of 2.0 MiB, 1.0 MiB/s, 1 s left, webrtc 1.0 MiB, [red]note" in err


def test_upload_is_shown_in_bytes_and_in_parts():
    shown = meter.figures(Progress("upload", 2**20, 2**21, parts_done=3, parts_total=8))
    assert shown == "1.0 MiB of 2.0 MiB, 3 of 8 parts"
