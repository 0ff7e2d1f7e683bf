"""The codes by which translation models know languages, from CLDR codes (``codes.json``).

NLLB has the codes of FLORES-200, a language and a script; M2M100 has its own. Where the CLDR has
one code for several of NLLB's, the main variety stands for the whole: coastal Swahili, Northern
Uzbek, Plateau Malagasy. English is in neither table, since it is the target.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

from layerbridge.errors import DataError
from layerbridge.tasks.languages import own_code

_TABLES = json.loads(Path(__file__).with_name("codes.json").read_text(encoding="utf-8"))
NLLB: dict[str, str] = _TABLES["NLLB"]
M2M100: dict[str, str] = _TABLES["M2M100"]

# Some benchmarks name languages as FLORES does.
_FROM_FLORES = {flores: cldr for cldr, flores in reversed(NLLB.items())}
_REGION = re.compile(r"-([A-Z]{2}|[0-9]{3})$")


def code_in(table: Mapping[str, str], language: str, translator: str) -> str:
    """A model's code for a language.

    Args:
        table: of the model's family.
        language: CLDR code, with a region (``pt-BR``) or without, ISO 639-3 or FLORES code.
        translator: name of the model in the error.

    Raises:
        DataError: the model does not have the language.
    """
    code = _FROM_FLORES.get(language, language).replace("_", "-")
    # A region hardly changes how a language is written; a script does, so it always counts.
    for key in (code, _REGION.sub("", code), own_code(code, table)):
        if key in table:
            return table[key]
    raise DataError(
        f"the translator {translator} does not support {language!r}",
        hint="leave the language out, or choose another translator",
    )
