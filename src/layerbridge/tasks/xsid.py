"""xSID: what does a request to an assistant want? 18 intents, 19 languages and dialects.

van der Goot et al. 2021 (arXiv 2105.07316), release 0.7 with the dialects of Winkler et al. 2024.
Training rows are English, of two sources that were put together, hence the two styles of label.

What was found in release 0.7:

- Every label of a validation or test set is a training label; 3 of the 18 are in no test set.
- Row n is the same request in every language, with these exceptions: ``de-ba`` goes another way
  after some 150 rows and ``no`` has each set in 11 dialects, 5500 and 3300 rows, in an order of its
  own. Their rows get ids that pair with no other language. ``ja`` has the first half only.
- 26 test rows of ``ar`` have another label than the English row. They stay as they are.
- 48 of the 300 English validation rows have a text of the English test set, and are left out.
- A few training texts are there under two labels.
"""

from __future__ import annotations

from layerbridge.tasks.benchmark import Benchmark
from layerbridge.tasks.labels import Labels


class Xsid(Benchmark):
    """Intents in 19 languages and dialects, local files only; the options are ``Benchmark``'s."""

    name = "xsid"
    description = "The intent of a request to an assistant (xSID 0.7)."
    labels = Labels(
        {
            "weather/find": "find weather",
            "weather/checkSunrise": "check sunrise",
            "weather/checkSunset": "check sunset",
            "alarm/set_alarm": "set alarm",
            "alarm/cancel_alarm": "cancel alarm",
            "alarm/show_alarms": "show alarms",
            "alarm/modify_alarm": "change alarm",
            "alarm/snooze_alarm": "snooze alarm",
            "alarm/time_left_on_alarm": "time left on alarm",
            "reminder/set_reminder": "set reminder",
            "reminder/cancel_reminder": "cancel reminder",
            "reminder/show_reminders": "show reminders",
            "PlayMusic": "play music",
            "AddToPlaylist": "add to playlist",
            "BookRestaurant": "book restaurant",
            "RateBook": "rate book",
            "SearchCreativeWork": "find creative work",
            "SearchScreeningEvent": "find film screening",
        }
    )
    options = labels.options
    known = (
        *("en", "ar", "da", "de", "de-ba", "de-muc", "de-st", "gsw", "id", "it"),
        *("ja", "kk", "lt", "nap", "nl", "no", "sr", "tr", "zh"),
    )
    template = "Request: {text} Intent: "
    target = "intent"
    parallel = True
    unpaired = ("de-ba", "no")
    licence = "CC-BY-SA-4.0"

    def hub(self, split: str, language: str) -> str | None:
        """Nowhere: the one copy known of runs code of its own and has a single language."""
        return None
