"""Files: atomic writes, output directories, npy and FITS with checks.

`atomic` (written beside their place and renamed), `npy` and `fits` (damage is found before memory is
asked for), `outdir` (what an output directory holds, and which of two runs in it goes on).
"""
