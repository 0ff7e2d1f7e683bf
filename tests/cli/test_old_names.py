import pytest
from typer.main import get_command

from layerbridge.cli.app import app
from layerbridge.cli.baseline import Method
from layerbridge.cli.old_names import RENAMED, with_new_names

RENAMES = [(verb, old, new) for verb, names in RENAMED.items() for old, new in names.items()]


def note(old, new):
    return f"note: {old} is now {new} for this command; the old name will be removed in 0.3\n"


def accepted(verb):
    """The flags, choices and verbs below a verb, of which ``plot`` has those of its default."""
    command = get_command(app)
    for word in verb.split():
        command = command.commands[word]
    names = set(getattr(command, "commands", ()))
    if verb == "plot":
        command = command.commands["results"]
    for parameter in command.params:
        names |= {*parameter.opts, *parameter.secondary_opts, parameter.metavar}
    return names | set(Method) if verb == "baseline" else names


@pytest.mark.parametrize(("verb", "old", "new"), RENAMES)
def test_every_old_name_is_a_new_one(verb, old, new, capsys):
    words = [] if new == "RUN" else new.split()
    assert with_new_names([*verb.split(), old, "x"]) == [*verb.split(), *words, "x"]
    assert capsys.readouterr().err == note(old, new)
    assert new.split()[0] in accepted(verb)
    assert old not in accepted(verb)


def test_a_value_behind_an_equals_sign(capsys):
    assert with_new_names(["bench", "evaluate", "--run=a=b"]) == ["bench", "evaluate", "a=b"]
    assert with_new_names(["demo", "--output-dir=x"]) == ["demo", "--output=x"]
    assert capsys.readouterr().err == note("--run", "RUN") + note("--output-dir", "--output")


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--normalize", "rms", "--seed", "3"],
        ["baseline", "tf-idf", "--translations", "floor"],
        ["ask", "run", "--", "--generate"],
        ["evaluate", "run", "--protocol", "generate"],
        ["--version"],
        [],
    ],
)
def test_other_words_stay(words, capsys):
    assert with_new_names(words) == words
    assert capsys.readouterr().err == ""


def test_the_command_accepts_them(command, few_names, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = command("baseline", "floor", "--task", "names", "--languages", "si")
    assert result.code == 0
    assert result.err.startswith(note("floor", "tf-idf"))
    result = command("evaluate", tmp_path, "--task", "names", "--normalize", "max")
    assert result.err == (
        f"{note('--normalize', '--length-normalization')}"
        "error: unknown length normalization 'max'; allowed: sum, mean\n"
    )
