"""How the site is built: `python -m sphinx -W --keep-going docs build/site`, offline, every notebook run anew."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_extensions")]
# notebooks run `prefdensity` as a command of the interpreter that builds the site, in one thread
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
os.environ["PYTHONPATH"] = str(HERE.parent)
# tables without escape codes, and no progress where nobody watches
os.environ |= {"OMP_NUM_THREADS": "1", "TTY_COMPATIBLE": "0", "PREFDENSITY_QUIET": "1"}
os.environ["PYTHONWARNINGS"] = "ignore:IProgress not found"  # of tqdm, which would like widgets

from prefdensity.version import __version__  # noqa: E402

project = "prefdensity"
author = "the prefdensity developers"
release = version = __version__
language = "en"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "mathml",
    "written",
]
exclude_patterns = ["_extensions"]
suppress_warnings = ["config.cache"]

myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "auto"
nb_execution_timeout = 300  # of a cell, on a busy machine
nb_execution_raise_on_error = True
nb_execution_in_temp = True
nb_output_stderr = "warn"  # what a notebook says on stderr stops the build, like every warning
nb_merge_streams = False

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings name the types that matter
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_attr_annotations = False
default_role = "code"

html_theme = "furo"
html_title = f"prefdensity {release}"
html_static_path: list[str] = []
html_copy_source = False
html_show_copyright = False
html_math_renderer = "mathml"
