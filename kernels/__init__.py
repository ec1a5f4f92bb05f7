"""Triton kernels, one folder for each operation; installed as ``fastmef.kernels``.

A folder holds the kernels of each pass with their formulas, their launchers, and CONFIGURATIONS, a
list of the variants that the launchers use by default. ``python -m bench.machine_code triton``
compiles them all without a GPU and fails on spills or if too few warps would fit a multiprocessor.
The tables that pick block sizes are static: importing a file tunes nothing and calls no driver.

These rules hold in all kernels:

- Values are loaded in their dtype and converted to float32 at once. float64 falls back to the
  reference.
- Offsets that depend on program ids or strides are int64 (:func:`.common.tiles.locate`); only
  positions along one axis, and up to four times those, are int32. So an image may have any number
  of pixels, but fewer than 2**29 along an axis. Inside loops pointers are advanced by one stride at
  a time, because ``k * stride`` would be an int32 product. ``bench.machine_code.offsets`` looks for
  such products.
- Triton specialises a kernel on values of sizes, strides and addresses only as its layouts say
  (:class:`.common.launching.Layout`). So all variants are compiled ahead of time, except for types
  and for constants such as taps and numbers of exposures.
- Window taps are ``tl.constexpr`` tuples: they become immediate operands and cost no registers.
- A program writes one partial sum; ``partials.sum()`` adds them in a fixed order. No kernel uses
  atomics.
- :func:`.common.launching.launch` starts a kernel: it sets the device and
  ``enable_fp_fusion=True``, and does nothing for empty grids.
- Imports are relative and stay inside this package; taps, constants and sizes are passed in. torch
  is imported for type checking only, so that compiling needs no torch.
"""
