"""The page: all in one file, nothing from elsewhere, and nobody's names become part of it."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest

from dreamer.simulations.report.compare import compare
from dreamer.simulations.report.page import comparison_page, page
from dreamer.simulations.report.pictures import overlaid_completion
from dreamer.simulations.report.result import NodeResult

VOID = {"meta", "br"}
FETCHING = {"src", "srcset", "data", "poster", "background", "action", "formaction", "ping"}
ALLOWED_REFERENCE = re.compile(r"#[\w-]+|url\(#[\w-]+\)")


class Reader(HTMLParser):
    """Collects what a browser would fetch or run, and whether tags are closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.suspicious: list[tuple[str, str, str | None]] = []
        self.tags: list[str] = []
        self.policy = ""
        self.style = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            reference = name in {"href", "xlink:href", "clip-path"}
            harmless = reference and ALLOWED_REFERENCE.fullmatch(value or "")
            active = name in FETCHING or name == "style" or name.startswith("on")
            if active or (reference and not harmless):
                self.suspicious.append((tag, name, value))
        if dict(attrs).get("http-equiv") == "Content-Security-Policy":
            self.policy = dict(attrs)["content"]

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "style":
            self.style += data


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert not reader.open
    return reader


@pytest.fixture(scope="module")
def html(written):
    return (written / "report.html").read_text("utf-8")


def test_a_page_fetches_nothing_and_runs_nothing(html):
    reader = read(html)
    assert not reader.suspicious
    assert not {"script", "link", "iframe", "img", "object", "embed", "base"} & set(reader.tags)
    assert "@import" not in reader.style
    assert "url(" not in reader.style


def test_a_page_holds_to_the_strict_policy_that_it_carries(html):
    reader = read(html)
    digest = base64.b64encode(hashlib.sha256(reader.style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in reader.policy
    assert "default-src 'none'" in reader.policy
    assert "unsafe" not in reader.policy
    # Its one style is in its head: none came with a picture.
    assert reader.tags.count("style") == 1


def test_a_page_shows_all_pictures_each_with_how_to_read_it(html):
    names = re.findall(r'<figure id="(\w+)">', html)
    assert names == ["completion", "lanes", "origin", "relay", "load", "costs"]
    assert html.count("<svg ") == html.count("<figcaption>") == 6


def test_a_page_says_figures_groups_the_slowest_and_how_to_replay(html):
    for words in (
        "Everybody pulls a new model at once.",
        "4 of 4",
        '<th scope="row">office</th>',
        '<th scope="row">laptop-3</th>',
        "all held, at each of 12,345 checks",
        "dreamer-sim run flash-crowd --nodes 4 --seed 7",
    ):
        assert words in html


def test_pictures_in_a_page_take_its_ink_and_paper(html):
    drawings = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
    assert all("currentColor" in one for one in drawings)
    assert not any("#ffffff" in one or 'width="518' in one for one in drawings)


def test_names_of_others_stay_text(run, machine):
    evil = "<script>alert(1)</script>\"'&{{ 7 * 7 }}"
    node = NodeResult(evil, evil, 0, 0, {}, {}, {evil: evil}, stayed=True)
    result = run(
        scenario=evil,
        about=evil,
        replay=evil,
        each=[node, machine(1, pulled_s={evil: 3.0})],
        violations=[evil],
        missed=[evil],
    )
    reader = read(page(result, []))
    assert "script" not in reader.tags
    html = page(result, [])
    assert html.count("&lt;script&gt;") >= 9
    assert "49" not in html.split("</style>")[1]


def test_names_in_a_picture_stay_text(run, machine):
    evil = "</text><script>"
    each = [machine(0, pulled_s={evil: 3.0, "b": 1.0})]
    shown = [overlaid_completion(run(scenario=evil, each=each), run())]
    reader = read(page(run(each=each, scenario=evil), shown))
    assert "script" not in reader.tags


def test_hundreds_of_broken_invariants_do_not_bury_the_page(run):
    html = page(run(violations=[f"broken number {at}" for at in range(500)]), [])
    first, _, folded = html.partition("<details>")
    assert "(500)" in first
    assert "broken number 4<" in first
    assert "broken number 5<" not in first
    assert "and 495 more" in folded
    assert "broken number 99<" in folded
    assert "broken number 100<" not in folded
    assert "The other 400 are in" in folded


def test_a_run_in_which_nothing_moved_has_a_page(bare_run):
    html = page(bare_run, [])
    assert "not whole" in html
    assert "nobody holds it" in html
    assert "none were checked" in html


def test_a_comparison_is_a_page_with_both_curves(run):
    a, b = run(), run(seed=8, last_s=140.0)
    html = comparison_page(compare(a, b), [overlaid_completion(a, b)])
    assert not read(html).suspicious
    assert '<td class="worse">worse</td>' in html
    assert "seed: 7 in A, 8 in B" in html
    assert "B: 4 of 4" in html
