"""Rebuilds the two subset fonts beside this file from Inter's static OTF files.

    python subset.py DIRECTORY_WITH_INTER_OTF

Needs fontTools. The subset keeps Latin, Greek and the mathematical signs that captions and axes use. Inter keeps
its kerning in GPOS, which the rasteriser does not read, so the pairs between printable ASCII characters are written
into a legacy `kern` table and the layout tables are dropped.
"""

import pathlib
import sys

from fontTools import subset
from fontTools.ttLib import TTFont, newTable
from fontTools.ttLib.tables._k_e_r_n import KernTable_format_0

UNICODES = (
    "U+0020-007E,U+00A0-017F,U+0391-03A9,U+03B1-03C9,U+2010-2015,U+2018-201E,U+2020-2022,U+2026,U+2030,U+2032,"
    "U+2033,U+2039,U+203A,U+2070-208E,U+20AC,U+2190-2193,U+2202,U+2206,U+2207,U+220F,U+2211,U+2212,U+221A,U+221E,"
    "U+2248,U+2260,U+2264,U+2265,U+2713,U+2717,U+FFFD"
)
SMALLEST_KERN = 24  # font units of 2816 per em: an eighth of a pixel at 15 px


def pair_value(table, left, right):
    """The horizontal kerning of a pair: the first subtable that covers the left glyph and defines the pair."""
    for lookup in table.LookupList.Lookup:
        for sub in lookup.SubTable:
            sub = getattr(sub, "ExtSubTable", sub)
            if getattr(sub, "LookupType", 2) != 2 or left not in sub.Coverage.glyphs:
                continue
            if sub.Format == 1:
                pairs = sub.PairSet[sub.Coverage.glyphs.index(left)].PairValueRecord
                for record in pairs:
                    if record.SecondGlyph == right:
                        return record.Value1.XAdvance if record.Value1 else 0
            else:
                row = sub.ClassDef1.classDefs.get(left, 0)
                column = sub.ClassDef2.classDefs.get(right, 0)
                value = sub.Class1Record[row].Class2Record[column].Value1
                return getattr(value, "XAdvance", 0) if value else 0
    return 0


def main(source):
    for weight in ("Regular", "SemiBold"):
        out = pathlib.Path(__file__).with_name(f"Inter-{weight}.otf")
        subset.main(
            [
                str(pathlib.Path(source) / f"Inter-{weight}.otf"),
                f"--unicodes={UNICODES}",
                "--layout-features=kern",
                "--no-hinting",
                "--desubroutinize",
                "--name-IDs=*",
                f"--output-file={out}",
            ]
        )
        font = TTFont(out)
        cmap = font.getBestCmap()
        ascii_glyphs = [cmap[c] for c in range(0x20, 0x7F) if c in cmap]
        gpos = font["GPOS"].table
        pairs = {}
        for left in ascii_glyphs:
            for right in ascii_glyphs:
                value = pair_value(gpos, left, right)
                if abs(value) >= SMALLEST_KERN:
                    pairs[(left, right)] = value
        kern = newTable("kern")
        kern.version = 0
        table = KernTable_format_0()
        table.apple, table.version, table.coverage, table.tupleIndex = False, 0, 1, None
        table.kernTable = pairs
        kern.kernTables = [table]
        font["kern"] = kern
        for tag in ("GPOS", "GSUB", "GDEF"):
            if tag in font:
                del font[tag]
        font.save(out)
        print(out.name, len(pairs), "kerning pairs,", out.stat().st_size, "bytes")


if __name__ == "__main__":
    main(sys.argv[1])
