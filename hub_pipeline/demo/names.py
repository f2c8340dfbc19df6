"""Invented names: companies that do not exist under the reserved domain .example, and people nobody is."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Iterator

_COMPANY_FIRST = ["Alderwick", "Brindlemoor", "Cindervale", "Dovermere", "Elmsgarth", "Fennimore", "Gorsebank", "Hazelthorn", "Ivystone", "Junipero", "Kestrelby", "Larkmere", "Mossgate", "Nettlefold", "Oakhurstia", "Pebblecombe", "Quillhaven", "Rowanfell", "Saltmarsh", "Tallowfield", "Umberline", "Valebrook", "Wrenfield", "Yarrowdale", "Zephyrine", "Amberlund", "Birkholm", "Copperwyn", "Driftaway", "Emberlyn", "Foxgrove", "Glimmerby", "Hollowtree", "Inkberry", "Jadewater", "Kindlewood", "Lumenfjord", "Marlinspike", "Northquay", "Orchardine", "Plumridge", "Quartzly", "Riverlace", "Silverpine", "Thistledown", "Undertone", "Violetta", "Windlass", "Yewcroft", "Zinniabrook"]
_COMPANY_SECOND = ["Analytics", "Labs", "Logistics", "Software", "Systems", "Health", "Robotics", "Studio", "Energy", "Networks", "Biotech", "Insurance", "Research", "Mobility", "Foods", "Works", "Media", "Consulting", "Finance", "Learning", "Security", "Cloud", "Textiles", "Instruments", "Payments", "Interactive", "Shipping", "Aerospace", "Retail", "Diagnostics"]
_UNICODE_COMPANIES = (
    "Ærø Vindkraft",
    "Müßiggang Möbel",
    "Łąka Zielona Data",
    "Café Ñandú Systems",
    "Žlutý Kůň Software",
    "北極星データ",
    "Şehirli Bulut",
    "Ελαία Analytics",
)
_GIVEN = ["Amara", "Bram", "Celeste", "Dario", "Elif", "Farid", "Greta", "Hanna", "Ivo", "Jolene", "Kofi", "Leonie", "Mateus", "Nadia", "Oskar", "Priya", "Quentin", "Rosalind", "Stefan", "Tamsin", "Ulla", "Viktor", "Wanda", "Xenia", "Yusuf", "Zelda", "Aiko", "Benedikt", "Carmen", "Desmond", "Esther", "Felix", "Gwen", "Hugo", "Ines", "Jamal", "Katya", "Lars", "Mei", "Nils", "Odette", "Pablo", "Rina", "Selma", "Tobias", "Uma", "Vera", "Wim", "Yara", "Zoltan", "Zoë", "Jürgen", "Søren", "Łukasz", "Renée", "José", "Åsa", "Chloé", "Đorđe", "Siân"]
_FAMILY = ["Abernoth", "Bellweather", "Castaldi", "Dunmorrow", "Eriksdotter", "Fairbrook", "Gallowhill", "Hartmoor", "Iversted", "Jankelson", "Kettlewell", "Lindqvester", "Marchetta", "Nightingate", "Okonwell", "Pellarin", "Quimberly", "Rastogian", "Sandoval-Reyes", "Thornquist", "Umbrello", "Vasquero", "Whitlocke", "Yamadori", "Zielonka", "Ashgrove", "Bergmannsen", "Corrigane", "Delacroixe", "Estevanez", "Fontanarosa", "Grünefeld", "Haldorsen", "Ishimuro", "Jørgenstad", "Kovalenkov", "Lefèvrier", "Müllenhoff", "Nováčková", "Ødegårdson", "Petrovskaya", "Rønneberg", "Świderska", "Tănăsescu", "Vrbanić"]


def company_names(rng: random.Random) -> Iterator[str]:
    """Distinct company names in an order that depends only on the generator's seed."""
    names = [f"{first} {second}" for first in _COMPANY_FIRST for second in _COMPANY_SECOND]
    rng.shuffle(names)
    names[10 : 10 + len(_UNICODE_COMPANIES)] = _UNICODE_COMPANIES
    yield from names


def person_names(rng: random.Random) -> Iterator[tuple[str, str]]:
    """Distinct (given name, family name) in an order that depends only on the generator's seed."""
    names = [(given, family) for given in _GIVEN for family in _FAMILY]
    rng.shuffle(names)
    yield from names


def slug(text: str) -> str:
    """The ASCII form of a name that may stand in a domain or an address; never empty."""
    plain = unicodedata.normalize("NFKD", text.translate(str.maketrans("łŁøØæÆđĐß", "lLoOaAdDs")))
    kept = "".join(
        c.lower() if c.isascii() and c.isalnum() else "-" for c in plain if ord(c) < 0x300 or ord(c) > 0x36F
    )
    return "-".join(part for part in kept.split("-") if part) or "x" + format(abs(sum(map(ord, text))), "x")
