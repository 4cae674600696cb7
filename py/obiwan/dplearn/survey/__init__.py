"""Data releases and injection trees on disk: where their files are, and what is in them.

`templates`, `layouts` (where files are) -> `catalogs`, `tables` (their rows as `sources`); `coadds`,
`cutouts` (planes with their WCS; geometry of stamps); `writers`, `coverage` (which software wrote a coadd;
which pixels were observed); `rendering`, `differences` (model galaxies, and what can be planted in them).
"""
