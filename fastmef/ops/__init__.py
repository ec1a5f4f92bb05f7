"""The operations behind :mod:`fastmef.functional`, one file each: the declaration, and autograd.

``<operation>_kernels.py`` calls the kernels of each backend where that takes more than a few lines.
Importing this package imports every file in its folder, and so declares every operation.
"""

import importlib
import pkgutil

for _file in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_file.name}")
