import pytest

from layerbridge.errors import ConfigError
from layerbridge.integrations.lm_eval.batches import LARGEST, Batches

TEXTS = ["a" * n for n in (3, 9, 1, 7, 7, 2, 8, 5, 4, 6)]
FULL = "CUDA out of memory. Tried to allocate 2.00 GiB."


class Machine:
    """Answers batches of at most ``fits`` texts."""

    def __init__(self, fits, error=FULL):
        self.fits, self.error = fits, error
        self.answered, self.sizes = [], []

    def __call__(self, batch):
        if len(batch) > self.fits:
            raise RuntimeError(self.error)
        self.sizes.append(len(batch))
        self.answered += batch


@pytest.mark.parametrize("fits", [1, 2, 5, 100])
def test_auto_answers_each_text_once_with_what_fits(fits, capsys):
    machine = Machine(fits)
    batches = Batches("auto:4", largest=8)
    batches.run(TEXTS, machine)
    assert sorted(machine.answered) == list(range(len(TEXTS)))
    lengths = [len(TEXTS[index]) for index in machine.answered]
    assert lengths == sorted(lengths, reverse=True)
    size = {1: 1, 2: 2, 5: 4, 100: 8}[fits]
    assert batches.size == machine.sizes[0] == size
    said = [f"memory is full: batch_size {n} from here on" for n in (4, 2, 1) if n >= size < 8]
    assert capsys.readouterr().err.splitlines() == said


@pytest.mark.parametrize(
    ("batch_size", "hint"),
    [
        (4, "with batch_size 4; next: --batch_size auto, or a smaller number"),
        ("1", "with batch_size 1; next: a smaller model, or --model_args dtype=bfloat16"),
        ("auto", "with batch_size 1; next: a smaller model, or --model_args dtype=bfloat16"),
    ],
)
def test_memory_that_is_full_all_the_same(batch_size, hint):
    with pytest.raises(ConfigError) as caught:
        Batches(batch_size).run(TEXTS, Machine(0))
    assert str(caught.value) == f"memory is full {hint}"


def test_other_errors_are_not_hidden():
    with pytest.raises(RuntimeError, match=r"^device-side assert"):
        Batches("auto").run(TEXTS, Machine(2, "device-side assert"))


def test_no_texts():
    machine = Machine(9)
    Batches().run([], machine)
    assert (machine.sizes, Batches().size, Batches(max_batch := 3).size) == ([], LARGEST, max_batch)
