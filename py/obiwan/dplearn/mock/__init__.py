"""Mock survey and its injection runs, made with GalSim, in the formats of the pipelines.

``python -m obiwan.dplearn.mock --outdir DIR`` writes

* ``release/``: a data release without injections (`tractor/`, `coadd/`; DR9 columns);
* ``injected/``: legacysim's layout, one ``file0_rsN_skip0`` per run (``--layout legacysim`` or ``both``);
* ``injected_obiwan/``: the same runs in the layout of the 2018 obiwan (``--layout obiwan`` or ``both``);
* ``truth/``: the noiseless parameters of the real objects, and the observing conditions of each brick;
* ``bricks.txt`` and ``mock.json``.

Without a ``--plant`` option both classes come from the same process, and no observer can distinguish them.
What the catalogues say was fitted to the light that was drawn, for both classes alike: a flaw that a fit
follows, such as an offset of all bands, does not show in stamps that are centred on fits.
The bands are any of g, r, i and z (``--bands``).

Inside: `config` -> `bricks` -> `sky` -> `profiles` -> `fitting` -> `catalog` -> `writers`, all
driven by `survey`.
"""
