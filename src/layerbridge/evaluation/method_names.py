"""Method names that tell settings apart: a method is its settings, whatever its seed.

Results of one name whose settings differ get a name each, with what differs:
``token-softmax (learning_rate 0.001)``. A setting that a file does not hold, as in older ones, may
be any; such a result joins the only settings it can belong to, or keeps its name.
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from layerbridge.evaluation.results import Result

# The settings of the recipe that a result file holds, see ``evaluator.evaluate``. Unlike in the
# other settings, one that is absent there has its default.
RECIPE = "recipe"
# How states were moved by language; a file without it has uncentered states.
_CENTERING = "centering"

# What does not decide a result, or is the same for all rows that may be compared.
_RESULT = ("options", "task_version", "task_options", "task_file", "command", "language_means")
_BRIDGE = re.compile(
    "training_seed|training_start|usual_any_option|.*_version|.*_revision|encoder_width"
    "|encoder_layers|language_model_width|model_type|use_cache"
)
_RECIPE = re.compile(
    "seed|data_seed|start_seed|run_name|use_cpu|disable_tqdm|report_to|log_.*|logging_.*|dataloader_.*"
    "|push_to_hub|hub_.*|trust_remote_code|allow_pickle|data_dir"
)
_WATCHING = re.compile("save_.*|(do_)?eval_?.*|per_device_eval_batch_size")
_BACKBONES = ("encoder", "language_model")
_FINGERPRINT = "_fingerprint"
# More of them are not all shown.
_MOST = 3
_LONGEST = 24

Place = tuple[str, ...]
_SHOWN: dict[Place, str] = {("normalize",): "length_normalization"}
Settings = dict[Place, Any]
# They are equal to nothing else.
_DEFAULT, _UNKNOWN = object(), object()


def distinguish(results: Sequence[Result]) -> list[Result]:
    """Renames methods that have several settings; the others, and the order, stay.

    Applied to its own output, it changes nothing.
    """
    by_name: dict[tuple[str, str], list[int]] = defaultdict(list)
    for index, result in enumerate(results):
        by_name[result.task, result.method].append(index)
    renamed = list(results)
    for (_, method), indices in by_name.items():
        groups = [
            (settings, [indices[member] for member in members])
            for settings, members in _groups([_settings(results[index]) for index in indices])
        ]
        names = _names(method, [(settings, [results[i] for i in of]) for settings, of in groups])
        for name, (_, members) in zip(names, groups, strict=True):
            for index in members:
                if name != method:
                    renamed[index] = replace(results[index], method=name)
    return renamed


def recorded(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a recipe that a result file holds: those that the bridge's config does not.

    Without seeds, and without what decides only what is logged or kept.

    Args:
        recipe: as ``dataclasses.asdict`` returns it.
    """
    chooses = recipe["training"].get("load_best_model_at_end")
    names = ("task", "task_options", "data", "text", "target", "max_rows", "backbones", "training")
    kept: dict[str, Any] = {}
    for name in names:
        value = recipe[name]
        if isinstance(value, dict):
            value = {
                key: each
                for key, each in value.items()
                if not _RECIPE.fullmatch(key) and (chooses or not _WATCHING.fullmatch(key))
            }
        if value not in (None, {}):
            kept[name] = value
    return kept


def _settings(result: Result) -> Settings:
    """The settings that make a method, by their place in the file."""
    kept = {key: value for key, value in result.settings.items() if key not in _RESULT}
    kept.setdefault(_CENTERING, {"center": "none"})
    if isinstance(kept.get(RECIPE), dict) and "training" in kept[RECIPE]:
        kept[RECIPE] = {**kept[RECIPE], "training": _counted(kept[RECIPE]["training"])}
    shots = kept.get("shots")
    if isinstance(shots, list):  # which rows they are is a matter of the seed
        kept["shots"] = len(shots)
    bridge = kept.get("bridge")
    if isinstance(bridge, dict):
        # Weights have one hash wherever they are.
        hashed = [name for name in _BACKBONES if bridge.get(name + _FINGERPRINT)]
        kept["bridge"] = {
            name: value
            for name, value in bridge.items()
            if not _BRIDGE.fullmatch(name) and name not in hashed
        }
    return dict(_flat(kept, ()))


def _counted(training: Mapping[str, Any]) -> dict[str, Any]:
    """Steps that are a share of all, as in older files, as their number."""
    total, counted = training.get("max_steps", -1), dict(training)
    for name in ("eval_steps", "save_steps"):
        share = training.get(name)
        if isinstance(share, float) and 0 < share < 1 and total > 0:
            counted[name] = math.ceil(share * total)
    return counted


def _flat(value: Any, place: Place) -> list[tuple[Place, Any]]:
    if not isinstance(value, dict):
        return [(place, value)]
    found = [(place, None)] if _is_section(place) else []
    for key, inner in value.items():
        found += _flat(inner, (*place, str(key)))
    return found


def _is_section(place: Place) -> bool:
    """Whether a setting that is absent here has its default; elsewhere it is unknown."""
    return place in ((RECIPE,), (_CENTERING,)) or place[-1:] == ("fusion_options",)


def _value(place: Place, settings: Settings) -> Any:
    """A setting, ``_DEFAULT``, or ``_UNKNOWN``."""
    if place in settings:
        return settings[place]
    known = any(_is_section(place[:n]) and place[:n] in settings for n in range(1, len(place)))
    return _DEFAULT if known else _UNKNOWN


def _agree(first: Settings, other: Settings) -> bool:
    pairs = ((_value(place, first), _value(place, other)) for place in {*first, *other})
    return all(_UNKNOWN in pair or pair[0] == pair[1] for pair in pairs)


def _groups(of: Sequence[Settings]) -> list[tuple[Settings, list[int]]]:
    """Settings with the indices of those that have them, in order of appearance."""
    groups: list[tuple[Settings, list[int]]] = []
    equal: list[Settings] = []
    # Those that say most come first, so that the result does not depend on the order.
    for index in sorted(range(len(of)), key=lambda index: -len(of[index])):
        if of[index] in equal:
            possible = [groups[equal.index(of[index])]]
        else:
            possible = [group for group in groups if _agree(group[0], of[index])]
        if len(possible) == 1:
            possible[0][0].update(of[index])
            possible[0][1].append(index)
        else:
            groups.append((dict(of[index]), [index]))
            equal.append(of[index])
    return sorted(groups, key=lambda group: min(group[1]))


def _names(method: str, groups: Sequence[tuple[Settings, list[Result]]]) -> list[str]:
    """A name for each group: the method's, with what differs between them."""
    if len(groups) == 1:
        return [method]
    places = dict.fromkeys(place for settings, _ in groups for place in settings)
    columns = {
        place: [_text(place, settings, results) for settings, results in groups]
        for place in places
        if not _is_section(place) and _differs(place, [settings for settings, _ in groups])
    }
    shown = list(columns)
    if len(shown) > _MOST:
        shown = []
        for place in columns:
            if _rows([*shown, place], columns) > _rows(shown, columns):
                shown.append(place)
    names = []
    for number in range(len(groups)):
        texts = [columns[place][number] for place in shown if columns[place][number]]
        if texts and len(shown) < len(columns):
            texts.append("…")
        name = f"{method} ({', '.join(texts)})" if texts else method
        names.append(name if name not in names else f"{name} #{number + 1}")
    return names


def _rows(places: Sequence[Place], columns: Mapping[Place, list[str]]) -> int:
    """How many groups these settings tell apart."""
    return len(set(zip(*(columns[place] for place in places), strict=True))) if places else 1


def _differs(place: Place, of: Sequence[Settings]) -> bool:
    known = [value for settings in of if (value := _value(place, settings)) is not _UNKNOWN]
    return any(value != known[0] for value in known)


def _text(place: Place, settings: Settings, results: Sequence[Result]) -> str:
    """A setting as names show it: ``learning_rate 0.001``; empty if it is unknown."""
    value = _value(place, settings)
    if value is _UNKNOWN:
        return ""
    name = _SHOWN.get(place, place[-1])
    if value is _DEFAULT:
        return f"{name} default"
    if name.endswith(_FINGERPRINT):
        name = name.removesuffix(_FINGERPRINT)
        models = [result.settings["bridge"].get(name) for result in results]
        return f"{name} {re.split(r'[/:]', str(models[0]))[-1]} {value[:4]}"
    if isinstance(value, float):
        return f"{name} {value:g}"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    text = {"null": "none"}.get(text, text)
    return f"{name} {text}" if len(text) <= _LONGEST else f"{name} {text[: _LONGEST - 1]}…"
