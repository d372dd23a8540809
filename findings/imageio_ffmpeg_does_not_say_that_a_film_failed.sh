#!/usr/bin/env bash
# imageio-ffmpeg 0.8.1: write_frames raises no error when ffmpeg could not write the film.
#
# It never checks ffmpeg's exit status. On a full disk (here Linux's /dev/full, which is always
# full) it accepts every frame and close() returns; the only sign is a line that ffmpeg prints to
# standard error.
#
# Output:
#   frames sent, closed, no error
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet imageio-ffmpeg==0.8.1
cd "$folder"
cat > look.py <<'PY'
import imageio_ffmpeg

film = imageio_ffmpeg.write_frames(
    "/dev/full", (64, 64), codec="mpeg2video", output_params=["-f", "mpegts"], ffmpeg_log_level="quiet"
)
film.send(None)
try:
    for shade in range(50):
        film.send(bytes([shade]) * (64 * 64 * 3))
    film.close()
except Exception as error:
    print(f"raised {type(error).__name__}")
else:
    print("frames sent, closed, no error")
PY
seen=$("$folder/venv/bin/python" look.py 2>"$folder/stderr")
echo "$seen"
[ "$seen" = "frames sent, closed, no error" ]
# ffmpeg itself reports an error for the same film.
ffmpeg=$("$folder/venv/bin/python" -c 'import imageio_ffmpeg; print(imageio_ffmpeg.get_ffmpeg_exe())')
head -c 614400 /dev/zero | "$ffmpeg" -loglevel quiet -f rawvideo -pix_fmt rgb24 -s 64x64 -r 20 -i - \
  -c:v mpeg2video -f mpegts -y /dev/full && exit 1
echo "ffmpeg itself: exit status $?"
