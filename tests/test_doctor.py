"""`gallop doctor` in child processes: on this machine, and with parts of it hidden."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from gallop.report.films import video

# Preloaded into a process, this hides libraries whose names contain one of the words in REFUSED,
# such as "EGL:libGL". PyOpenGL loads them with ctypes, and MuJoCo by itself: both call dlopen.
SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
void *dlopen(const char *name, int flags) {
    static void *(*real)(const char *, int);
    if (!real) real = dlsym(RTLD_NEXT, "dlopen");
    const char *words = getenv("REFUSED");
    for (const char *word = words; name && word && *word; ) {
        char copy[64] = {0};
        size_t length = strcspn(word, ":");
        memcpy(copy, word, length < 63 ? length : 63);
        if (length && strstr(name, copy)) return real("/no/such/library.so", flags);
        word += length + (word[length] == ':');
    }
    return real(name, flags);
}
"""
OSMESA_ONLY = "EGL:libGL"
NO_OPENGL = "EGL:libGL:OSMesa"
APT_LINE = "sudo apt-get install libegl1 libgl1 libgl1-mesa-dri"

linux = pytest.mark.skipif(sys.platform != "linux", reason="takes parts of a Linux away")


@pytest.fixture(scope="session")
def shim(tmp_path_factory):
    """The library to preload."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("gcc is needed to take libraries away")
    folder = tmp_path_factory.mktemp("shim")
    (folder / "shim.c").write_text(SHIM)
    command = [compiler, "-shared", "-fPIC", "-o", "shim.so", "shim.c", "-ldl"]
    subprocess.run(command, cwd=folder, check=True)
    return folder / "shim.so"


def run(program, folder, prefix=(), **environment):
    """Run a child Python in that folder, without environment variables of this user."""
    settings = {"MUJOCO_GL", "PYOPENGL_PLATFORM", "DISPLAY", "WAYLAND_DISPLAY", "COLUMNS"}
    inherited = {name: value for name, value in os.environ.items() if name not in settings}
    return subprocess.run(
        [*prefix, sys.executable, "-c", program],
        cwd=folder,
        env={**inherited, **environment},
        capture_output=True,
        text=True,
    )


def doctor(folder, **environment):
    """Exit code, lines printed, and "state found" of each name, unfolded."""
    program = "from gallop.commands.doctor import doctor; raise SystemExit(doctor())"
    done = run(program, folder, **environment)
    assert done.stderr == ""
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    state_at = lines[0].index("state")
    found: dict[str, str] = {}
    for line in lines[2 : lines.index("")]:
        name = line[:state_at].strip() or list(found)[-1]
        found[name] = " ".join([found.get(name, ""), *line[state_at:].split()]).strip()
    return done.returncode, lines, found


def look_at(name, folder, results="results", before="", prefix=(), **environment):
    """[state, found, fix] of one check in a child."""
    program = (
        f"import json\nfrom pathlib import Path\n{before}\n"
        "from gallop.commands.checks import _checks\n"
        f"check = dict(_checks(Path({results!r})))[{name!r}]()\n"
        "print(json.dumps(check[1:]))"
    )
    done = run(program, folder, prefix, **environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# --- all checks ----------------------------------------------------------------------------------


def test_a_machine_on_which_everything_works_is_reported_as_such(tmp_path):
    assert video.find_backend() is not None, "these tests need EGL or OSMesa"
    code, lines, found = doctor(tmp_path)
    assert code == 0, lines
    assert lines[-1] == "Everything that a run needs works."
    assert list(found)[:6] == [
        *("Python", "dependencies", "kernels", "threads", "memory", "results folder")
    ]
    assert list(found)[-3:] == ["films", "ffmpeg", "display"]
    assert found["Python"] == "works {}.{}.{}".format(*sys.version_info)
    assert "torch 2." in found["dependencies"] and "gymnasium 1." in found["dependencies"]
    assert "built; instruction set: " in found["kernels"]
    assert "default n_threads: native" in found["threads"]
    assert "results (to be created in .): writable" in found["results folder"]
    assert f"rendered with {video.find_backend().name}: " in found["films"]
    assert "encodes H.264" in found["ffmpeg"]
    assert found["display"].startswith("note")
    assert max(map(len, lines)) <= 80
    assert not (tmp_path / "results").exists(), "looking leaves nothing behind"


@linux
def test_the_shim_takes_libraries_from_ctypes_and_from_pyopengl(shim, tmp_path):
    program = """
import ctypes, ctypes.util
from OpenGL.platform.ctypesloader import loadLibrary
for name in ("EGL", "GL", "OSMesa"):
    file = ctypes.util.find_library(name) or f"lib{name}.so"
    try:
        by_ctypes = ctypes.CDLL(file) is not None
    except OSError:
        by_ctypes = False
    try:
        by_pyopengl = loadLibrary(ctypes.cdll, name) is not None
    except OSError:
        by_pyopengl = False
    print(name, by_ctypes, by_pyopengl)
"""

    def loaded(words):
        done = run(program, tmp_path, LD_PRELOAD=str(shim), REFUSED=words)
        assert done.returncode == 0, done.stderr
        rows = [line.split() for line in done.stdout.splitlines()]
        return {name for name, *results in rows if "True" in results}

    here = loaded("")
    assert here, "these tests need EGL or OSMesa"
    assert loaded(OSMESA_ONLY) == here & {"OSMesa"}
    assert loaded(NO_OPENGL) == set()


@linux
def test_with_osmesa_alone_films_use_it_and_nothing_is_missing(shim, tmp_path):
    if video.probe("osmesa") is None:
        pytest.skip("there is no OSMesa here")
    code, lines, found = doctor(tmp_path, LD_PRELOAD=str(shim), REFUSED=OSMESA_ONLY)
    assert code == 0, lines
    assert found["OpenGL egl"] == "note does not render here"
    assert found["OpenGL osmesa"].startswith("works ")
    assert found["OpenGL glfw"] == "note needs a display"
    assert found["films"].startswith("works rendered with osmesa: ")
    assert "software" in found["films"]
    assert APT_LINE not in lines


@linux
def test_without_opengl_the_apt_line_is_printed_to_copy(shim, tmp_path):
    code, lines, found = doctor(tmp_path, LD_PRELOAD=str(shim), REFUSED=NO_OPENGL)
    assert code == 0, "neither training nor films need OpenGL"
    assert found["OpenGL egl"] == found["OpenGL osmesa"] == "note does not render here"
    assert found["films"].startswith("note no OpenGL backend works here; films work without it")
    assert not [name for name, cell in found.items() if cell.startswith("missing")]
    assert lines[-4:] == ["Everything that a run needs works.", "Better films:", "", APT_LINE]


def test_films_that_cannot_even_be_drawn_without_opengl_are_missing(tmp_path):
    (tmp_path / "mujoco.py").write_text("raise ImportError('no MuJoCo here')\n")
    state, found, _ = look_at("films", tmp_path, PYTHONPATH=str(tmp_path))
    assert state == "missing"
    assert found.endswith("cannot be drawn without it: ImportError: no MuJoCo here")


@linux
def test_only_what_is_missing_has_a_fix(shim, tmp_path):
    nothing = str(tmp_path / "nothing")
    code, lines, _ = doctor(
        tmp_path, LD_PRELOAD=str(shim), REFUSED=NO_OPENGL, PATH=nothing, IMAGEIO_FFMPEG_EXE=nothing
    )
    assert code == 1
    assert lines[-5:] == [
        *("", "Missing: ffmpeg.", "To fix it:", ""),
        "sudo apt-get install ffmpeg",
    ]


# --- single checks -------------------------------------------------------------------------------


@linux
def test_without_ffmpeg_one_line_installs_it(tmp_path):
    nothing = str(tmp_path / "nothing")
    state, found, fix = look_at("ffmpeg", tmp_path, PATH=nothing, IMAGEIO_FFMPEG_EXE=nothing)
    assert state == "missing"
    assert "No such file" in found
    assert fix == "sudo apt-get install ffmpeg"


@linux
@pytest.mark.parametrize("script", ["exit 0", "cat > /dev/null; echo Unknown encoder >&2; exit 1"])
def test_an_ffmpeg_that_makes_no_film_is_missing(script, tmp_path):
    broken = tmp_path / "ffmpeg"
    broken.write_text(f"#!/bin/sh\n{script}\n")
    broken.chmod(0o755)
    state, found, fix = look_at("ffmpeg", tmp_path, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert state == "missing", found
    assert fix == "sudo apt-get install ffmpeg"


@linux
def test_a_read_only_results_folder_has_a_one_line_fix(tmp_path):
    prefix = []
    if os.geteuid() == 0:  # root may write everywhere, unless this capability is dropped
        if shutil.which("setpriv") is None:
            pytest.skip("root needs setpriv to be refused")
        prefix = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
    folder = tmp_path / "results"
    folder.mkdir(mode=0o555)
    state, found, fix = look_at("results folder", tmp_path, prefix=prefix)
    assert [state, found] == ["missing", "results: permission denied"]
    subprocess.run(["sh", "-c", fix], check=True)
    state, found, fix = look_at("results folder", tmp_path, prefix=prefix)
    assert [state, fix] == ["works", ""]
    assert found.startswith("results: writable, ")


def test_a_results_folder_inside_a_file_needs_another_place(tmp_path):
    (tmp_path / "file").write_text("")
    state, found, fix = look_at("results folder", tmp_path, results="file/results")
    assert state == "missing"
    assert "cannot be written" in found
    assert fix == "gallop run CONFIG --log-folder ANOTHER_FOLDER"


def install(folder, name, version):
    """What importlib.metadata finds of an installed package."""
    metadata = folder / f"{name}-{version}.dist-info"
    metadata.mkdir()
    text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    (metadata / "METADATA").write_text(text)


def test_a_dependency_out_of_its_range_is_named_with_the_range(tmp_path):
    install(tmp_path, "numpy", "1.26.4")
    install(tmp_path, "pillow", "99.0")  # has no upper bound
    state, found, fix = look_at("dependencies", tmp_path, PYTHONPATH=str(tmp_path))
    assert state == "missing"
    assert found == "numpy 1.26.4, required: >=2.0"
    assert fix.endswith('-m pip install "numpy>=2.0"')


def test_extras_are_a_note_of_their_versions(tmp_path):
    install(tmp_path, "wandb", "0.99")
    state, found, fix = look_at("extras", tmp_path, PYTHONPATH=str(tmp_path))
    assert [state, fix] == ["note", ""]
    assert "wandb 0.99" in found


def test_missing_kernels_have_a_fix_that_rebuilds_them_with_errors_shown(tmp_path):
    absent = "import sys; sys.modules['gallop._kernels'] = None"
    state, found, fix = look_at("kernels", tmp_path, before=absent)
    assert state == "missing"
    assert "runs train on SB3" in found
    assert "--force-reinstall --no-deps" in fix
    if sys.platform == "linux":
        assert fix.count("GALLOP_REQUIRE_KERNELS=1") == 1
        _, _, fix = look_at("kernels", tmp_path, before=absent, PATH=str(tmp_path))
        assert fix.startswith("sudo apt-get install g++ && GALLOP_REQUIRE_KERNELS=1 ")


def test_a_torch_that_cannot_be_imported_hides_no_other_check(tmp_path):
    (tmp_path / "torch.py").write_text("raise OSError('libgomp.so.1: no such file')")
    state, found, fix = look_at("threads", tmp_path, PYTHONPATH=str(tmp_path))
    assert state == "missing"
    assert "libgomp.so.1" in found
    assert '--force-reinstall "torch' in fix and fix.endswith('<2.14"')
    assert look_at("memory", tmp_path, PYTHONPATH=str(tmp_path))[0] == "works"


def test_a_display_means_a_window_and_a_missing_one_is_a_note(tmp_path):
    program = "from gallop.commands.checks import _display; print(_display().state)"
    if sys.platform == "linux":
        assert run(program, tmp_path).stdout.strip() == "note"
    assert run(program, tmp_path, DISPLAY=":9").stdout.strip() == "works"


def test_each_check_is_announced_before_it_begins(tmp_path):
    program = """
import sys
from itertools import islice
from pathlib import Path
from gallop.commands.checks import examine

def announce(name):
    print(name, "gallop.policies.kernels" in sys.modules)

list(islice(examine(Path("results"), announce), 4))
"""
    done = run(program, tmp_path)
    # The check of the kernels is the first to import them.
    assert done.stdout.splitlines() == [
        *("Python False", "dependencies False", "kernels False", "threads True")
    ], done.stderr
