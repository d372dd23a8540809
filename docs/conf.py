"""The documentation site: `make docs` builds it into docs/_build/html, warnings being errors.

The pages are Markdown that reads well on GitHub, too. What comes from elsewhere is put in place
while the site is built: the reference pages from the code, CONTRIBUTING.md and CHANGELOG.md from
the repository's root (docs/_extensions/).
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_extensions"))

import gallop  # noqa: E402

project = "Gallop"
author = "The Gallop authors"
copyright = "the Gallop authors, MIT licence"
version = release = gallop.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "pages_from_elsewhere",
]
exclude_patterns = ["_build"]

# --- Markdown ------------------------------------------------------------------------------------

myst_enable_extensions = ["alert", "dollarmath"]  # GitHub's > [!NOTE] and $…$
myst_heading_anchors = 4  # links to #headings work as on GitHub
suppress_warnings = ["myst.header"]  # a page may begin with a smaller heading

# --- Python API ----------------------------------------------------------------------------------

autodoc_typehints_format = "short"
autodoc_preserve_defaults = True  # Path("results"), not PosixPath('results')
maximum_signature_line_length = 88  # longer ones have a line for each argument
default_role = "py:obj"  # `name` in a docstring is code, and a link where the site has the object
toc_object_entries_show_parents = "hide"
napoleon_numpy_docstring = False

# --- the look ------------------------------------------------------------------------------------

html_theme = "furo"
html_title = "Gallop"
html_favicon = "_static/favicon.svg"
html_static_path = ["_static"]
html_css_files = ["gallop.css"]
html_copy_source = False
html_show_sphinx = False
