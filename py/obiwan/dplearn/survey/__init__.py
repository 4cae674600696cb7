"""What a survey and its injections left on disk, read.

`templates`, `layouts` (where files are) -> `catalogs`, `tables` (their rows as `sources`); `coadds`,
`cutouts` (planes with their WCS; the geometry of stamps); `rendering` (what a catalogue's shapes mean).
"""
