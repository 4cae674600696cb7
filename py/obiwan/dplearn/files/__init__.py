"""Files: atomic writes, output directories, npy and FITS with checks.

`atomic` (written beside their place and renamed), `npy` and `fits` (damage is found before memory is
asked for), `lease` (of two runs in one directory the later goes on), `outdir`
(where files are to go can be written).
"""
