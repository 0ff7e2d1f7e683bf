"""A task of a few rows in several languages; the targets go round the options."""

from layerbridge.tasks import Row, Task


class SmallTask(Task):
    """Its subclass sets ``options`` and ``texts``: language → texts."""

    name = "small"
    description = "A task of the tests."
    template = "{text}"
    licence = "none"
    texts: dict[str, list[str]]

    @property
    def languages(self):
        return tuple(self.texts)

    def _train(self):
        return []

    def _validation(self):
        return []

    def _test(self, language):
        return [
            Row(f"{language}-{n}", text, self.options[n % len(self.options)], language)
            for n, text in enumerate(self.texts[language])
        ]
