#!/usr/bin/env bash
# Makes the pictures of these pages again: the mosaics from a mock survey without a planted difference, those of the
# tutorial from its own commands:
#
#   doc/figures.sh WORKDIR       needs the extra evaluate; a quarter of an hour on two cores
#
# report.png is the head of the tutorial's report.html in a browser, 1100 px wide.
# The tables in _static come from bin/benchmark learning, panel and culprits; panel.png from panel --figure.
set -euo pipefail
work=${1:?a directory to work in}
doc=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=$(command -v "${PYTHON:-python}")

"$python" -m obiwan.dplearn.mock --outdir "$work/mock" --bricks 24 --overwrite
"$python" -m obiwan.dplearn.create_training --fake "$work/mock/injected" --outdir "$work/training" --overwrite
"$python" -m obiwan.dplearn.mosaic --data "$work/training" --outdir "$work/figures" --rows 6

rm -rf "$work/tutorial"
mkdir "$work/tutorial"
awk '/^\.\. code-block:: shell/ { inside = 1; next } /^[^ ]/ { inside = 0 } inside { print substr($0, 4) }' \
    "$doc/howto/tutorial.rst" > "$work/tutorial.sh"
(
    cd "$work/tutorial"
    # shellcheck disable=SC2329  # the page's lines call it
    python() { "$python" "$@"; }
    # shellcheck source=/dev/null
    . ../tutorial.sh
)
cp "$work/tutorial/median.png" "$doc/_static/tutorial_median.png"
cp "$work/tutorial/evaluation/figures/auc_by_sn.png" "$doc/_static/tutorial_sn.png"
cp "$work/tutorial/figures/fake_real_mosaic_p99.png" "$work/figures/tutorial_mosaic.png"

# Sky noise does not compress.  In 40 greys and 160 colours a figure takes a quarter of the space.
"$python" - "$doc/_static" "$work"/figures/*_mosaic*.png <<'EOF'
import sys
from pathlib import Path

from PIL import Image

static, *paths = map(Path, sys.argv[1:])
for path in paths:
    image = Image.open(path).convert("RGB")
    colours = image.crop((51, 75, 210, image.height)).quantize(160, method=Image.Quantize.FASTOCTREE)
    greys = [level for grey in range(40) for level in [round(grey * 255 / 39)] * 3]
    palette = Image.new("P", (1, 1))
    palette.putpalette(greys + colours.getpalette()[: 3 * 160])
    small = image.quantize(palette=palette, dither=Image.Dither.NONE)
    levels, paper = small.getpalette(), 3 * small.getpixel((0, 0))
    small.putpalette([*levels[:paper], 255, 255, 255, *levels[paper + 3 :]])
    small.save(static / path.name, optimize=True)
EOF
