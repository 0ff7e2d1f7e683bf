"""``layerbridge chat``: a bridge in a terminal.

Only the bridge's answers are on stdout; notes, bars and maps are on stderr.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING

import typer

from layerbridge.cli import options as o
from layerbridge.cli.text_input import stdin_lines
from layerbridge.cli.values import label_words, load_options
from layerbridge.errors import DataError, LayerBridgeError, missing_extra
from layerbridge.progress import say
from layerbridge.tasks.text import has_surrogate

if TYPE_CHECKING:
    from layerbridge.models.inference import Classification
    from layerbridge.serving.bridges import Bridges

HELP = """\
Type a text in any language; Ctrl-C interrupts an answer.
/options a, b, c   answer with one of these label words; without words: the bridge's own
/free              answer in free text, until the next /options
/instruction TEXT  English prompt for the language model; without TEXT: the bridge's own
/weights           encoder layer weights of each token of the last text
/tokens N          maximum tokens per answer
/help              this help
/quit              quit; so does Ctrl-D
Put a space before a text that begins with /."""

_BAR = 24


def chat(
    context: typer.Context,
    run: o.RunFolder,
    labels: o.Labels = None,
    protocol: str | None = o.option(
        None, "score (one of the label words) or generate (free text); score if there are any."
    ),
    instruction: o.Instruction = None,
    max_new_tokens: o.MaxNewTokens = 64,
    save_history: bool = o.option(True, "Save typed lines for the arrow keys of later chats."),
    dtype: o.Dtype = "auto",
    device: o.Device = None,
    load_in_4bit: o.LoadIn4Bit = False,
    load_in_8bit: o.LoadIn8Bit = False,
    unquantized: o.Unquantized = False,
    device_map: o.DeviceMap = None,
    encoder_device: o.EncoderDevice = None,
    trust_remote_code: o.TrustRemoteCode = False,
    allow_pickle: o.AllowPickle = False,
) -> None:
    """Chat with a bridge.

    It answers with a label word if it was trained on some. /help lists the commands.

    If stdin is not a terminal, every line is a text, and its answer is one line on stdout.
    """
    from layerbridge.cli.chat_input import typed_lines
    from layerbridge.errors import ConfigError
    from layerbridge.evaluation.evaluator import PROTOCOLS
    from layerbridge.serving.bridges import Bridges

    if protocol not in (None, *PROTOCOLS):
        raise ConfigError(f"unknown protocol {protocol!r}", allowed=PROTOCOLS)
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "replace")):
        # Typed bytes that are not UTF-8 are refused line by line, and an answer is shown as far as
        # the terminal can.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=errors)
    words = label_words(labels)
    options = load_options(context.params)
    if sys.stdin.isatty():
        say("loading the models …")
    session = Chat(Bridges.load([run], options, device=str(options.device)), max_new_tokens)
    if words is not None:
        session.options = words
    if protocol == "generate":
        session.options = None
    elif protocol == "score":
        session.options = session.words(session.options)
    if instruction is not None:
        session.instruction = instruction
    if not sys.stdin.isatty():
        session.answer_lines(stdin_lines())
        return
    say(session.introduction)
    with closing(typed_lines(save_history=save_history)) as lines:
        for line in lines:
            session.handle(line)


class Chat:
    """One session. Every text is answered on its own, without the earlier ones.

    Args:
        bridges: exactly one bridge.
        max_tokens: maximum tokens per answer.
    """

    def __init__(self, bridges: Bridges, max_tokens: int) -> None:
        from layerbridge.serving.vocabulary import Vocabulary

        self._bridges = bridges
        (self._name,) = bridges
        self._bridge = bridges[self._name]
        self._vocabulary = Vocabulary(bridges.language_model.tokenizer)
        self.max_tokens = max_tokens
        self.instruction: str | None = None
        # Answers are one of these; free text without any.
        self.options = self._bridge.config.options
        self._found: Classification | None = None  # of the last answer, if it is a label word
        self._last: str | None = None
        self._commands: dict[str, Callable[[str], None]] = {
            "/options": self._set_options,
            "/free": self._set_free,
            "/instruction": self._set_instruction,
            "/weights": self._show_weights,
            "/tokens": self._set_tokens,
            "/help": lambda rest: say(HELP),
        }

    @property
    def introduction(self) -> str:
        """The lines shown at the start."""
        config = self._bridge.config
        lines = [f"{self._name}: {config.encoder} · {config.fusion} · {config.language_model}"]
        if config.template:
            lines.append(f"trained on texts in the form {config.template!r}")
        if config.options:
            lines.append(f"options: {', '.join(config.options)}")
        return "\n".join([*lines, "type a text in any language; /help lists the commands"])

    def answer(self, text: str) -> Iterator[str]:
        """Yields the answer, a label word or the parts of free text, each as soon as it is final.

        Raises:
            LengthError: text and instruction exceed the language model's context.
            NotFiniteError: the numbers of the answer are not finite.
        """
        from layerbridge.models.finite import naming

        self._found = None
        if self.options:
            (found,) = self._bridge.classify(text, self.options, instruction=self.instruction)
            self._found = found
            yield found.choice
            return
        with naming([text]):
            yield from self._write(text)

    def words(self, words: list[str] | None) -> list[str]:
        """Returns label words, or the bridge's own.

        Raises:
            DataError: there are none, or one is empty or a duplicate.
        """
        return self._bridge.option_words(words)

    def _write(self, text: str) -> Iterator[str]:
        from layerbridge.serving.decoding import Decoding, Row
        from layerbridge.serving.detokenizer import Detokenizer
        from layerbridge.serving.requests import Prompt, Sampling

        bridges = self._bridges
        (prompt,) = bridges.embeds([Prompt(self._name, text, self.instruction)])
        room = bridges.max_new_tokens(len(prompt))
        limit = self.max_tokens if room is None else min(self.max_tokens, room)
        stop_ids = set(bridges.language_model.stop_token_ids())
        detokenizer = Detokenizer(self._vocabulary, strip=True)
        decoding = Decoding(bridges.language_model, [prompt], [Row(Sampling(max_tokens=limit))])
        for count in range(1, limit + 1):
            (token,) = decoding.sample()
            if isinstance(token, Exception):
                raise token
            if token.id in stop_ids:
                break
            yield detokenizer.push(token.id)
            if count < limit:
                decoding.advance([token.id])
        yield detokenizer.finish()

    def answer_lines(self, lines: Iterable[str]) -> None:
        """Prints one line per answer, so that line n answers text n.

        At the end, even at an early one, says how many texts were cut, empty or far from training.
        """
        from layerbridge.cli.far_texts import FarTexts
        from layerbridge.training.text_counts import TextCounts, input_counts, notes

        encoder, counts, far = self._bridge.encoder, TextCounts(0, 0, 0), FarTexts()
        try:
            for line in lines:
                counts += input_counts([line], encoder)
                print(" ".join("".join(self.answer(line)).split()), flush=True)
                far.add(self._found)
        finally:
            for note in notes({"the input": counts}, encoder.max_text_tokens):
                say(note)
            far.say()

    def handle(self, line: str) -> None:
        """Handles a typed line, a text or a command; an error or Ctrl-C ends only this line."""
        try:
            if has_surrogate(line):
                raise DataError("the line is not UTF-8", hint="set the terminal to UTF-8")
            if line.startswith("/"):
                self._run_command(line)
            elif line.strip():
                self._last = line.strip()
                self._reply(self._last)
        except LayerBridgeError as error:
            say(f"error: {error}")
        except ImportError as error:
            missing = missing_extra(error)
            if missing is None:
                raise
            say(f"error: {missing}")
        except KeyboardInterrupt:
            say("(interrupted)")

    def _reply(self, text: str) -> None:
        from layerbridge.cli.far_texts import FarTexts
        from layerbridge.training.text_counts import input_notes

        for note in input_notes([text], self._bridge.encoder):
            say(note)
        try:
            for part in self.answer(text):
                print(_printable(part), end="", flush=True)
        finally:
            print(flush=True)
        if self._found is not None:
            say(bars(self._found.probabilities))
            far = FarTexts()
            far.add(self._found)
            far.say()

    def _run_command(self, line: str) -> None:
        name, _, rest = line.partition(" ")
        if name not in self._commands:
            raise DataError(
                f"unknown command {_printable(name)!r}",
                allowed=[*self._commands, "/quit"],
                hint="put a space before a text that begins with /",
            )
        self._commands[name](rest.strip())

    def _set_options(self, rest: str) -> None:
        words = [word.strip() for word in rest.split(",")] if rest else None
        self.options = self.words(words) if words else self._bridge.config.options
        say(f"options: {', '.join(self.options or []) or 'none'}")

    def _set_free(self, rest: str) -> None:
        self.options = None
        say("answers are free text; /options ends that")

    def _set_instruction(self, rest: str) -> None:
        self.instruction = rest or None
        say(f"instruction: {self.instruction or self._bridge.config.instruction or 'none'}")

    def _set_tokens(self, rest: str) -> None:
        if rest:
            if not (rest.isascii() and rest.isdigit() and int(rest)):
                raise DataError(f"/tokens {_printable(rest)}", allowed="a positive integer")
            self.max_tokens = int(rest)
        say(f"maximum tokens per answer: {self.max_tokens}")

    def _show_weights(self, rest: str) -> None:
        if self._last is None:
            raise DataError("no text yet", allowed="/weights after a text")
        from rich.console import Console

        from layerbridge.cli.heat_map import heat_map

        (weights,) = self._bridge.layer_weights(self._last)
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        console.print(heat_map(weights, console.width))


def bars(probabilities: dict[str, float]) -> str:
    """Returns the options as a bar chart, the most probable first."""
    from rich.cells import cell_len

    ranked = sorted(probabilities.items(), key=lambda pair: -pair[1])
    shown = [(_printable(option), probability) for option, probability in ranked]
    width = max(cell_len(option) for option, _ in shown)
    return "\n".join(
        f"  {option}{' ' * (width - cell_len(option))}  {100 * probability:5.1f} %  "
        f"{'█' * round(_BAR * probability)}".rstrip()
        for option, probability in shown
    )


def _printable(text: str) -> str:
    """Returns text without the control characters that a terminal would obey."""
    from layerbridge.report.plots.style import clean

    return clean(text)
