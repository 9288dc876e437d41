"""The pages in a real browser: look, review, draw, and come back to it. Needs Chromium and the viewer's built files."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_maps import blob
from scanned_batch import COLUMNS, ROWS, SECOND, SQUARE, STRIDE, half_scanned, write_slide
from scipy import ndimage
from scipy.special import expit, logit

import sentinode
from sentinode.app import serving
from sentinode.errors import SlideError
from sentinode.locks import lock
from sentinode.model.slide_operating_point import ChosenOn
from sentinode.slides.reading.annotations import read_annotations
from sentinode.slides.results.outline import outline
from sentinode.slides.results.outputs import TOTALS
from sentinode.slides.review import LOG
from sentinode.slides.scanning.manifest import MANIFEST
from sentinode.slides.scanning.probability_map import RECORD, write_map

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed: pip install playwright")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
AXE = Path(__file__).parents[2] / "web" / "node_modules" / "axe-core" / "axe.min.js"
PATIENCE_MS = 20_000

if CHROMIUM is None:
    pytest.skip("there is no Chromium on this machine: apt-get install chromium", allow_module_level=True)
try:
    serving.require_viewer()
except SlideError as lack:
    pytest.skip(str(lack), allow_module_level=True)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"] if root else [])
        yield opened
        opened.close()


@pytest.fixture
def url(maps: Path) -> Iterator[str]:
    shown = sentinode.view(maps, still=False, reviewer="ada")
    yield str(shown.url)
    shown.close()


class Window:
    """A window on the viewer; what its console says, and what it asked the server for, is kept."""

    def __init__(self, browser: Any, url: str, **options: Any) -> None:
        # Without motion a glide ends at once, and nothing has to be waited for.
        self.context = browser.new_context(viewport={"width": 1280, "height": 800}, reduced_motion="reduce", **options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE_MS)
        self.url, self.faults, self.requests = url, [], []
        self.page.on(
            "console", lambda line: self.faults.append(line.text) if line.type in ("error", "warning") else None
        )
        self.page.on("pageerror", lambda error: self.faults.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(url)

    def set(self, control: str, value: float | str) -> None:
        """Set a control of the map as a hand would."""
        self.js(
            """([id, value]) => { const control = document.getElementById(id);
            control.value = value; control.dispatchEvent(new Event('input')); }""",
            [control, str(value)],
        )

    def open(self, name: str = "painted") -> Window:
        self.page.click(f"a.name:text('{name}')")
        self.wait_until_ready()
        return self

    def wait_until_ready(self) -> None:
        self.page.wait_for_selector("body[data-ready]")
        # The browser drops keys until it has drawn a page once.
        self.js("() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def js(self, script: str, argument: object = None) -> Any:
        return self.page.evaluate(script, argument)

    def wait(self, condition: str, argument: object = None) -> None:
        self.page.wait_for_function(condition, arg=argument)

    def at_rest(self) -> None:
        """Wait until the slide no longer moves."""
        self.js(
            """async () => { const v = sentinode.viewer.viewport; let last = '';
            for (;;) { await new Promise(r => setTimeout(r, 50)); const now = JSON.stringify(v.getBounds(true));
                       if (now === last) return; last = now; } }"""
        )

    def saved(self) -> None:
        self.page.wait_for_selector("#saved:has-text('Saved at')")


@pytest.fixture
def window(browser: Any, url: str) -> Iterator[Window]:
    opened = Window(browser, url)
    yield opened
    assert opened.faults == []
    opened.context.close()


def middle_of(box: tuple[int, int, int, int]) -> tuple[float, float]:
    top, left, bottom, right = box
    return (left + right) / 2 * STRIDE, (top + bottom) / 2 * STRIDE


def test_from_the_list_to_a_lesion_with_the_keys(window: Window) -> None:
    window.page.wait_for_selector("#summary:has-text('2 slides, 0 reviewed')")
    window.open()
    assert window.page.inner_text("#regions") == "2 regions above the threshold"
    assert [line.split()[1] for line in window.page.locator("#lesions button").all_inner_texts()] == ["1", "2"]
    for box in (SQUARE, SECOND):
        window.press("n")
        window.at_rest()
        x, y = window.js("() => sentinode.tool.middle()")
        assert (x, y) == pytest.approx(middle_of(box), abs=2)
    window.press("p")
    assert "Lesion 1" in window.page.inner_text("#lesions button[aria-current=true]")


def test_the_threshold_moves_the_outlines_without_a_request(window: Window) -> None:
    window.open()
    window.page.wait_for_load_state("networkidle")
    before, asked = window.js("() => sentinode.overlay.lines.length"), len(window.requests)
    window.set("threshold", 0.95)
    assert window.page.inner_text("#regions") == "1 region above the threshold"
    assert window.js("() => sentinode.overlay.lines.length") < before
    for control, value in (("opacity", 0.3), ("smoothing", 96), ("colours", "magma")):
        window.set(control, value)
    window.press("s", "[", "]", "{", "}", "h", "o", "j", "k")
    assert [request for request in window.requests[asked:] if not request.endswith("/review")] == []


@pytest.mark.parametrize("on", ["probability", "log-odds"])
def test_smoothing_is_that_of_the_scan_and_outlines_follow_its_windows(window: Window, maps: Path, on: str) -> None:
    window.open()
    rng = np.random.default_rng(3)
    p = rng.random((ROWS, COLUMNS)).astype(np.float32)
    p[rng.random(p.shape) < 0.2] = np.nan
    codes = (rng.random(p.shape) < 0.1).astype(np.uint8)
    rule = {"on": on, "limit": 6, "sigma_um": 40, "reach": 3, "cut": 0.1}
    levels, lines, regions = window.js(
        """async ([rule, p, codes]) => {
        const { ProbabilityMap } = await import(new URL('../static/map.js', location.href));
        const map = new ProbabilityMap({ ...sentinode.about.map, rule, prior: 0.05 },
          new Float32Array(p.map((value) => value ?? NaN)).buffer, new Uint8Array(codes));
        const { lines, regions } = map.outlines(0.5);
        return [[...map.levels].map((value) => Number.isNaN(value) ? -1 : value), lines, regions]; }""",
        [rule, [None if np.isnan(value) else float(value) for value in p.ravel()], codes.ravel().tolist()],
    )
    known = ~np.isnan(p) & (codes == 0)
    even = logit(np.where(known, p, 0.5).astype(float))
    even = expit(even - logit(0.1)) if on == "probability" else np.clip(even - logit(0.05), -6, 6)
    total, share = (
        ndimage.gaussian_filter(values, 40 / (STRIDE * 0.972), mode="constant", truncate=3)
        for values in (np.where(known, even, 0.0), known.astype(float))
    )
    mean = np.divide(total, share, out=np.full_like(total, np.nan), where=known)
    wanted = mean if on == "probability" else expit(mean - logit(0.1) + logit(0.05))
    np.testing.assert_allclose(np.reshape(levels, p.shape), np.where(known, wanted, -1), atol=1e-5)
    inside = np.where(known, wanted, 0) >= 0.5
    assert regions == ndimage.label(inside, np.ones((3, 3)))[1]
    ends = np.reshape(lines, (-1, 4))
    assert np.abs(ends[:, :2] - ends[:, 2:]).sum() == outline(inside).length


def test_a_lesion_is_rejected_by_one_key_and_stays_so(window: Window, maps: Path) -> None:
    window.open()
    window.press("n", "1")
    window.saved()
    assert "germinal centre" in window.page.inner_text("#lesions button[aria-current=true]")
    window.page.reload()
    window.wait_until_ready()
    assert "germinal centre" in window.page.inner_text("#lesions li:first-child")
    assert window.page.inner_text("#progress") == "1 of 2 reviewed"
    (entry,) = (json.loads(line) for line in (maps / "painted" / LOG).read_text("utf-8").splitlines())
    assert entry["who"] == "ada" and entry["operation"]["label"] == "germinal centre"


def test_verdicts_comments_and_undo(window: Window) -> None:
    window.open()
    window.press("n", "a")
    window.saved()
    window.press("u", "z", "z")
    window.wait("() => sentinode.review.state.revision === 4 && !Object.values(sentinode.review.state.judged).length")
    window.press("y")
    window.wait("() => Object.values(sentinode.review.state.judged)[0]?.verdict === 'accepted'")
    window.press("x", "r", "w")
    window.wait("() => Object.values(sentinode.review.state.judged)[0]?.verdict === 'rejected'")
    window.wait("() => sentinode.review.state.whole")
    window.press("q")
    assert "Lesion 2" in window.page.inner_text("#lesions button[aria-current=true]")
    window.press("p")
    window.press("c")
    window.page.keyboard.type("near a follicle")
    window.press("Escape")
    window.wait("() => Object.values(sentinode.review.state.judged)[0].comment === 'near a follicle'")


def test_a_region_is_drawn_with_the_mouse_kept_and_exported(window: Window, maps: Path, tmp_path: Path) -> None:
    window.open()
    window.press("n", "a", "n", "2", "d")
    window.at_rest()
    box = window.page.locator("#tool").bounding_box()
    for x, y in ((200, 150), (300, 150), (300, 250), (200, 250)):
        window.page.mouse.click(box["x"] + x, box["y"] + y)
    wanted = [window.js("([x, y]) => sentinode.tool.slidePoint(x, y)", place) for place in ((200, 150), (300, 250))]
    window.press("Enter", "Escape")
    window.wait("() => sentinode.review.state.drawings.length === 1")
    window.page.reload()
    window.wait_until_ready()
    assert window.page.locator("#drawings li").count() == 1
    with window.page.expect_download() as download:
        window.page.click("#export")
    assert download.value.suggested_filename == "painted.geojson"
    download.value.save_as(tmp_path / "painted.geojson")
    read = read_annotations(tmp_path / "painted.geojson")
    drawn = next(region.shape for region in read.tumour if region.name.startswith("Drawn"))
    assert drawn.bounds == pytest.approx([*wanted[0], *wanted[1]], abs=1)


def test_a_region_is_drawn_with_keys_alone(window: Window) -> None:
    window.open()
    window.press("n")
    window.at_rest()
    window.press("d", "m", " ")
    for key in ("ArrowRight", "ArrowDown", "ArrowLeft"):
        window.press(key)
        window.at_rest()
        window.press(" ")
    window.press("Backspace", " ", "Enter")
    window.wait("() => sentinode.review.state.drawings[0]?.meaning === 'normal'")
    (ring,) = window.js("() => sentinode.review.state.drawings[0].rings")
    assert len(ring) == 5
    window.press("Escape", "Delete")
    window.wait("() => sentinode.review.state.drawings.length === 0")


def test_a_stroke_of_the_brush(window: Window) -> None:
    window.open()
    window.press("b")
    box = window.page.locator("#tool").bounding_box()
    window.page.mouse.move(box["x"] + 300, box["y"] + 300)
    window.page.mouse.down()
    window.page.mouse.move(box["x"] + 400, box["y"] + 320, steps=5)
    window.page.mouse.up()
    window.wait("() => sentinode.review.state.drawings.length === 1")


BOTH = """() => Object.values(sentinode.review.state.judged).map(each => each.verdict).sort().join()
          === 'accepted,rejected'"""


def test_two_windows_on_one_slide_see_each_others_work(browser: Any, url: str) -> None:
    ada, ben = (Window(browser, url).open() for _ in range(2))
    ada.press("n", "a")
    ben.press("n", "n", "r")
    for window in (ada, ben):
        window.wait(BOTH)
        assert window.page.inner_text("#progress") == "2 of 2 reviewed"
        assert window.faults == []
        window.context.close()


def test_a_review_that_cannot_be_sent_waits_and_is_sent_again(window: Window, maps: Path) -> None:
    window.open()
    window.page.route("**/review", lambda route: route.abort())
    window.press("n")
    window.wait("() => sentinode.chosen !== null")
    window.press("a")
    window.wait("() => sentinode.review.queue.length === 1")
    window.page.wait_for_selector("#saved:has-text('does not answer')")
    assert not (maps / "painted" / LOG).exists()
    window.page.unroute("**/review")
    window.saved()
    assert (maps / "painted" / LOG).exists()
    window.faults = [fault for fault in window.faults if "ERR_FAILED" not in fault]


def test_a_slide_that_is_gone_is_named_and_its_map_shown(window: Window, maps: Path) -> None:
    (maps.parent / "slides" / "painted.tif").unlink()
    window.open()
    assert "the slide is not there" in window.page.inner_text("#notice")
    assert window.page.inner_text("#regions") == "2 regions above the threshold"
    window.press("n", "a")
    window.saved()


def add_uncertain(maps: Path) -> None:
    """An uncertain region, windows that cannot be judged, and a point that was chosen on other maps."""
    path = maps / "painted" / TOTALS
    region = {"number": 3, "score": 0.4, "diameter_um": 200.0, "centroid_x": 1200.0, "centroid_y": 900.0}
    chosen_on = ChosenOn(description="built slides", slides=9, positive=4, negative=5, lesions=7, window_um=90.0)
    point = {"name": "balanced", "chosen_on": chosen_on.model_dump()}
    more = {"uncertain": [region], "operating_point": point, "window_um": 31.1, "engine": "torch cpu float32"}
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | more), encoding="utf-8")
    codes = np.zeros((ROWS, COLUMNS), np.uint8)
    codes[SQUARE[0] : SQUARE[2], SQUARE[1] : SQUARE[3]] = 2
    write_map(maps / "painted", replace(sentinode.open_map(maps / "painted"), quality=codes))


def test_what_is_uncertain_or_cannot_be_judged_is_shown_as_such(window: Window, maps: Path) -> None:
    add_uncertain(maps)
    window.open()
    assert window.page.inner_text("#regions") == "1 region above the threshold"
    assert "this map has one every 31.1 µm: its figures do not hold here" in window.page.inner_text("#caution")
    window.press("n")
    window.at_rest()
    assert window.page.inner_text("#pointer").endswith("not judged: ink")
    window.press("n", "n")
    window.at_rest()
    assert window.js("() => sentinode.tool.middle()") == pytest.approx([1200, 900], abs=2)
    window.press("u")
    assert "only lesions can be unsure" in window.page.inner_text("#saved")
    window.press("a")
    window.wait("() => sentinode.review.state.drawings[0]?.meaning === 'tumour'")
    xs, ys = zip(*window.js("() => sentinode.review.state.drawings[0].rings[0]"), strict=True)
    assert (min(xs) + max(xs)) / 2 == pytest.approx(1200, abs=1) and (min(ys) + max(ys)) / 2 == pytest.approx(
        900, abs=1
    )


def test_a_scan_on_its_way_fills_in_and_ends_in_its_lesions(window: Window, maps: Path) -> None:
    folder = maps / "painted"
    record, manifest = (folder / RECORD).read_bytes(), (folder / MANIFEST).read_bytes()
    half_scanned(folder, share=0.3)
    with lock(maps, "painted"):
        window.page.wait_for_selector("#slides .bar.running")
        window.open()
        assert "Being scanned" in window.page.inner_text("#scanning-title")
        assert not window.page.locator("#lesions").is_visible()
        early = window.js("() => sentinode.map.raw.filter((p) => p === p).length")
        (folder / RECORD).write_bytes(record)
        half_scanned(folder, share=0.8)
        window.wait("(early) => sentinode.map.raw.filter((p) => p === p).length > 2 * early", early)
        window.js("() => sentinode.viewer.viewport.zoomTo(3, null, true)")
    window.page.wait_for_selector("#scanning-title:has-text('Stopped at')")
    assert window.page.inner_text("#resume").startswith("sentinode scan ")
    (folder / RECORD).write_bytes(record)
    (folder / MANIFEST).write_bytes(manifest)
    window.page.wait_for_selector("#lesions li")
    window.wait_until_ready()
    assert window.js("() => sentinode.viewer.viewport.getZoom()") == pytest.approx(3), "the page stays at its place"


def draw_square(window: Window) -> str:
    """A square of 400 pixels is drawn and chosen; gives its identifier."""
    points = [[400, 400], [800, 400], [800, 800], [400, 800]]
    identifier = window.js(
        "(points) => sentinode.review.add({ kind: 'draw', meaning: 'tumour', label: null, points, radius: null })",
        points,
    )
    window.wait("() => sentinode.review.state.drawings.length === 1")
    window.press("n", "n", "n")
    window.at_rest()
    return str(identifier)


def corners(window: Window) -> list[tuple[float, float]]:
    """The corners of the only drawing."""
    (ring,) = window.js("() => sentinode.review.state.drawings[0].rings")
    return sorted({(float(x), float(y)) for x, y in ring})


def test_a_drawing_is_edited_and_relabelled_with_keys_alone(window: Window) -> None:
    window.open()
    draw_square(window)
    before = corners(window)
    window.press("e", "n")
    window.at_rest()
    here = window.js("() => sentinode.editor.corner()")
    assert window.js("() => sentinode.tool.middle()") == pytest.approx(here, abs=1)
    window.press("ArrowLeft")
    window.at_rest()
    there = window.js("() => sentinode.tool.middle()")
    window.press(" ")  # the corner moves
    window.press("ArrowDown")
    window.at_rest()
    window.press("i", "z", "i", "Backspace")  # a corner is added, taken back, added and removed
    window.press("Enter")
    window.wait("() => sentinode.review.state.revision === 2")
    after = corners(window)
    assert len(after) == 4 and len(set(before) & set(after)) == 3
    assert min(abs(x - there[0]) + abs(y - there[1]) for x, y in after) < 1
    window.press("e", "Delete", "Escape")
    assert corners(window) == after and "Nothing was changed" in window.page.inner_text("#saved")
    window.press("3")
    window.wait("() => sentinode.review.state.drawings[0].label === 'blood vessel'")
    window.press("m")
    window.wait("() => sentinode.review.state.drawings[0].meaning === 'tumour'")
    window.press("z", "z", "z")
    window.wait("() => sentinode.review.state.revision === 7")
    assert corners(window) == before
    window.press("Delete")
    window.wait("() => sentinode.review.state.drawings.length === 0")


def test_corners_are_dragged_added_and_removed_with_the_mouse(window: Window) -> None:
    window.open()
    draw_square(window)
    window.press("e")
    box = window.page.locator("#tool").bounding_box()

    def place(x: float, y: float) -> tuple[float, float]:
        left, top = window.js("(corner) => sentinode.editor.screen(corner)", [x, y])
        return box["x"] + left, box["y"] + top

    def drag(start: tuple[float, float], end: tuple[float, float]) -> None:
        window.page.mouse.move(*place(*start))
        window.page.mouse.down()
        window.page.mouse.move(*place(*end), steps=3)
        window.page.mouse.up()

    drag((800, 800), (900, 900))
    drag((600, 400), (600, 300))  # an edge: a corner is added
    window.page.mouse.dblclick(*place(400, 800))
    window.press("Enter")
    window.wait("() => sentinode.review.state.revision === 2")
    wanted = [(400, 400), (600, 300), (800, 400), (900, 900)]
    np.testing.assert_allclose(corners(window), wanted, atol=4)
    window.press("z")
    window.wait("() => sentinode.review.state.revision === 3")
    assert len(corners(window)) == 4


def test_help_shows_every_key_and_escape_closes_it(window: Window) -> None:
    window.open()
    window.press("?")
    assert "next lesion that is not reviewed" in window.page.inner_text("#help-dialog")
    window.press("Escape")
    assert not window.page.locator("#help-dialog").is_visible()


@pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not there: python web/build.py")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_serious_is_found_for_those_who_see_or_point_otherwise(
    browser: Any, url: str, maps: Path, scheme: str
) -> None:
    add_uncertain(maps)
    window = Window(browser, url, color_scheme=scheme, bypass_csp=True)
    window.page.wait_for_selector(".slides li")
    assert serious(window) == []
    window.open()
    window.press("n", "1", "n", "a")
    window.saved()
    assert serious(window) == []
    window.page.set_viewport_size({"width": 390, "height": 844})
    window.press("k", "?")
    assert serious(window) == []
    assert window.js("() => document.documentElement.scrollWidth <= innerWidth"), "the page is wider than a phone"
    window.context.close()


def serious(window: Window) -> list[str]:
    """What axe-core finds that is serious or critical."""
    window.page.add_script_tag(path=str(AXE))
    found = window.js("async () => (await axe.run()).violations")
    return [
        f"{each['id']}: {[node['target'] for node in each['nodes']][:3]}"
        for each in found
        if each["impact"] in ("serious", "critical")
    ]


MEASURE = """(side) => {
  // Where a row or column through the square's middle turns from one colour to the other, to a fraction of a pixel:
  // the length that lies inside, over a stretch around the edge, averaged over some rows.
  const { overlay, viewer } = sentinode;
  const [a, b, c, d, e, f] = overlay.transform();
  const [left, top, right, bottom] = side.box;
  const [x0, y0] = [a * left + c * top + e, b * left + d * top + f];
  const [x1, y1] = [a * right + c * bottom + e, b * right + d * bottom + f];
  const expected = Math.min(x0, x1);
  const middle = Math.round((y0 + y1) / 2);
  const reach = 14;
  const start = Math.round(expected) - reach;
  const edge = (canvas, value) => {
    const data = canvas.getContext('2d').getImageData(start, middle - 3, 2 * reach, 7).data;
    const row = Array.from({ length: 2 * reach }, (_, i) => {
      let sum = 0;
      for (let j = 0; j < 7; j++) sum += value(data.slice(4 * (j * 2 * reach + i), 4 * (j * 2 * reach + i) + 4));
      return sum / 7;
    });
    const [outside, inside] = [(row[0] + row[1]) / 2, (row.at(-1) + row.at(-2)) / 2];
    return start + 2 * reach - row.reduce((sum, v) => sum + (v - outside) / (inside - outside), 0);
  };
  const slide = edge(viewer.drawer.canvas, (pixel) => pixel[1]);
  const heat = edge(document.getElementById('overlay'), (pixel) => pixel[3]);
  return { expected, slide, heat };
}"""


def test_the_map_lies_on_the_slide_to_half_a_pixel_of_the_screen(browser: Any, tmp_path: Path) -> None:
    """A dark square and a map with its windows, on a slide whose sides halve to no whole numbers."""
    top, left, bottom, right = 16, 20, 22, 27
    picture = np.full((ROWS * STRIDE + 3, 1617, 3), 230, np.uint8)
    picture[top * STRIDE : bottom * STRIDE, left * STRIDE : right * STRIDE] = 40
    probabilities = blob(ROWS, 50, (top, left, bottom, right), high=0.999, low=0.001)
    write_slide(
        tmp_path / "square.tif", tmp_path / "maps" / "square", picture, probabilities, [(top, left, bottom, right)]
    )
    shown = sentinode.view(tmp_path / "maps", still=False)
    window = Window(browser, str(shown.url)).open("square")
    window.set("smoothing", 0)
    window.press("o")
    box = [left * STRIDE, top * STRIDE, right * STRIDE, bottom * STRIDE]
    for rotation in (0, 90):
        for micron in (2.5, 1.7, 0.972, 0.6, 0.31, 0.15):
            window.js(
                """([rotation, micron, [left, top, right, bottom]]) => {
                const { viewer, about } = sentinode, unit = about.map.padded[0], viewport = viewer.viewport;
                viewport.setRotation(rotation, true);
                viewport.zoomTo(unit * about.map.mpp / micron / viewport.getContainerSize().x, null, true);
                const [x, y] = rotation ? [(left + right) / 2, bottom] : [left, (top + bottom) / 2];
                viewport.panTo(new OpenSeadragon.Point((x + 0.37) / unit, (y + 0.21) / unit), true); }""",
                [rotation, micron, box],
            )
            window.at_rest()
            window.wait("() => sentinode.viewer.world.getItemAt(0).getFullyLoaded()")
            window.page.wait_for_timeout(250)
            found = window.js(MEASURE, {"box": box})
            for what in ("slide", "heat"):
                assert found[what] == pytest.approx(found["expected"], abs=0.5), f"{what} at {micron} um, {rotation}"
    window.context.close()
    shown.close()
