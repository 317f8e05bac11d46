"""Sphinx configuration: no network access, no committed figures, warnings are errors."""

from __future__ import annotations

import sys
from importlib.metadata import version as _version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # make_figures
sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "glue_lrs"
author = "The glue_lrs developers"
project_copyright = "The glue_lrs developers"
release = _version("glue-lrs")
version = release

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_nb",
    "sphinx_copybutton",
    "glue_lrs_pages",  # _ext: figures, output of commands, list of changes
]
exclude_patterns = ["_build", "generated", "_ext"]
default_role = "py:obj"
nitpicky = False  # inventories of other packages would need network access

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "none"  # types are in the docstrings
autosummary_generate = False
numpydoc_show_class_members = False
maximum_signature_line_length = 80
add_module_names = False

# Notebooks are kept without outputs, and run in a temporary folder.
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_merge_streams = True
nb_ipywidgets_js: dict[str, dict[str, str]] = {}  # scripts that would need network access

# The copy buttons leave out prompts and outputs.
copybutton_prompt_text = r">>> |\.\.\. |\$ |> |In \[\d*\]: "
copybutton_prompt_is_regexp = True
copybutton_line_continuation_character = "\\"

html_theme = "furo"
html_title = f"glue_lrs {release}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_show_sphinx = False
html_show_sourcelink = False
html_copy_source = False
