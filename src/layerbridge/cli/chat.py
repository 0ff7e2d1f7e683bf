"""``layerbridge chat``: a bridge in a terminal.

What the bridge writes is on stdout and nothing else is; talk, bars and maps are on stderr.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from layerbridge.errors import DataError, LayerBridgeError
from layerbridge.progress import say
from layerbridge.report.plots.style import clean

if TYPE_CHECKING:
    from layerbridge.serving.bridges import Bridges

PROMPT = "> "
HELP = """\
type a text in any language; Ctrl-C interrupts an answer
/options a, b, c   rank these as well; alone: the bridge's own again
/instruction TEXT  tell the language model so, in English; alone: the bridge's own again
/weights           which encoder layers each token of the last text drew on
/tokens N          of an answer, at most
/help              this
/quit              end; so does Ctrl-D
a text that begins with / is written with a space before it"""

_BAR = 24
_REMEMBERED = 1000


def chat(
    run: str = typer.Argument(..., help="The run's folder, or a hub id."),
    options: str | None = typer.Option(
        None, help="Label words with commas, to rank; the bridge's own if it has any."
    ),
    instruction: str | None = typer.Option(None, help="English text for the language model."),
    max_new_tokens: int = typer.Option(64, min=1, help="Of an answer, at most."),
    dtype: str = typer.Option("auto", help="Of the backbones."),
    device: str | None = typer.Option(None, help="cpu, cuda, …; the best there is if not given."),
    history: bool = typer.Option(True, help="Remember what was typed, for the arrow keys."),
    trust_remote_code: bool = typer.Option(False, "--trust-remote-code"),
    allow_pickle: bool = typer.Option(False, "--allow-pickle"),
) -> None:
    """Talk with a bridge; /help lists what else can be typed.

    Where stdin is no terminal each line is a text, and its answer is a line on stdout.
    """
    from layerbridge.models.backbone import LoadOptions, choose_device
    from layerbridge.serving.bridges import Bridges

    _forgive(sys.stdin, sys.stdout)
    loading = LoadOptions(dtype, None, trust_remote_code, allow_pickle)
    place = choose_device(device)
    if sys.stdin.isatty():
        say("reading the models …")
    session = Chat(Bridges.load([run], loading, device=place), max_new_tokens)
    if options is not None:
        session.set_options(options)
    if instruction is not None:
        session.instruction = instruction
    if not sys.stdin.isatty():
        for line in sys.stdin:
            # However many lines the answer has: answer and text are at the same place.
            print(" ".join("".join(session.answer(line.rstrip("\r\n"))).split()), flush=True)
        return
    say(session.introduction)
    with closing(_Typed(remember=history)) as typed:
        for line in typed:
            session.hear(line)


class Chat:
    """One conversation, though each text is answered as if it were the first.

    Args:
        bridges: one bridge.
        max_tokens: of an answer.
    """

    def __init__(self, bridges: Bridges, max_tokens: int) -> None:
        from layerbridge.serving.vocabulary import Vocabulary

        self._bridges = bridges
        (self._name,) = bridges
        self._bridge = bridges[self._name]
        self._vocabulary = Vocabulary(bridges.language_model.tokenizer)
        self.max_tokens = max_tokens
        self.instruction: str | None = None
        self.options = self._bridge.config.options
        self._last: str | None = None

    @property
    def introduction(self) -> str:
        """What there is to know at the beginning."""
        config = self._bridge.config
        lines = [f"{self._name}: {config.encoder} · {config.fusion} · {config.language_model}"]
        if config.template:
            lines.append(f"trained on texts in the form {config.template!r}")
        if config.options:
            lines.append(f"options: {', '.join(config.options)}")
        return "\n".join([*lines, "type a text in any language; /help lists the commands"])

    def answer(self, text: str) -> Iterator[str]:
        """The answer, each part as soon as it is certain.

        Raises:
            DataError: text and instruction are longer than the language model can read.
        """
        from layerbridge.serving.decoding import Decoding, Row
        from layerbridge.serving.detokenizer import Detokenizer
        from layerbridge.serving.requests import Prompt, Sampling

        bridges = self._bridges
        (prompt,) = bridges.embeds([Prompt(self._name, text, self.instruction)])
        room = bridges.max_new_tokens(len(prompt))
        most = self.max_tokens if room is None else min(self.max_tokens, room)
        ends = set(bridges.language_model.stop_token_ids())
        detokenizer = Detokenizer(self._vocabulary, strip=True)
        decoding = Decoding(bridges.language_model, [prompt], [Row(Sampling(max_tokens=most))])
        for count in range(1, most + 1):
            token = decoding.sample()[0].id
            if token in ends:
                break
            yield detokenizer.push(token)
            if count < most:
                decoding.advance([token])
        yield detokenizer.finish()

    def hear(self, line: str) -> None:
        """A line that was typed: a text, or a command. Its mistakes and Ctrl-C end it alone."""
        try:
            if line.startswith("/"):
                self._command(line)
            elif line.strip():
                self._last = line.strip()
                self._reply(self._last)
        except LayerBridgeError as error:
            say(f"error: {error}")
        except KeyboardInterrupt:
            say("(interrupted)")

    def set_options(self, words: str) -> None:
        """Label words with commas; none for the bridge's own.

        Raises:
            DataError: one is empty, or there twice.
        """
        if words.strip():
            self.options = self._bridge.option_words([word.strip() for word in words.split(",")])
        else:
            self.options = self._bridge.config.options

    def _reply(self, text: str) -> None:
        try:
            for part in self.answer(text):
                print(clean(part), end="", flush=True)
        finally:
            print(flush=True)
        if self.options:
            (found,) = self._bridge.classify([text], self.options, instruction=self.instruction)
            say(bars(found.probabilities))

    def _command(self, line: str) -> None:
        name, _, rest = line.partition(" ")
        commands: dict[str, Callable[[str], None]] = {
            "/options": self._options,
            "/instruction": self._instruction,
            "/weights": self._weights,
            "/tokens": self._tokens,
            "/help": lambda rest: say(HELP),
        }
        if name not in commands:
            raise DataError(
                f"unknown command {clean(name)!r}",
                allowed=[*commands, "/quit"],
                hint="a text that begins with / is written with a space before it",
            )
        commands[name](rest.strip())

    def _options(self, rest: str) -> None:
        self.set_options(rest)
        say(f"options: {', '.join(self.options or []) or 'none'}")

    def _instruction(self, rest: str) -> None:
        self.instruction = rest or None
        told = self.instruction or self._bridge.config.instruction
        say(f"instruction: {told or 'none'}")

    def _tokens(self, rest: str) -> None:
        if rest:
            if not (rest.isascii() and rest.isdigit() and int(rest)):
                raise DataError(f"/tokens {clean(rest)}", allowed="a whole number from 1 on")
            self.max_tokens = int(rest)
        say(f"tokens of an answer: at most {self.max_tokens}")

    def _weights(self, rest: str) -> None:
        if self._last is None:
            raise DataError("there is no text yet", allowed="/weights after a text")
        from rich.console import Console

        from layerbridge.cli.heat_map import heat_map

        (weights,) = self._bridge.layer_weights(self._last)
        console = Console(stderr=True, highlight=False, soft_wrap=True)
        console.print(heat_map(weights, console.width))


def bars(probabilities: dict[str, float]) -> str:
    """The options, the likeliest first, a line each."""
    from rich.cells import cell_len

    ranked = sorted(probabilities.items(), key=lambda pair: -pair[1])
    shown = [(clean(option), probability) for option, probability in ranked]
    width = max(cell_len(option) for option, _ in shown)
    return "\n".join(
        f"  {option}{' ' * (width - cell_len(option))}  {100 * probability:5.1f} %  "
        f"{'█' * round(_BAR * probability)}".rstrip()
        for option, probability in shown
    )


class _Typed:
    """The lines that a person types, until the end or ``/quit``."""

    def __init__(self, *, remember: bool) -> None:
        self._file = _remembered() if remember else None

    def __iter__(self) -> Iterator[str]:
        while True:
            try:
                line = self._line()
            except EOFError:
                say("")
                return
            except KeyboardInterrupt:
                say("\n(/quit or Ctrl-D ends)")
                continue
            if line.strip() == "/quit":
                return
            yield line

    def close(self) -> None:
        """Keeps what was typed for the next time."""
        if self._file is None:
            return
        import readline

        with suppress(OSError):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            readline.write_history_file(self._file)
            # What was typed is nobody else's business.
            self._file.chmod(0o600)

    @staticmethod
    def _line() -> str:
        # Where stdout is no terminal input() would write the prompt among the answers.
        if sys.stdout.isatty():
            return input(PROMPT)
        print(PROMPT, end="", file=sys.stderr, flush=True)
        return input()


def _remembered() -> Path | None:
    """Reads what was typed before; None where there is no readline."""
    from layerbridge.hub.zoo.store import home

    try:
        import readline
    except ImportError:
        return None
    file = home() / "chat-history"
    with suppress(OSError):
        readline.read_history_file(file)
    readline.set_history_length(_REMEMBERED)
    return file


def _forgive(*streams: object) -> None:
    """What a stream cannot write or read as text becomes a sign that says so, and no traceback."""
    for stream in streams:
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")
