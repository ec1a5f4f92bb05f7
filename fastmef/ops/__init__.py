"""The operations behind :mod:`fastmef.functional`. Each file declares one and defines its autograd.

``<operation>_kernels.py`` calls the kernels of each backend where that takes more than a few lines.
Importing this package imports every file in its folder, which declares every operation.
"""

import importlib
import pkgutil

for _file in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_file.name}")
