"""The real harness, offline, on rows of local files, against layerbridge's own numbers."""

import json
import sys
from functools import partial

import pytest
import torch

from layerbridge import tasks
from layerbridge.errors import ConfigError, DataError
from layerbridge.evaluation.evaluator import evaluate
from layerbridge.integrations.lm_eval import TASKS, BridgeLM

lm_eval = pytest.importorskip("lm_eval", reason="the extra lm-eval")
from lm_eval.api.instance import Instance  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402

WORDS = ("the market", "රුපියල", "a team", "猫", "rose while", "ال")
PAIRS = [
    {"premise": f"{word} {n}", "hypothesis": f"of {word[::-1]}", "label": n % 3}
    for n, word in enumerate(WORDS)
]
# Benchmark → its columns, and the languages to compare.
ROWS = {
    "xnli": (PAIRS, ("en", "sw")),
    "indicxnli": (PAIRS, ("ta",)),
    "sinhala-news": (
        [
            {"sentence": f"{word} {n}", "label": ("sports", "Science", "Business")[n % 3]}
            for n, word in enumerate(WORDS)
        ],
        ("si",),
    ),
    "amazon-reviews": (
        [{"text": f"{word} {n}", "label": n % 5} for n, word in enumerate(WORDS)],
        ("de",),
    ),
    "sib200": (
        [
            {"text": f"{word} {n}", "category": ("travel", "politics", "science/technology")[n % 3]}
            for n, word in enumerate(WORDS)
        ],
        ("si",),
    ),
}


@pytest.fixture
def local(tmp_path):
    """A shipped task and rows → a task file with the rows from a local file, and its name."""

    def make(benchmark, language, rows):
        name = f"layerbridge_{benchmark.replace('-', '_')}_{language}"
        data = tmp_path / benchmark / f"test-{language}.jsonl"
        data.parent.mkdir(exist_ok=True)
        data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        split = f"test_{language}" if benchmark == "sinhala-news" else "test"
        settings = {
            "include": str(TASKS / benchmark / f"{name}.yaml"),
            "dataset_path": "json",
            "dataset_name": None,
            "dataset_kwargs": {"data_files": {split: str(data)}, "cache_dir": str(tmp_path / "c")},
        }
        file = tmp_path / f"{name}.yaml"
        file.write_text(json.dumps(settings), encoding="utf-8")
        return file, name

    return make


def run(model, *files):
    """Task name → the harness's samples."""
    loaded = TaskManager(include_defaults=False).load([str(file) for file in files])
    return lm_eval.evaluate(lm=model, task_dict=loaded, bootstrap_iters=0)


def request(context, continuation, *, task="t", row=0, kind="loglikelihood"):
    return Instance(kind, {}, (context, continuation), 0, metadata=(task, row, 1))


@pytest.mark.parametrize("benchmark", ROWS)
def test_the_harness_and_evaluate_agree_on_each_prediction(benchmark, local, make_bridge, tmp_path):
    rows, languages = ROWS[benchmark]
    files = [local(benchmark, language, rows) for language in languages]
    task = tasks.get(benchmark, data_dir=tmp_path / benchmark, languages=",".join(languages))
    bridge = make_bridge(options=list(task.options), instruction=" (category:")
    output = run(BridgeLM(bridge, batch_size=4), *(file for file, _ in files))
    ours = evaluate(bridge, task, languages, batch_size=4)
    for (_, name), language in zip(files, languages, strict=True):
        samples = sorted(output["samples"][name], key=lambda sample: sample["doc_id"])
        texts = [row.text for row in task.test(language)]
        assert [sample["arguments"][0][0] for sample in samples] == texts
        scores = torch.tensor([[score for score, _ in s["filtered_resps"]] for s in samples])
        answers = [task.options[best] for best in scores.argmax(1).tolist()]
        predictions = ours.languages[language].predictions
        assert answers == [each.prediction for each in predictions]
        assert [sample["acc"] for sample in samples] == [p.correct for p in predictions]
        assert output["results"][name]["acc,none"] == ours.languages[language].accuracy
    if benchmark == "xnli":
        # EOS is part of the score.
        expected = [list(each.scores.values()) for each in bridge.classify(texts)]
        torch.testing.assert_close(scores, torch.tensor(expected), atol=1e-4, rtol=1e-4)


def test_belebele_asks_for_the_letter_of_the_right_answer(local, make_bridge):
    row = {
        **{"flores_passage": "P", "question": "Q?", "correct_answer_num": "3"},
        **{f"mc_answer{n}": f"answer {n}" for n in range(1, 5)},
    }
    file, name = local("belebele", "si", [row, {**row, "question": "R?"}])
    output = run(BridgeLM(make_bridge()), file)
    sample = output["samples"][name][0]
    assert sample["target"] == 2
    text = "Question: Q? A: answer 1 B: answer 2 C: answer 3 D: answer 4 Passage: P Answer: "
    assert [tuple(pair) for pair in sample["arguments"]] == [(text, letter) for letter in "ABCD"]


def test_rows_with_options_of_their_own(make_bridge):
    """Each row is scored on its own options only, in the order of the requests."""
    bridge = make_bridge()
    asked = {"猫 猫 猫": ["Yes", "No"], "the market": ["No", "Sports news", "E"], "ම": ["Yes"]}
    pairs = [(text, option) for text, options in asked.items() for option in options]
    pairs = pairs[::2] + pairs[1::2]
    answers = {text: bridge.classify(text, options)[0].scores for text, options in asked.items()}
    expected = [answers[text][option] for text, option in pairs]
    for batch_size in (2, "auto"):
        model = BridgeLM(bridge, batch_size=batch_size)
        given = model.loglikelihood([request(*pair) for pair in pairs], disable_tqdm=True)
        assert [score for score, _ in given] == pytest.approx(expected, abs=1e-4)


def test_the_delimiter_is_no_part_of_the_answer(make_bridge):
    model = BridgeLM(make_bridge())
    words = ("Sports", "Very Negative")
    plain = model.loglikelihood([request("the market", word) for word in words])
    for delimiter in (" ", "\n", "\n\n"):
        asked = [request("the market", f"{delimiter}{word}") for word in words]
        assert model.loglikelihood(asked) == plain


def test_greedy_is_what_greedy_decoding_gives(make_bridge):
    """One answer is greedy, with EOS; the same answer without its end, or another word, is not."""
    bridge = make_bridge()
    texts = ["the market", "猫", "ම ම", "a team of", "en", "teams"]
    lm = bridge.language_model
    ids = bridge.generate(**_inputs(bridge, texts), max_new_tokens=6, do_sample=False)
    answers = lm.tokenizer.batch_decode(ids, skip_special_tokens=True)
    ended = [bool((row == lm.eos_id).any()) for row in ids]
    model = BridgeLM(bridge)
    given = model.loglikelihood(
        [request(text, answer) for text, answer in zip(texts, answers, strict=True)]
    )
    for answer, end, row, (_, greedy) in zip(answers, ended, ids.tolist(), given, strict=True):
        exact = [*lm.token_ids(answer.lstrip()), lm.eos_id]
        assert greedy == (end and row[: len(exact)] == exact)
    assert not any(greedy for _, greedy in model.loglikelihood([request("猫", "Zz")]))


def _inputs(bridge, texts):
    batch = bridge.encoder.tokenize(texts)
    return {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}


def test_generate_until(make_bridge):
    bridge = make_bridge()
    texts = ["the market", "猫", "ම ම"]
    free = bridge.generate_text(texts, max_new_tokens=8)
    model = BridgeLM(bridge, batch_size=2)
    settings = {"until": [], "max_gen_toks": 8, "do_sample": False, "temperature": 0.0}
    stop = free[1][2]
    asked = [request(text, settings, kind="generate_until") for text in texts]
    asked.append(request(texts[1], {**settings, "until": [stop]}, kind="generate_until"))
    answers = model.generate_until(asked)
    assert answers == [*free, free[1].split(stop)[0]]
    assert answers[3] != free[1]


@pytest.mark.parametrize("context", ["", " \n", "Answer in English."])
def test_a_task_whose_text_is_scored_is_refused(make_bridge, context):
    """As ``xnli_de`` is in the harness, with a system instruction or without."""
    asked = [
        request(context, f"{n}, richtig? {word}", task="xnli_de", row=n)
        for n in range(3)
        for word in ("Ja", "Nein")
    ]
    with pytest.raises(DataError) as caught:
        BridgeLM(make_bridge()).loglikelihood(asked)
    what = "the same for every row" if context.strip() else "nothing"
    assert str(caught.value) == (
        f"the task xnli_de has its texts in what is scored, and {what} in the context, which is "
        f"all that a bridge reads; next: --tasks layerbridge_xnli_de --include_path {TASKS}"
    )


def test_a_few_empty_texts_are_counted(make_bridge, capsys):
    asked = [request(text, " Yes", row=n) for n, text in enumerate(["", "a", "a"])]
    assert len(BridgeLM(make_bridge()).loglikelihood(asked)) == 3
    assert "empty texts: 1 of 2 in the input\n" in capsys.readouterr().err


def test_rolling_is_refused(make_bridge):
    asked = [Instance("loglikelihood_rolling", {}, ("text",), 0, metadata=("wikitext", 0, 1))]
    with pytest.raises(ConfigError) as caught:
        BridgeLM(make_bridge()).loglikelihood_rolling(asked)
    assert str(caught.value) == (
        "the task wikitext asks for the likelihood of a text without a context (perplexity), and "
        "a bridge only scores answers to a text that its encoder reads; allowed: tasks of "
        "output_type multiple_choice, loglikelihood or generate_until"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "no bridge was given; next: --model_args pretrained=RUN"),
        ({"pretrained": "r", "peft": "x"}, "the model layerbridge has no argument 'peft'; allowed"),
        ({"pretrained": "r", "batch_size": 0}, "batch_size is 0; allowed: a positive number, or"),
        ({"pretrained": "r", "batch_size": "many"}, "batch_size is 'many'; allowed: a positive"),
        ({"pretrained": "r", "max_batch_size": -1}, "max_batch_size is -1; allowed: a positive"),
        ({"pretrained": "r", "device": "toaster"}, "device 'toaster' is not available"),
    ],
)
def test_arguments_that_do_not_fit(arguments, message):
    with pytest.raises(ConfigError) as caught:
        BridgeLM(**arguments)
    assert str(caught.value).startswith(message)


def test_a_language_without_means_and_several_processes_are_refused(make_bridge, monkeypatch):
    with pytest.raises(ConfigError, match=r"^language='si' has no effect: the bridge has no "):
        BridgeLM(make_bridge(), language="si")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match=r"^a bridge in the harness runs in one process"):
        BridgeLM(make_bridge())


def test_chat_messages_are_read_without_a_template(make_bridge, local):
    """A user's message alone is read as the same text without ``--apply_chat_template``."""
    file, name = local("xnli", "sw", PAIRS)
    loaded = TaskManager(include_defaults=False).load([str(file)])
    model = BridgeLM(make_bridge())
    asked = []
    for chat in (False, True):
        settings = {"apply_chat_template": chat, "fewshot_as_multiturn": chat}
        output = lm_eval.evaluate(lm=model, task_dict=loaded, bootstrap_iters=0, **settings)
        asked.append([sample["arguments"] for sample in output["samples"][name]])
    assert asked[0] == asked[1]
    messages = [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]
    assert model.apply_chat_template(messages) == "S\nU"


def test_the_command_line(make_bridge, local, tmp_path, monkeypatch, capsys):
    """``python -m layerbridge.integrations.lm_eval`` loads a saved run by the harness's flags."""
    import layerbridge.integrations.lm_eval.__main__ as command

    bridge = make_bridge()
    bridge.save_pretrained(tmp_path / "run")
    file, name = local("xnli", "sw", PAIRS)
    # Thousands of files are read, and commands run, that have nothing to do with this.
    monkeypatch.setattr("lm_eval.tasks.TaskManager", partial(TaskManager, include_defaults=False))
    monkeypatch.setattr("lm_eval.evaluator.add_env_info", lambda storage: None)
    words = ["--model_args", f"pretrained={tmp_path / 'run'},dtype=float32", "--device", "cpu"]
    words += ["--batch_size", "auto", "--tasks", str(file), "--output_path", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["lm-eval", *words])
    command.main()
    assert f"|{name}|" in capsys.readouterr().out.replace(" ", "")
    (written,) = (tmp_path / "out").rglob("results_*.json")
    config = json.loads(written.read_text())["config"]
    assert (config["model"], config["model_dtype"]) == ("layerbridge", "float32")
    assert config["model_fusion"] == "token-softmax"
    words[1] = f"pretrained={tmp_path / 'nothing'}"
    monkeypatch.setattr(sys, "argv", ["lm-eval", *words])
    with pytest.raises(SystemExit, match="2"):
        command.main()
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: there is no folder {str(tmp_path / 'nothing')!r}")


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ("", ""),
        ("--help", "--help"),
        ("run --help", "run --help"),
        ("ls tasks", "ls tasks --include_path TASKS"),
        ("--tasks t", "run --tasks t --include_path TASKS --model layerbridge"),
        ("run --tasks t -M hf", "run --tasks t -M hf --include_path TASKS"),
        ("run --tasks t --model=hf", "run --tasks t --model=hf --include_path TASKS"),
        ("run -C c.yaml", "run -C c.yaml --include_path TASKS"),
        ("run -t t --include_path X", "run -t t --include_path X --model layerbridge"),
    ],
)
def test_defaults_of_the_command(given, made):
    from layerbridge.integrations.lm_eval.__main__ import with_defaults

    assert with_defaults(given.split()) == made.replace("TASKS", str(TASKS)).split()
