"""MEF-SSIM ma2015 and mefnet: maps of the exposures, and scores with their gradients."""
