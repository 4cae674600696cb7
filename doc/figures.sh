#!/usr/bin/env bash
# Makes the pictures of these pages again, from a mock survey without a planted difference:
#
#   doc/figures.sh WORKDIR       needs the extras mock and figures; some minutes
set -euo pipefail
work=${1:?a directory to work in}
static=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/_static
python=${PYTHON:-python}

"$python" -m obiwan.dplearn.mock --outdir "$work/mock" --bricks 24 --overwrite
"$python" -m obiwan.dplearn.create_training --fake "$work/mock/injected" --outdir "$work/training" --overwrite
"$python" -m obiwan.dplearn.mosaic --data "$work/training" --outdir "$work/figures" --rows 6
# Sky noise does not compress.  In 40 greys and 160 colours a figure takes a quarter of the space.
"$python" - "$static" "$work"/figures/fake_real_mosaic_p*.png <<'EOF'
import sys
from pathlib import Path

from PIL import Image

static, *paths = map(Path, sys.argv[1:])
for path in paths:
    image = Image.open(path).convert("RGB")
    colours = image.crop((30, 25, 146, image.height)).quantize(160, method=Image.Quantize.FASTOCTREE)
    greys = [level for grey in range(40) for level in [round(grey * 255 / 39)] * 3]
    palette = Image.new("P", (1, 1))
    palette.putpalette(greys + colours.getpalette()[: 3 * 160])
    small = image.quantize(palette=palette, dither=Image.Dither.NONE)
    levels, paper = small.getpalette(), 3 * small.getpixel((0, 0))
    small.putpalette([*levels[:paper], 255, 255, 255, *levels[paper + 3 :]])
    small.save(static / path.name, optimize=True)
EOF
