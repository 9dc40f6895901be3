"""`manasight data scryfall`, against a server on this machine that behaves as Scryfall does on good and bad days."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from card_server import BULK, SLOW, CardServer, addresses, card, picture
from trees import tree

from cards.labels import labels_of, load_rules
from cards.scryfall.client import read_cards
from cards.scryfall.selection import pictures_of
from trainer.cli import main
from trainer.data.http import retry_after
from trainer.errors import UserError

COLORS = {"W": "white", "U": "blue", "B": "black", "R": "red", "G": "green"}


def deck(code: str = "m19", each: int = 2) -> list[dict]:
    """Cards of the original's 18 label sets, and others that it leaves out."""
    cards = []
    for letter, name in COLORS.items():
        for number in range(each):
            cards += [
                card(f"{name} bear {number}", "Creature — Bear", letter, set=code),
                card(f"{name} bolt {number}", "Instant" if number else "Legendary Enchantment", letter, set=code),
                card(
                    *(f"{name} field {number}", "Basic Land — Field"),
                    set=code,
                    color_identity=[letter],
                    collector_number=f"{name}{number}",
                ),
            ]
    for number in range(each):
        cards += [
            card(f"Golem {number}", "Artifact Creature — Golem", set=code),
            card(f"Ring {number}", "Legendary Artifact — Equipment", set=code),
            card(f"Jace {number}", "Legendary Planeswalker — Jace", "UB"[: number + 1], set=code),
        ]
    cards += [
        card("Gold Bear", "Creature — Bear", "RG", set=code),
        card("Harbour", "Land", set=code, color_identity=["U", "R"]),
        card("Eldrazi", "Creature — Eldrazi", set=code),
        card("Bear Token", "Token Creature — Bear", "G", set=code, layout="token"),
        card("Not Yet Scanned", "Creature — Bear", "G", set=code, image_status="placeholder"),
        card("Online Only", "Creature — Bear", "G", set=code, digital=True),
        card("Ours", "Creature — Bär", "G", set=code, lang="de"),
        {"object": "card", "set": code, "name": "Half a card"},
        card("No picture", "Creature — Bear", "G", set=code, image_uris=None),
        card("No type", None, "G", set=code),
    ]
    return cards


TURNING = card(
    *("Delver // Aberration", "Creature — Human // Creature — Insect"),
    image_uris=None,
    layout="transform",
    collector_number="51",
    colors=None,
    card_faces=[
        {"name": "Delver", "type_line": "Creature — Human", "colors": ["U"], "image_uris": addresses("delver")},
        {"name": "Aberration", "type_line": "Artifact Creature — X", "colors": [], "image_uris": addresses("aberr")},
    ],
)
ADVENTURE = card(
    *("Knight // Gift", "Creature — Knight // Sorcery — Adventure", "G"),
    layout="adventure",
    card_faces=[{"name": "Knight", "type_line": "Creature — Knight"}, {"name": "Gift", "type_line": "Sorcery"}],
)


def run(*args: object) -> int:
    return main(["data", "scryfall", *map(str, args)])


def sentence(capsys: pytest.CaptureFixture[str], *args: object) -> str:
    assert run(*args) in (1, 2)  # whether another try may help: tests/unit/test_failures.py
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return error


# Labels ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("type_line", "colors", "usual", "multicolor"),
    [
        ("Creature — Bear", "G", "green creature", "green creature"),
        ("Legendary Enchantment Creature — God", "W", "white creature", "white creature"),
        ("Creature — Bear", "RG", "", "red green creature"),
        ("Creature — Eldrazi", "", "", ""),
        ("Sorcery", "B", "black special", "black special"),
        ("Enchantment — Aura", "U", "blue special", "blue special"),
        ("Instant", "WU", "", "white blue special"),
        ("Artifact — Equipment", "", "artifact", "artifact"),
        ("Artifact — Equipment", "W", "", "white artifact"),
        ("Artifact Creature — Golem", "", "artifact creature", "artifact creature"),
        ("Artifact Creature — Golem", "B", "", "black artifact creature"),
        ("Legendary Planeswalker — Jace", "U", "planeswalker", "planeswalker"),
        ("Legendary Planeswalker — Kaya", "WB", "planeswalker", "planeswalker"),
        ("Legendary Planeswalker — Ugin", "", "planeswalker", "planeswalker"),
        ("Basic Land — Forest", "G", "green mana", "green mana"),
        ("Basic Snow Land — Swamp", "B", "black mana", "black mana"),
        ("Basic Land", "", "", "mana"),
        ("Land — Gate", "WU", "", "white blue mana"),
        ("Artifact Land", "", "", "mana"),
        ("Battle — Siege", "R", "", ""),
    ],
)
def test_the_table_gives_the_originals_labels(type_line, colors, usual, multicolor):
    land = "Land" in type_line
    shown = {"type_line": type_line, "colors": [] if land else list(colors), "color_identity": list(colors)}
    rules = load_rules()
    assert " ".join(labels_of(shown, rules)) == usual
    assert " ".join(labels_of(shown, rules, multicolor=True)) == multicolor


def test_tokens_and_gold_bordered_cards_are_left_out():
    rules = load_rules()
    assert not labels_of(card("x", "Token Creature — Bear", "G", layout="token"), rules)
    assert not labels_of(card("x", "Creature — Bear", "G", set_type="memorabilia"), rules)


def test_each_side_of_a_turning_card_is_a_picture():
    front, back = pictures_of(TURNING)
    assert (front["name"], labels_of(front, load_rules())) == ("Delver", ("blue", "creature"))
    assert (back["name"], labels_of(back, load_rules())) == ("Aberration", ("artifact", "creature"))


def test_two_faces_in_one_picture_count_as_the_first():
    (only,) = pictures_of(ADVENTURE)
    assert only["name"] == "Knight // Gift"
    assert labels_of(only, load_rules()) == ("green", "creature")


def test_a_table_of_ones_own(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(
        "- {rarity: [rare, mythic], labels: 'precious {subtypes}'}\n"
        "- {keywords: First strike, labels: '{keywords} {rarity}'}\n"
        "- {types: Legendary Land, labels: 'place_{set}'}\n"
        "- {types: Sorcery, labels: '{rarity}_{set} {keywords}_{colors}'}\n"
    )
    rules = load_rules(path)
    assert labels_of(card("x", "Land — Urza’s Power-Plant", rarity="rare"), rules) == (
        "precious",
        "urza_s",
        "power_plant",
    )
    assert labels_of(card("x", "Instant", keywords=["First strike"]), rules) == ("first_strike", "common")
    assert labels_of(card("x", "Legendary Land"), rules) == ("place_m19",)
    assert labels_of(card("x", "Land"), rules) == ()
    assert labels_of(card("x", "Sorcery", "WU", keywords=["Flash", "Storm"]), rules) == (
        *("common_m19", "flash_white", "flash_blue", "storm_white", "storm_blue"),
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rows: 1", "is not a list of rows"),
        ("- {typ: Creature, labels: x}", "names 'typ'; there are types"),
        ("- {colors: two, labels: x}", "has colors 'two'; say none, one"),
        ("- {labels: '{color}'}", "has a label '{color}'"),
        ("- {labels: [a, b]}", "needs its labels as words"),
        ("- {", "cannot read the rules"),
        ("[" * 12_000, "cannot read the rules"),
        ("- {labels: '{rarity'}", "has labels '{rarity' with a brace too many"),
        ("- {labels: 'rarity}'}", "with a brace too many"),
        ("- {types: '', labels: x}", "has types '', which no card has"),
        ("- {types: [], labels: x}", r"has types \[\], which no card has"),
        ("- {types: {a: b}, labels: x}", "which no card has"),
        ("- {types: [[Creature]], labels: x}", "which no card has"),
        ("- {multicolor: 'false', labels: x}", "has multicolor 'false'; say true or false"),
    ],
)
def test_mistakes_in_a_table_are_a_sentence(tmp_path, text, says):
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(UserError, match=says):
        load_rules(tmp_path / "own.yaml")


# Fetching -------------------------------------------------------------------------------------------------------------


def test_cards_become_a_labeled_tree(server, tmp_path, capsys):
    server.cards = [*deck("m19"), *deck("m20"), *deck("xyz"), TURNING]
    out = tmp_path / "cards"
    assert run(out, "--set", "m19", "--set", "M20") == 0
    printed = capsys.readouterr().out
    assert "© Wizards of the Coast" in printed
    assert "74 pictures in 18 label sets" in printed
    assert len(list(out.iterdir())) == 18 + 1
    assert all(len(list((out / part).iterdir())) >= 4 for part in ("green-mana", "planeswalker", "artifact-creature"))
    assert (out / "blue-creature" / "m19_51_Delver.jpg").read_bytes() == picture("/normal/front/delver.jpg")
    assert (out / "artifact-creature" / "m19_51_Aberration_back.jpg").is_file()
    rows = list(csv.DictReader((out / "cards.csv").open()))
    assert list(rows[0]) == ["file", "card", "set", "number", "labels", "source", "sha256"]
    assert {row["file"]: row["sha256"] for row in rows} == {k: v for k, v in tree(out).items() if k != "cards.csv"}


def test_colors_sizes_and_counts(server, tmp_path):
    server.cards = deck(each=5)
    assert run(tmp_path / "a", "--colors", "W", "--colors", "blue", "--set", "m19", "--size", "small") == 0
    assert {path.name.split("-")[0] for path in (tmp_path / "a").iterdir()} == {
        *("white", "blue", "planeswalker", "cards.csv")
    }
    assert server.count("/small/")
    assert not server.count("/normal/")
    assert run(tmp_path / "b", "--per-label-set", "3") == 0
    assert {len(list(part.iterdir())) for part in (tmp_path / "b").iterdir() if part.is_dir()} == {3}


@pytest.mark.parametrize("size", ["large", "png"])
def test_another_size_replaces_the_pictures(server, tmp_path, size):
    server.cards = deck()
    one, two = tmp_path / "one", tmp_path / "two"
    assert run(one, "--set", "m19", "--size", "small") == 0
    assert run(one, "--set", "m19", "--size", size) == 0
    assert run(two, "--set", "m19", "--size", size) == 0
    assert tree(one) == tree(two)
    assert run(tmp_path / "three", "--from-manifest", one / "cards.csv") == 0


def test_a_newer_scan_replaces_the_picture(server, tmp_path):
    server.cards = deck()
    assert run(tmp_path / "cards", "--query", "white bear") == 0
    asked = server.count(".jpg")
    for one in server.cards:
        if one.get("name") == "white bear 0":
            one["image_uris"] = addresses("a better scan")
    for kept in (tmp_path / "home" / "cache" / "scryfall").glob("*.json"):
        kept.unlink()
    assert run(tmp_path / "cards", "--query", "white bear") == 0
    assert server.count(".jpg") == asked + 1
    (file,) = (tmp_path / "cards" / "white-creature").glob("*_0.jpg")
    assert file.read_bytes() == picture("/normal/front/abetterscan.jpg")


def test_a_run_that_was_ended_in_another_size_is_not_gone_on_with(server, tmp_path, capsys):
    server.cards = deck()
    server.faults = {"/small/": ["200"] * 10 + ["404"] * 26}
    assert "20 pictures in a row failed" in sentence(capsys, tmp_path / "one", "--set", "m19", "--size", "small")
    assert len(list((tmp_path / "one").glob("*/*.jpg"))) == 10
    assert run(tmp_path / "one", "--set", "m19", "--size", "large") == 0
    assert run(tmp_path / "two", "--set", "m19", "--size", "large") == 0
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_the_manifest_knows_what_an_ended_run_fetched(server, tmp_path, capsys):
    server.cards = [*deck("m19"), *deck("m20")]
    server.faults = {"/normal/": ["200"] * 10 + ["404"] * 26}
    assert "20 pictures in a row failed" in sentence(capsys, tmp_path / "cards", "--set", "m19")
    server.faults = {}
    assert run(tmp_path / "cards", "--set", "m20") == 0
    rows = list(csv.DictReader((tmp_path / "cards" / "cards.csv").open()))
    assert Counter(row["set"] for row in rows) == {"m19": 10, "m20": 36}
    files = {name: digest for name, digest in tree(tmp_path / "cards").items() if name != "cards.csv"}
    assert {row["file"]: row["sha256"] for row in rows} == files


@pytest.mark.parametrize("most", [[], ["--per-label-set", "1"]])
def test_two_labellings_are_not_mixed(server, tmp_path, capsys, most):
    server.cards = [*deck("m19"), *deck("m20")]
    out, table = tmp_path / "cards", tmp_path / "own.yaml"
    table.write_text("- {types: Creature, labels: '{rarity}'}\n")
    assert run(out, "--set", "m19", *most) == 0
    before, asked = tree(out), server.count(".jpg")
    error = sentence(capsys, out, "--set", "m19", "--labels", table, *most)
    assert "of these pictures under other labels, such as that of 'common/m19_" in error
    assert (tree(out), server.count(".jpg")) == (before, asked)
    assert run(out, "--set", "m20", "--multicolor") == 0


def test_multicolored_cards_keep_all_their_labels(server, tmp_path):
    server.cards = deck()
    assert run(tmp_path / "cards", "--set", "m19", "--multicolor") == 0
    assert (tmp_path / "cards" / "red-green-creature").is_dir()
    assert (tmp_path / "cards" / "blue-red-mana").is_dir()


def test_a_query_asks_the_search_page_by_page(server, tmp_path, capsys):
    server.cards = deck()
    assert run(tmp_path / "cards", "--query", "bear") == 0
    assert server.count("/cards/search") == 4  # 12 cards
    assert not server.count("/bulk-data")
    assert len(list((tmp_path / "cards").glob("*/*.jpg"))) == 10
    assert "didn’t match any cards" in sentence(capsys, tmp_path / "none", "--query", "nobody")
    assert not (tmp_path / "none").exists()


def test_a_list_in_one_line_is_read_as_well(server, tmp_path):
    server.cards, server.legacy = deck(), True
    assert run(tmp_path / "cards", "--set", "m19") == 0
    assert len(list((tmp_path / "cards").glob("*/*.jpg"))) == 36


def test_a_second_run_asks_for_nothing(server, tmp_path):
    server.cards = deck()
    assert run(tmp_path / "cards", "--set", "m19") == 0
    before, requests = tree(tmp_path / "cards"), len(server.seen)
    assert run(tmp_path / "cards", "--set", "m19") == 0
    assert tree(tmp_path / "cards") == before
    assert len(server.seen) == requests


def test_answers_are_kept_for_a_day_and_no_longer(server, tmp_path):
    server.cards = deck()
    assert run(tmp_path / "cards", "--set", "m19") == 0
    index = next((tmp_path / "home" / "cache" / "scryfall").glob("*.json"))
    os.utime(index, (time.time() - 25 * 3600,) * 2)
    assert run(tmp_path / "cards", "--set", "m19") == 0
    assert server.count("/bulk-data") == 2
    assert server.count(BULK) == 1  # its address says that it is the same


@pytest.mark.parametrize("data", [b"", b'{"data": [', b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_answer_on_disk_is_asked_for_again(server, tmp_path, data):
    server.cards = deck()
    assert run(tmp_path / "cards", "--set", "m19") == 0
    index = next((tmp_path / "home" / "cache" / "scryfall").glob("*.json"))
    whole = index.read_bytes()
    index.write_bytes(data)
    assert run(tmp_path / "cards", "--set", "m19") == 0
    assert index.read_bytes() == whole


def test_what_is_damaged_on_disk_is_fetched_again(server, tmp_path):
    server.cards = deck()
    out = tmp_path / "cards"
    assert run(out, "--set", "m19") == 0
    before = tree(out)
    victim = next(out.glob("*/*.jpg"))
    victim.write_bytes(victim.read_bytes()[:300])
    assert run(out, "--set", "m19") == 0
    assert tree(out) == before


def test_a_manifest_rebuilds_exactly_its_tree(server, tmp_path):
    server.cards = [*deck(), TURNING]
    assert run(tmp_path / "one", "--set", "m19", "--per-label-set", "1") == 0
    server.cards = []
    assert run(tmp_path / "two", "--from-manifest", tmp_path / "one" / "cards.csv") == 0
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_a_picture_that_is_not_the_manifests_is_refused(server, tmp_path, capsys):
    server.cards = deck()
    assert run(tmp_path / "one", "--set", "m19", "--per-label-set", "1") == 0
    manifest = tmp_path / "one" / "cards.csv"
    lines = manifest.read_text().splitlines()
    manifest.write_text("\n".join([*lines[:-1], lines[-1][:-64] + "0" * 64]) + "\n")
    assert "another picture now than the manifest says" in sentence(
        capsys, tmp_path / "two", "--from-manifest", manifest
    )
    assert len(list((tmp_path / "two").glob("*/*.jpg"))) == len(lines) - 2


HEADER = "file,card,set,number,labels,source,sha256\n"


@pytest.mark.parametrize(
    "place",
    [
        *(
            "../evil.jpg",
            "/tmp/evil.jpg",
            "a/../../evil.jpg",
            "a\\..\\evil.jpg",
            "a/..",
            "",
            ".",
            "x//a.jpg",
            "x/./a.jpg",
        ),
        *("x/.hidden.jpg", ".x/hidden.jpg", "x/nul\0.jpg"),
    ],
)
def test_a_manifest_writes_nowhere_else(server, tmp_path, capsys, place):
    manifest = tmp_path / "cards.csv"
    manifest.write_text(f"{HEADER}{place},x,x,1,x,{server.url}/x.jpg,\n")
    error = sentence(capsys, tmp_path / "out", "--from-manifest", manifest)
    assert "is not a place inside the folder" in error
    assert len(error.splitlines()) == 1
    assert not server.seen


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "its first line names file, card"),
        ("id;x\n", "its first line names file, card"),
        ("file,card,set,number,labels,source\n", "its first line names file, card"),
        ("{}extra\n".format(HEADER.replace("\n", ",")), "its first line names file, card"),
        (f"{HEADER}x/a.jpg,A\n", "row 1 of"),
        (f"{HEADER}x/a.jpg,A,m19,1,x,https://a/a.jpg,,more\n", "does not have 7 values"),
        (f"{HEADER}x/a.jpg,A,m19,1,y,https://a/a.jpg,\n", "has the labels 'y', but its file is 'x/a.jpg'"),
        (f"{HEADER}x/y/a.jpg,A,m19,1,x,https://a/a.jpg,\n", "not <labels>/<name>"),
        (f"{HEADER}a.jpg,A,m19,1,,https://a/a.jpg,\n", "not <labels>/<name>"),
        (f"{HEADER}x/a.jpg,A,m19,1,x,https://a/a.jpg,abc\n", "has the SHA-256 'abc', which is none"),
        (HEADER + "x/a.jpg,A,m19,1,x,https://a/a.jpg,\n" * 2, "row 2 of"),
        (f"{HEADER}x--y/a.jpg,A,m19,1,x--y,https://a/a.jpg,\n", "has the labels 'x--y', one of which is empty"),
        (f"{HEADER}x/a.txt,A,m19,1,x,https://a/a.jpg,\n", "'x/a.txt', which is called as no picture is"),
        (HEADER + "".join(f"{x}/a.jpg,A,m19,1,{x},https://a/a.jpg,\n" for x in "xX"), "and another row 'x'; use one"),
        (f"{HEADER}x/a.jpg,A,m19,1,x,http://[::1/x,\n", "'http://[::1/x' is not the address of an image"),
        (f"{HEADER}x/{'a' * 256},A,m19,1,x,https://a/a.jpg,\n", "a name of more than 255 bytes"),
        (f'{HEADER}"x/a.jpg,A,m19,1,x,https://a/a.jpg,\n', "is not a manifest: unexpected end of data"),
        (HEADER, "lists no picture"),
    ],
)
def test_what_is_no_manifest_is_refused_and_kept(server, tmp_path, capsys, text, says):
    manifest = tmp_path / "cards.csv"
    manifest.write_text(text)
    error = sentence(capsys, tmp_path / "out", "--from-manifest", manifest)
    assert says in error
    assert len(error.splitlines()) == 1
    assert not (tmp_path / "out").exists()
    if text != HEADER:
        server.cards = deck()
        assert says in sentence(capsys, tmp_path, "--set", "m19")
        assert manifest.read_text() == text
        assert not server.count(".jpg")


def test_a_manifest_may_come_back_from_a_spreadsheet(server, tmp_path):
    server.cards = deck()
    assert run(tmp_path / "one", "--set", "m19", "--per-label-set", "1") == 0
    rows = list(csv.DictReader((tmp_path / "one" / "cards.csv").open()))
    with (tmp_path / "sheet.csv").open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0]][::-1])
        writer.writeheader()
        writer.writerows(row | {"sha256": row["sha256"].upper()} for row in rows)
    assert run(tmp_path / "two", "--from-manifest", tmp_path / "sheet.csv") == 0
    assert tree(tmp_path / "one") == tree(tmp_path / "two")


def test_a_manifest_is_not_mixed_with_other_pictures(server, tmp_path, capsys):
    server.cards = deck()
    assert run(tmp_path / "one", "--set", "m19", "--per-label-set", "1") == 0
    assert run(tmp_path / "two", "--set", "m19") == 0
    before, asked = tree(tmp_path / "two"), len(server.seen)
    error = sentence(capsys, tmp_path / "two", "--from-manifest", tmp_path / "one" / "cards.csv")
    assert "holds 18 files that" in error
    assert "name another folder" in error
    assert (tree(tmp_path / "two"), len(server.seen)) == (before, asked)
    assert run(tmp_path / "one", "--from-manifest", tmp_path / "one" / "cards.csv") == 0


ODD = [
    {"collector_number": None},
    {"collector_number": 5},
    {"name": None},
    {"name": ["Bear"]},
    {"set": {}},
    {"type_line": 5},
    {"colors": 5},
    {"colors": [None]},
    {"image_uris": "x"},
    {"image_uris": {"normal": 5}},
    {"image_uris": {"normal": "http://[::1/x.jpg"}},
    {"image_uris": {"normal": "ftp://example.org/x.jpg"}},
    {"card_faces": [None]},
    {"card_faces": 5},
    {"card_faces": [{"name": None}]},
    {"name": "bear with half a character \ud83d"},  # the reader of the bulk file repairs it
]


@pytest.mark.parametrize("way", [["--set", "m19"], ["--query", "bear"]])
def test_cards_of_another_shape_are_left_out_and_counted(server, tmp_path, capsys, way):
    bears = [card(f"Bear {number}", "Creature — Bear", "G") for number in range(3)]
    odd = [card("Odd bear", "Creature — Bear", "G") | change for change in ODD]
    server.cards = [bears[0], *odd, None, 5, [], "bear", *bears[1:]]
    assert run(tmp_path / "cards", *way) == 0
    printed = capsys.readouterr().out
    repaired = way[0] == "--set"
    assert f"{3 + repaired} pictures in 1 label sets" in printed
    assert printed.count("cards that are not as Scryfall describes its cards") == 1
    assert f"left out {len(ODD) + 4 - repaired} cards" in printed


SEARCH = "/cards/search?q=bear&unique=prints&order=set&include_multilingual=true"


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ([], "the answer is not a JSON object"),
        ({}, "is not a page of a search"),
        ({"data": 5}, "is not a page of a search"),
        ({"data": [], "warnings": 5}, "is not a page of a search"),
        ({"data": [], "has_more": True}, "is not a page of a search"),
        ({"data": [], "has_more": True, "next_page": 5}, "is not a page of a search"),
        ({"data": [], "has_more": True, "next_page": "http://[::1/x"}, "is not a page of a search"),
        ({"data": [], "has_more": True, "next_page": f"HOST{SEARCH}"}, "comes twice"),
        ({"data": [], "has_more": True, "next_page": "HOST/second"}, "comes twice"),
    ],
)
def test_an_odd_answer_to_a_search_is_a_sentence(server, tmp_path, capsys, answer, says):
    second = {"data": [card("Bear", "Creature — Bear", "G")], "has_more": True, "next_page": f"HOST{SEARCH}"}
    for path, body in ((SEARCH, answer), ("/second", second)):
        server.pages[path] = (json.dumps(body).replace("HOST", server.url).encode(), "application/json")
    assert says in sentence(capsys, tmp_path / "cards", "--query", "bear")
    assert len(server.seen) <= 2
    assert not (tmp_path / "cards").exists()
    server.cards, server.pages = deck(), {}  # the next run asks again
    assert run(tmp_path / "cards", "--query", "bear") == 0


@pytest.mark.parametrize("found", [5, [5], [{"type": "default_cards", "download_uri": 5}], [{"type": 5}]])
def test_an_odd_list_of_bulk_files_is_a_sentence(server, tmp_path, capsys, found):
    server.pages["/bulk-data"] = (json.dumps({"data": found}).encode(), "application/json")
    assert "lists no file of default_cards" in sentence(capsys, tmp_path / "cards", "--set", "m19")
    server.cards, server.pages = deck(), {}
    assert run(tmp_path / "cards", "--set", "m19") == 0


def test_names_are_no_longer_than_a_file_system_takes(server, tmp_path):
    server.cards = [card(f"{'Bear ' * 60}{number}", "Creature — Bear", "G", collector_number="1") for number in (1, 2)]
    server.cards += [card(letter * 248, "Creature — Bear", "G", collector_number="1") for letter in ("ö", "b")]
    for number, one in enumerate(server.cards):
        one["image_uris"] = addresses(f"picture {number}")
    assert run(tmp_path / "one", "--set", "m19") == 0
    names = [path.name for path in (tmp_path / "one" / "green-creature").iterdir()]
    assert len(names) == 4
    assert {len(name) for name in names} == {255}
    assert all(name.endswith(".jpg") for name in names)
    before = tree(tmp_path / "one")
    assert run(tmp_path / "one", "--set", "m19") == 0
    assert run(tmp_path / "two", "--from-manifest", tmp_path / "one" / "cards.csv") == 0
    assert before == tree(tmp_path / "one") == tree(tmp_path / "two")


# Bad days -------------------------------------------------------------------------------------------------------------


def test_bad_answers_are_asked_for_again(server, tmp_path):
    server.cards = deck()
    server.faults = {
        "whitebear0": ["truncated"],
        "whitebear1": ["cut", "500"],
        "blackbear0": ["html", "truncated", "503"],
        "redbear0": ["redirect"],
        "redbear1": ["slow"],
        "/bulk-data": ["500"],
        BULK: ["redirect"],
    }
    server.pages[f"/moved{BULK}"] = (server.bulk(), "application/gzip")
    assert run(tmp_path / "good", "--set", "m19") == 0
    assert not any(server.faults.values())
    for path in (tmp_path / "good").glob("*/*.jpg"):
        assert len(path.read_bytes()) > 1000
    assert (tmp_path / "good" / "white-creature").is_dir()
    assert len(list((tmp_path / "good").glob("*/*.jpg"))) == 36


def test_what_cannot_be_had_is_listed_and_the_rest_is_there(server, tmp_path, capsys):
    server.cards = deck()
    server.faults = {"whitebear0": ["404"], "blackbear0": ["html"] * 9}
    error = sentence(capsys, tmp_path / "cards", "--set", "m19")
    assert "2 of 36 pictures could not be had" in error
    assert "the server answers 404 (No cards today.)" in error
    assert "the server sends text/html, no picture, 4 times" in error
    assert server.count("whitebear0") == 1
    assert len(list(csv.DictReader((tmp_path / "cards" / "cards.csv").open()))) == 34
    server.faults = {}
    assert run(tmp_path / "cards", "--set", "m19") == 0
    assert len(list(csv.DictReader((tmp_path / "cards" / "cards.csv").open()))) == 36


def test_429_stops_every_request_for_as_long_as_asked(server, tmp_path):
    server.cards = deck()
    server.faults = {"/bulk-data": ["429:1"], "greenbear1": ["429:2"]}
    assert run(tmp_path / "cards", "--set", "m19") == 0
    refused = [one.time for one in server.seen if one.status == 429]
    assert len(refused) == 2
    for moment, pause in zip(refused, (1, 2), strict=True):
        assert not [one for one in server.seen if moment < one.time < moment + pause]
    assert len(list((tmp_path / "cards").glob("*/*.jpg"))) == 36


def test_a_pause_outlives_the_run(server, tmp_path, capsys):
    server.cards = deck()
    server.faults = {"/bulk-data": ["429:1800"]}
    assert "run the same command again in 30 min" in sentence(capsys, tmp_path / "cards", "--set", "m19")
    assert "run the same command again in 30 min" in sentence(capsys, tmp_path / "cards", "--set", "m19")
    assert len(server.seen) == 1


@pytest.mark.parametrize("text", ["9999999999", "inf", "nan", "soon", ""])
def test_a_damaged_pause_is_none(server, tmp_path, text):
    server.cards = deck()
    assert run(tmp_path / "cards", "--query", "bear") == 0
    for pace in (tmp_path / "home" / "cache" / "scryfall").glob("pace-*[!k]"):
        pace.write_text(text)
    assert run(tmp_path / "cards", "--query", "bolt") == 0


@pytest.mark.parametrize(
    ("made", "says"),
    [
        ("green-creature", "green-creature' is not a folder, but files go into it"),
        ("green-creature/m19_1_Bear.jpg/mine", "m19_1_Bear.jpg' is a folder, but a file goes there"),
    ],
)
def test_what_is_in_the_way_is_named_and_kept(server, tmp_path, capsys, made, says):
    server.cards = [card("Bear", "Creature — Bear", "G", collector_number="1")]
    path = tmp_path / "cards" / made
    path.parent.mkdir(parents=True)
    path.write_bytes(b"mine")
    assert says in sentence(capsys, tmp_path / "cards", "--set", "m19")
    assert path.read_bytes() == b"mine"
    assert not server.count(".jpg")


def test_retry_after_is_a_number_a_date_or_nothing():
    assert retry_after("7") == 7
    assert retry_after("") == retry_after("soon") == 60
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 30))
    assert 28 < retry_after(date) <= 30


def test_a_server_that_is_gone_ends_the_run(server, tmp_path, capsys):
    server.cards = deck()
    server.faults = {".jpg": ["500"] * 500}
    assert "20 pictures in a row failed, the last with: the server answers 500" in sentence(
        capsys, tmp_path / "cards", "--set", "m19"
    )


@pytest.mark.parametrize("damage", ["short", "noise", "other text"])
def test_damaged_card_data_is_removed(server, tmp_path, capsys, damage):
    server.cards = deck()
    assert run(tmp_path / "cards", "--set", "m19") == 0
    file = next((tmp_path / "home" / "cache" / "scryfall").glob("bulk-*"))
    data = file.read_bytes()
    noise = data[:200] + b"\0" * 50 + data[250:]
    file.write_bytes({"short": data[: len(data) // 2], "noise": noise, "other text": b'{"name": bear}\n' * 9}[damage])
    error = sentence(capsys, tmp_path / "cards", "--set", "m19")
    assert "the card data was damaged" in error
    assert len(error.splitlines()) == 1
    assert run(tmp_path / "cards", "--set", "m19") == 0


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ([], "say which cards"),
        (["--set", "nope"], "there is no card of set 'nope'"),
        (["--set", "m19", "--colors", "X"], "there is no color 'X'"),
        (["--per-label-set", "0"], "keeps no picture"),
        (["--set", "m19", "--labels", "gone.yaml"], "the rules in 'gone.yaml': No such file or directory\n"),
        (["--query", "\udcff"], "'\\xff' is not UTF-8"),
        (["--set", "m19", "--labels", "."], "cannot read the rules in '.': Is a directory\n"),
        (["--set", "m19", "--colors", "C", "--lang", "de"], "or look at the rules that --labels names"),
        (["--from-manifest", "gone.csv"], "there is no manifest 'gone.csv'"),
        (["--from-manifest", "pyproject.toml"], "is not a manifest"),
        (["--from-manifest", "x.csv", "--set", "m19"], "--from-manifest says which pictures"),
    ],
)
def test_mistakes_are_a_sentence(server, tmp_path, capsys, args, says):
    server.cards = deck()
    assert says in sentence(capsys, tmp_path / "cards", *args)
    assert not (tmp_path / "cards").exists()


def test_nobody_there(server, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MANASIGHT_SCRYFALL_URL", "http://127.0.0.1:9")
    error = sentence(capsys, tmp_path / "cards", "--set", "m19")
    assert "Scryfall gives nothing for http://127.0.0.1:9/bulk-data: the connection failed" in error
    assert "Connection refused" in error


# As its own process: kills, rates, memory -----------------------------------------------------------------------------


def start(server: CardServer, home: Path, *args: object) -> subprocess.Popen:
    """The command as a user starts it."""
    environment = os.environ | {"MANASIGHT_SCRYFALL_URL": server.url, "MANASIGHT_HOME": str(home)}
    command = [sys.executable, "-m", "trainer.cli", "data", "scryfall", *map(str, args)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)


def wait_for(condition, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
def test_killed_and_resumed_it_makes_the_same_tree_within_the_rates(tmp_path):
    noise = [card(f"Noise {number}", "Land", noise=os.urandom(30_000).hex()) for number in range(30)]
    with CardServer([*deck("m19"), TURNING, *noise]) as server:
        server.faults = {"whitebear0": ["429:2"], "blackbear0": ["truncated"], "redbear0": ["redirect"]}
        out, home = tmp_path / "killed", tmp_path / "home"
        server.drip = 0.1

        process = start(server, home, out, "--set", "m19")
        part = home / "cache" / "scryfall" / f"bulk-{Path(BULK).name}.part"
        wait_for(lambda: part.exists() and part.stat().st_size > 100_000, process)
        process.kill()
        process.wait()
        kept = part.stat().st_size
        server.drip = 0.0

        for pictures, end in ((5, signal.SIGKILL), (15, signal.SIGTERM), (25, signal.SIGINT)):
            process = start(server, home, out, "--set", "m19")
            wait_for(lambda pictures=pictures: len(list(out.glob("*/[!.]*.jpg"))) >= pictures, process)
            process.send_signal(end)
            assert process.wait(30) != 0
            assert not (out / "cards.csv").exists()
            for path in out.glob("*/[!.]*.jpg"):
                assert path.read_bytes().endswith(b"\xff\xd9")

        process = start(server, home, out, "--set", "m19")
        assert process.wait(60) == 0, process.stderr.read()
        ranges = [one.headers.get("Range") for one in server.seen if one.path == BULK]
        assert ranges == [None, f"bytes={kept}-"]
        assert server.count("/bulk-data") == 1
        assert server.most_in(1.0) <= 10
        refused = next(one.time for one in server.seen if one.status == 429)
        assert not [one for one in server.seen if refused < one.time < refused + 2]
        assert all(one.headers["User-Agent"].startswith("Manasight/") for one in server.seen)
        assert all(one.headers["Accept"] for one in server.seen)

        process = start(server, tmp_path / "other", tmp_path / "whole", "--set", "m19")
        assert process.wait(60) == 0
        assert tree(out) == tree(tmp_path / "whole")


@pytest.mark.slow
def test_two_runs_share_the_slow_rate_of_searches(tmp_path):
    with CardServer(deck()) as server:
        runs = [start(server, tmp_path / "home", tmp_path / name, "--query", name) for name in ("bear", "bolt")]
        assert [process.wait(120) for process in runs] == [0, 0]
        assert server.count("/cards/search") == 4 + 4
        assert server.most_in(1.0, SLOW) <= 2
        assert server.most_in(1.0) <= 10


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc; ru_maxrss counts what the parent held at the fork")
def test_large_card_data_fits_in_200_mb(tmp_path):
    padding = {f"uri{number}": f"https://example.org/{number:0200}" for number in range(20)}
    path = tmp_path / "large.jsonl"
    with path.open("w") as file:
        for number in range(25_000):  # 120 MB
            file.write(json.dumps(card(f"bear {number}", "Creature — Bear", "GWUBR"[number % 5]) | padding) + "\n")
    code = (
        "import re; import trainer.cli, jsonargparse\n"
        "from pathlib import Path\n"
        "from cards.labels import load_rules\n"
        "from cards.scryfall.client import read_cards\n"
        "from cards.scryfall.selection import choose, keep\n"
        f"cards = read_cards(Path({str(path)!r}))\n"
        "found = keep(choose(cards, load_rules(), set(), None, False, 'en', 'normal'), None, Path('none'))\n"
        "peak = re.search(r'VmHWM:\\s+(\\d+) kB', Path('/proc/self/status').read_text())[1]\n"
        "print(len(found), int(peak) // 1024)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    count, peak = map(int, result.stdout.split())
    assert count > 20_000
    assert peak < 200


def test_cards_are_read_one_at_a_time(tmp_path):
    path = tmp_path / "cards.jsonl"
    path.write_text('{"name": "a"}\n{"name": "b"}\n{"na')
    cards = read_cards(path)
    assert [next(cards)["name"], next(cards)["name"]] == ["a", "b"]
