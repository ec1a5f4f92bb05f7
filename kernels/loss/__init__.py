"""weighted_ssim_loss and fusion_loss: kernels of each pass, and ``launchers`` that chain them."""
