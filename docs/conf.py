"""How the documentation is built: `make docs`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import gzoo

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = "gzoo"
author = copyright = "The gzoo founders"
version = release = gzoo.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "gzoo_pages",
]
exclude_patterns = ["build", "measured", "**/.ipynb_checkpoints"]
source_suffix = {".md": "myst-nb"}

# Markdown
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

# Tutorials run when the site is built, on simulated galaxies; bars of progress are not for pages
os.environ["PYTHONWARNINGS"] = "ignore:IProgress not found"
nb_execution_mode = "cache"
nb_execution_timeout = 600  # of a cell; on two quiet cores a whole notebook takes a minute
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_merge_streams = True

# Docstrings
default_role = "literal"  # `name` in a docstring is code
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_use_unqualified_type_names = True

html_math_renderer = "mathml"

# The page
html_theme = "pydata_sphinx_theme"
html_title = "gzoo"
html_static_path = ["static"]
html_css_files = ["gzoo.css"]
html_js_files = ["gzoo.js"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "header_links_before_dropdown": 6,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
