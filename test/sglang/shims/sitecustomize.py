"""Makes SGLang 0.5.6 to 0.5.23 work on a CPU, in every process that has this folder on
PYTHONPATH: Python runs a module of this name at its start, also in child processes."""

import sglang_shims

sglang_shims.install()
