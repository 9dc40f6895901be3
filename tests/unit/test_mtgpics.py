"""`manasight data mtgpics`, against a server on this machine that has pages as the site has, and worse."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from card_server import CardServer, card, picture

from cards import mtgpics as module
from cards.mtgpics import links
from trainer.cli import main
from trainer.data.fingerprint import MANIFEST

PAGE = "/set?set=318"


def page(*images: str) -> tuple[bytes, str]:
    return f"<html><body><p>{'</td><td>'.join(images)}</body>".encode(), "text/html"


def run(server: CardServer, out: Path, *args: object) -> int:
    return main(["data", "mtgpics", "--deck-url", server.url + PAGE, "--save-dir", str(out), *map(str, args)])


def names(out: Path) -> list[str]:
    return sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())


def test_a_page_becomes_pictures_in_the_large_size(server, tmp_path, capsys):
    server.pages[PAGE] = page(
        '<img src="../pics/reg/m21/001.jpg" alt="Ugin, the Spirit Dragon - Raymond Swanland">',
        "<img src=../pics/reg/m21/002.jpg>",
        f'<img alt="Æther Vial" src="{server.url}/pics/reg/m21/003.JPG?x=1">',
        '<img src="/pics/reg/m21/004.jpg" alt="Fire // Ice - Somebody">',
        '<a href="../pics/reg/m21/005.jpg">Plains</a>',
        '<a href="../pics/reg/m21/004.jpg"><b>large</b></a>',
        '<img src="../graph/logo.png"><img><img src="http://[">',
        '<img src="../pics/reg/m21/001.jpg" alt="Ugin, the Spirit Dragon - Raymond Swanland">',
    )
    assert run(server, tmp_path / "m21") == 0
    assert names(tmp_path / "m21") == [
        "m21_001_Ugin,_the_Spirit_Dragon.jpg",
        "m21_002_na.jpg",
        "m21_003_Æther_Vial.jpg",
        "m21_004_Fire_Ice.jpg",
        "m21_005_na.jpg",
    ]
    assert (tmp_path / "m21" / "m21_002_na.jpg").read_bytes() == picture("/pics/big/m21/002.jpg")
    assert not server.count("/reg/")
    assert "© Wizards of the Coast" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("encoding", "kind", "head"),
    [
        ("utf-8", "text/html; charset=utf-8", ""),
        ("iso-8859-1", "text/html; charset=ISO-8859-1", ""),
        ("iso-8859-1", "text/html", '<meta http-equiv="Content-Type" content="text/html; charset=iso-8859-1">'),
        ("utf-16", "text/html", ""),
    ],
)
def test_odd_encodings(encoding, kind, head):
    body = f'{head}<img src="../pics/reg/ice/12.jpg" alt="Déjà Vu - Ömer">'.encode(encoding)
    found = links(body, "https://www.mtgpics.com/set?set=1", module._charset(kind))
    assert found == {"ice_12_Déjà_Vu.jpg": ("Déjà Vu", "https://www.mtgpics.com/pics/big/ice/12.jpg")}


def test_names_are_no_longer_than_a_file_system_takes(server, tmp_path):
    long = ["ö" * 300, "ö" * 299 + "o", "a" * 300, "Bear"]
    server.pages[PAGE] = page(*(f'<img src="../pics/reg/m21/1.jpg?{n}" alt="{alt}">' for n, alt in enumerate(long)))
    assert run(server, tmp_path / "m21") == 0
    found = [path.name for path in (tmp_path / "m21").iterdir()]
    assert len(found) == 4
    assert all(250 <= len(name.encode()) <= 255 for name in found if name != "m21_1_Bear.jpg")


def test_names_lead_nowhere_else():
    found = links(b'<img src="/pics/reg/..%2f../%2e%2e.jpg" alt="../../x">', "https://a/")
    assert list(found) == ["na_na_x.jpg"]


def test_bad_answers_are_asked_for_again(server, tmp_path):
    server.pages[PAGE] = page(*(f'<img src="../pics/reg/m21/{n}.jpg">' for n in range(6)))
    server.faults = {
        PAGE: ["503"],
        "/1.jpg": ["truncated"],
        "/2.jpg": ["html"],
        "/3.jpg": ["429:1"],
        "/4.jpg": ["redirect"],
        "/5.jpg": ["cut", "500"],
    }
    assert run(server, tmp_path / "m21") == 0
    assert not any(server.faults.values())
    assert len(names(tmp_path / "m21")) == 6


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((b"", "text/html"), "links no card pictures"),
        ((b"\xff\xfe\x00<<<>>>&&&;", "text/html; charset=nonsense"), "links no card pictures"),
        ((b"<html><h1>Maintenance</h1>", "text/html"), "links no card pictures"),
        (None, "the server answers 404"),
    ],
)
def test_a_bad_page_is_a_sentence(server, tmp_path, capsys, caplog, answer, says):
    if answer:
        server.pages[PAGE] = answer
    assert run(server, tmp_path / "m21") == 2
    error = capsys.readouterr().err
    assert says in error
    assert len(error.splitlines()) == 1
    assert not caplog.text  # of the parser
    assert not (tmp_path / "m21").exists()


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("", "name one: --deck-url https://"),
        ("http://[bad", "name one: --deck-url https://"),
        ("ftp://a/b", "name one: --deck-url https://"),
        ("\udcff", "'\\xff' is not UTF-8"),
    ],
)
def test_no_page_is_a_sentence(capsys, address, says):
    assert main(["data", "mtgpics", "--deck-url", address]) == 2
    assert says in capsys.readouterr().err


def test_scryfall_sorts_by_name(server, tmp_path, capsys):
    server.cards = [
        card("Æther Adept", "Creature — Human", "U"),
        card("Delver of Secrets // Insectile Aberration", "Creature — Human // Creature — Insect", "U"),
        card("Gold Bear", "Creature — Bear", "RG"),
        card("Bear", "Token Creature — Bear", "G", layout="token"),
        card("Bear", "Creature — Bear", "G"),
    ]
    server.pages[PAGE] = page(
        *(
            f'<img src="../pics/reg/m21/{n}.jpg" alt="{name} - Artist">'
            for n, name in enumerate(["Aether Adept", "Delver of Secrets", "Gold Bear", "bear", "Nobody"])
        )
    )
    assert run(server, tmp_path / "m21") == 0
    asked = server.count("/big/")
    assert run(server, tmp_path / "m21", "--label-with-scryfall") == 0
    assert names(tmp_path / "m21") == [
        MANIFEST,
        "blue-creature/m21_0_Aether_Adept.jpg",
        "blue-creature/m21_1_Delver_of_Secrets.jpg",
        "green-creature/m21_3_bear.jpg",
        "m21_2_Gold_Bear.jpg",
        "m21_4_Nobody.jpg",
    ]
    assert server.count("/big/") == asked
    said = capsys.readouterr().out
    assert "2 have no label" in said
    assert main(["data", "describe", str(tmp_path / "m21"), "--as-json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["fingerprint"] == report["made_as"]
    assert f"fingerprint: {report['made_as']}\nresults: " in said
    assert run(server, tmp_path / "m21", "--label-with-scryfall") == 0
    assert server.count("/big/") == asked


def test_what_is_in_the_way_is_named_and_kept(server, tmp_path, capsys):
    server.cards = [card("Bear", "Creature — Bear", "G")]
    server.pages[PAGE] = page('<img src="../pics/reg/m21/1.jpg" alt="Bear">')
    assert run(server, tmp_path / "m21") == 0
    (tmp_path / "m21" / "green-creature").write_text("mine")
    assert run(server, tmp_path / "m21", "--label-with-scryfall") == 2
    assert "green-creature' is not a folder, but files go into it" in capsys.readouterr().err
    assert names(tmp_path / "m21") == ["green-creature", "m21_1_Bear.jpg"]


def test_a_picture_lies_in_one_folder(server, tmp_path, capsys):
    server.cards = [card("Bear", "Creature — Bear", "G"), card("Bolt", "Instant", "R")]
    server.pages[PAGE] = page(
        *(f'<img src="../pics/reg/m21/{n}.jpg" alt="{name}">' for n, name in enumerate(["Bear", "Bolt", "Nobody"]))
    )
    assert run(server, tmp_path / "m21", "--label-with-scryfall") == 0
    (tmp_path / "m21" / "m21_2_Nobody.jpg").rename(tmp_path / "m21" / "red-special" / "m21_2_Nobody.jpg")
    before, asked = names(tmp_path / "m21"), server.count("/big/")
    assert run(server, tmp_path / "m21") == 0
    assert run(server, tmp_path / "m21", "--label-with-scryfall") == 0
    assert (names(tmp_path / "m21"), server.count("/big/")) == (before, asked)

    (tmp_path / "own.yaml").write_text("- {types: Creature, labels: '{rarity}'}\n")
    capsys.readouterr()
    options = ["--label-with-scryfall", "--labels", tmp_path / "own.yaml"]
    assert run(server, tmp_path / "m21", *options) == 2
    assert "holds 1 of these pictures under other labels, such as 'green-creature/m21_0_Bear.jpg'" in (
        capsys.readouterr().err
    )
    assert (names(tmp_path / "m21"), server.count("/big/")) == (before, asked)


@pytest.mark.slow
def test_killed_and_resumed_it_makes_the_same_tree_at_a_polite_rate(tmp_path):
    with CardServer() as server:
        server.pages[PAGE] = page(*(f'<img src="../pics/reg/m21/{n}.jpg" alt="Card {n} - X">' for n in range(10)))
        command = [sys.executable, "-m", "trainer.cli", "data", "mtgpics", "--deck-url", server.url + PAGE]
        environment = os.environ | {"MANASIGHT_HOME": str(tmp_path / "home")}
        out = tmp_path / "out"
        for count, end in ((2, signal.SIGKILL), (5, signal.SIGTERM)):
            process = subprocess.Popen([*command, "--save-dir", str(out)], env=environment)
            while len(list(out.glob("[!.]*.jpg"))) < count:
                assert process.poll() is None
                time.sleep(0.01)
            process.send_signal(end)
            assert process.wait(30) != 0
        subprocess.run([*command, "--save-dir", str(out)], env=environment, check=True)
        assert names(out) == sorted(f"m21_{n}_Card_{n}.jpg" for n in range(10))
        assert all((out / f"m21_{n}_Card_{n}.jpg").read_bytes() == picture(f"/pics/big/m21/{n}.jpg") for n in range(10))
        assert server.most_in(1.0) <= 2
        assert server.count(".jpg") <= 12
