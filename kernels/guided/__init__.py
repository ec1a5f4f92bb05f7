"""guided_upsample_fuse: ``guide`` averages the exposures, ``fuse`` fuses them."""
