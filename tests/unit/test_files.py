"""Files that are written as a whole or not at all."""

import resource

import pytest

from trainer.files import write_whole
from trainer.report.html import save_page
from trainer.tracking.runs import remember_run


def test_a_full_disk_leaves_no_part_of_a_file(tmp_path, monkeypatch):
    monkeypatch.setenv("MANASIGHT_HOME", str(tmp_path))
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, usual[1]))
    try:
        for write in (
            lambda: write_whole(tmp_path / "cards" / "a.jpg", bytes(20)),
            lambda: save_page("title", "subtitle", [], tmp_path / "page.html"),
            lambda: remember_run("0123456789abcdef"),
        ):
            with pytest.raises(OSError, match="File too large"):
                write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
