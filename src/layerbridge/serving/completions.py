"""Completions: what the torch engine is generating, in batches that share each step.

Between two steps new prompts are prefilled as one batch and join the running rows; rows that have
finished, failed or lost their client are dropped. Legend: T LM tokens, D LM width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from layerbridge.serving.bridges import Bridges
from layerbridge.serving.decoding import Decoding, Row
from layerbridge.serving.engine import OnBatch
from layerbridge.serving.jobs import Job, as_failure, check_device, isolated
from layerbridge.serving.requests import Finished, Started

# Passes results on to their jobs.
Tell = Callable[[Iterable[tuple[Job, Any]]], None]


@dataclass(eq=False)
class _Batch:
    """Jobs that are decoded together."""

    decoding: Decoding
    jobs: list[Job]
    is_alone: bool = False  # what has failed together does not join others again


class Completions:
    """The running completions.

    Args:
        bridges: make the prompts and have the language model.
        on_batch: called with every batch.
        tell: called with the events of jobs, and the exceptions of those that fail.
        is_wanted: whether somebody still waits for a job.
    """

    def __init__(
        self, bridges: Bridges, on_batch: OnBatch, tell: Tell, is_wanted: Callable[[Job], bool]
    ) -> None:
        self._bridges = bridges
        self._language_model = bridges.language_model
        self._on_batch = on_batch
        self._tell = tell
        self._is_wanted = is_wanted
        self._batches: list[_Batch] = []
        self._can_join = True  # whether batches can be joined; the first one tells

    def __len__(self) -> int:
        """Returns the number of rows."""
        return sum(len(batch.jobs) for batch in self._batches)

    def admit(self, jobs: list[Job]) -> None:
        """Prefills the prompts of jobs, and lets them join the running ones."""
        jobs = [job for job in jobs if self._fits(job)]
        if not jobs:
            return
        self._on_batch("encode", len(jobs))
        encoded: list[Job] = []
        for part, rows in isolated(jobs, self._embeds, self._language_model.device):
            if isinstance(rows, Exception):
                self._tell([(part[0], rows)])
                continue
            for job, row in zip(part, rows, strict=True):
                job.embeds, job.row = row, Row(job.request.sampling)
            encoded += part
        if not encoded:
            return
        # Batches that cannot be joined would be decoded one by one, so they are kept large.
        batches = [list(range(len(encoded)))]
        if self._can_join:
            batches = self._bridges.batches([_length(job) for job in encoded])
        for indices in batches:
            self._on_batch("prefill", len(indices))
            self._prefill([encoded[index] for index in indices])

    def step(self) -> None:
        """Generates a token for every row.

        Raises:
            LostDeviceError: the device no longer works.
        """
        for batch in list(self._batches):
            try:
                self._step(batch)
            except Exception as error:
                check_device(self._language_model.device)
                failure = as_failure(error)
            else:
                continue
            self._batches.remove(batch)
            if len(batch.jobs) == 1:
                self._tell([(batch.jobs[0], failure)])
            else:
                self._separate(batch.jobs)

    def _separate(self, jobs: list[Job]) -> None:
        """Continues jobs whose batch has failed, each alone."""
        for job in filter(self._is_wanted, jobs):
            self._prefill([job], is_alone=True)

    def _fits(self, job: Job) -> bool:
        """Sets how many tokens a job may generate; fails it if its prompt is too long."""
        prompt = job.request
        try:
            (length,) = self._bridges.prompt_tokens(
                prompt.bridge, [prompt.text], prompt.instruction
            )
            room = self._bridges.max_new_tokens(length)
        except Exception as error:
            self._tell([(job, error)])
            return False
        limit = prompt.sampling.max_tokens
        job.max_tokens = limit if room is None else min(limit, room)
        return True

    def _embeds(self, jobs: list[Job]) -> list[Float[Tensor, "T D"]]:
        return self._bridges.embeds([job.request for job in jobs])

    def _prefill(self, jobs: list[Job], *, is_alone: bool = False) -> None:
        for part, decoding in isolated(jobs, self._decoding, self._language_model.device):
            if isinstance(decoding, Exception):
                self._tell([(part[0], decoding)])
            else:
                self._add(_Batch(decoding, part, is_alone))

    def _decoding(self, jobs: list[Job]) -> Decoding:
        """Reads the prompts of jobs, and the tokens they have generated already."""
        prompts, rows = [], []
        for job in jobs:
            assert job.embeds is not None
            assert job.row is not None
            generated = torch.tensor(job.tokens, dtype=torch.long, device=job.embeds.device)
            prompts.append(torch.cat([job.embeds, self._language_model.embed(generated)]))
            rows.append(job.row)
        return Decoding(self._language_model, prompts, rows)

    def _add(self, new: _Batch) -> None:
        """Joins the batch with another one if their caches allow it."""
        self._can_join = new.decoding.can_join
        for batch in self._batches:
            if batch.is_alone or new.is_alone:
                continue
            if batch.decoding.can_join and new.decoding.can_join:
                try:
                    batch.decoding.join(new.decoding)
                except Exception:  # out of memory
                    check_device(self._language_model.device)
                else:
                    batch.jobs += new.jobs
                    return
                self._batches.remove(batch)
                self._separate([*batch.jobs, *new.jobs])
                return
        self._batches.append(new)

    def _step(self, batch: _Batch) -> None:
        """Generates a token for every row; drops rows that have ended."""
        self._on_batch("decode", len(batch.jobs))
        stop_ids = set(self._language_model.stop_token_ids())
        events: list[tuple[Job, Any]] = []
        kept = []
        tokens = batch.decoding.sample()
        for index, (job, token) in enumerate(zip(batch.jobs, tokens, strict=True)):
            if not self._is_wanted(job):
                continue
            if isinstance(token, Exception):
                events.append((job, token))
                continue
            if not job.has_started:
                job.has_started = True
                events.append((job, Started(_length(job))))
            if token.id in stop_ids and not job.request.sampling.ignore_eos:
                events.append((job, Finished("stop")))
                continue
            job.tokens.append(token.id)
            events.append((job, token))
            if len(job.tokens) >= job.max_tokens:
                events.append((job, Finished("length")))
            else:
                kept.append(index)
        self._tell(events)
        # From here on an exception finds only the jobs that have not ended.
        ids = [batch.jobs[index].tokens[-1] for index in kept]
        batch.jobs = [batch.jobs[index] for index in kept]
        if not kept:
            self._batches.remove(batch)
            return
        batch.decoding.keep(kept)
        batch.decoding.advance(ids)


def _length(job: Job) -> int:
    return 0 if job.embeds is None else len(job.embeds)
