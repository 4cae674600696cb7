"""Files: there whole or not at all, and read with care.

`whole` (written beside their place and renamed), `npyfile` and `fitsfile` (damage is found before memory is
asked for), `memory` (used again), `takeover` (of two runs in one directory the later goes on), `place`
(where files are to go can be written).
"""
