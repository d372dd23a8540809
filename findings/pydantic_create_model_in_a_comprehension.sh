#!/usr/bin/env bash
# pydantic 2.14.3: create_model fails with an error of the tokenizer, depending on the layout of the
# call in the source, if the base class has use_attribute_docstrings.
#
# To find docstrings, pydantic tokenizes the caller's source, starting at the line of the call. That
# works for a call on a line of its own. For the value of a dict comprehension over several lines it
# raises tokenize.TokenError, which mentions neither models nor docstrings.
#
# Output:
#   on one line: made; in a comprehension: TokenError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pydantic==2.14.3
cd "$folder"
cat > base.py <<'PY'
from pydantic import BaseModel, ConfigDict


class Base(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)
    size: int = 1
    """How large it is."""
PY
cat > one_line.py <<'PY'
from base import Base
from pydantic import create_model

ONE = create_model("One", __base__=Base, size=(int, 2))
PY
cat > comprehension.py <<'PY'
from base import Base
from pydantic import create_model

MODELS = {
    name: create_model(
        name,
        __base__=Base,
        size=(int, 2),
    )
    for name in ("One", "Two")
}
PY
cat > look.py <<'PY'
import importlib
import tokenize


def outcome(module):
    try:
        importlib.import_module(module)
    except tokenize.TokenError as error:
        return type(error).__name__
    return "made"


print(f"on one line: {outcome('one_line')}; in a comprehension: {outcome('comprehension')}")
PY
seen=$("$folder/venv/bin/python" look.py)
echo "$seen"
[ "$seen" = "on one line: made; in a comprehension: TokenError" ]
