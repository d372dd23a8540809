"""Hand-made files of a run, for tests of its page: an audit and a film."""

from __future__ import annotations

import json
import subprocess

from gallop.run_folder import manifest

HOSTILE = '</script><img src=x onerror="alert(1)"><script>alert(2)</script>'


def audit(filmed=10_000, name="somersault start", **changes):
    """audit.json of two episodes of one second, the first of which is filmed."""
    found = {
        "name": name,
        "kind": "warning",
        "rule": "a full turn that begins within 2 s",
        "measured": "1 full turn, forward",
        "evidence": "measured",
        "seconds": [[0.5, 1.25]],
    }
    episode = {
        "seed": 10_000,
        "return": 120.0,
        "length": 20,
        "posture": {"upside_down": 0.25, "net_turns": 1.0, "somersaults": [[0.5, 1.25]]},
        "contact": {"flight": 0.5, "peak": 3.0, "deepest": 0.0123, "duty_factor": {"bfoot": 0.3}},
        "energy": {"power": 1234.0, "transport": None},
        "rewards": {"speed": 2.5, "shares": {"reward_forward": 0.75}},
        "findings": [found],
    }
    other = {**episode, "seed": 10_001, "return": 80.0, "rewards": {"speed": 3.5}, "findings": []}
    return {
        "format": 1,
        "robot": {"mass": 14.0, "height": 0.7, "feet": ["bfoot", "ffoot"]},
        "findings": [{**found, "episodes": 1, "of": 2, "seed": 10_000}],
        "episodes": [episode, other],
        "sensitivity": [{"change": "half the physics step", "returns": [40, 60], "why_not": ""}],
        "filmed": {
            "seed": filmed,
            "dt": 0.05,
            "contacts": {"foot bfoot": [[0.0, 0.4], [1.5, 2.0]], "torso": [[0.6, 0.7]]},
            "pitch": [9.0 * step for step in range(41)],
        },
        **changes,
    }


def write_audit(milestone, record):
    milestone.audit.write_text(record if isinstance(record, str) else json.dumps(record))
    manifest.record(milestone.path, [milestone.audit.name])


def write_film(path, seconds=2):
    """An mp4 as ours, with a test picture."""
    import imageio_ffmpeg

    source = f"testsrc=size=64x64:rate=20:duration={seconds}"
    subprocess.run(
        [imageio_ffmpeg.get_ffmpeg_exe(), "-loglevel", "error", "-y", "-f", "lavfi", "-i", source,
         "-c:v", "libx264", "-pix_fmt", "yuv420p", "-movflags", "+faststart", str(path)],
        check=True,
    )  # fmt: skip
