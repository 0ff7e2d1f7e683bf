from layerbridge.report.plots.palette import palette_of
from layerbridge.report.plots.style import COLORS, color, marker


def test_a_method_keeps_its_color_whatever_it_is_drawn_with(results, result):
    last, token = palette_of(results)["last"], palette_of(results)["token-softmax"]
    assert last != token
    alone = result("LM alone", bridge=False, en=1)
    for drawn in (results[::-1], [*results, alone], [each for each in results if each.seed == 0]):
        palette = palette_of(drawn)
        assert (palette["last"], palette["token-softmax"]) == (last, token)
    assert palette_of([result("token-softmax", en=1)]) == {"token-softmax": token}


def test_others_have_what_is_left_bridges_before_baselines(result):
    known = [result("last", en=1), result("uniform", en=1)]
    others = [result(name, en=1) for name in ("mine", "another", *map(str, range(9)))]
    alone = result("LM alone", bridge=False, en=1)
    palette = palette_of([alone, *others, *known])
    assert palette_of([*known, *others[::-1], alone]) == palette
    looks = {(color(index), marker(index)) for index in palette.values()}
    assert len(looks) == len(palette)
    assert len({color(index) for index in palette.values()}) == len(COLORS)
    assert palette["another"] < palette["mine"]
    few = palette_of([*known, others[0], alone])
    assert len({color(index) for index in few.values()}) == 4
    assert few["mine"] < few["LM alone"]
