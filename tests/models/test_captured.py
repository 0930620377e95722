"""Captured graphs: the answers of the decoder, whatever a device makes of the capture."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from parity import normal_input
from toys import SHAPE, assert_same, make_predictor, picture, toy_state

from napari_sam import ImageEmbedding, Predictor, Prompts
from napari_sam.models import SPECS, Sam, build_sam
from napari_sam.models.captured import FIRST_ONES, KEPT_KINDS, CapturedDecoder
from napari_sam.models.mask_decoder import ImageSide

Answer = tuple[torch.Tensor, torch.Tensor]
Work = Callable[[], Answer]


class Recorder:
    """Stands in for a GPU's graphs: does recorded work again, on what its inputs hold then, into the same memory."""

    def __init__(self) -> None:
        self.captured = self.replayed = 0

    def __call__(self, work: Work) -> tuple[Callable[[], None], Answer]:
        self.captured += 1
        answer = tuple(each.clone() for each in work())

        def replay() -> None:
            self.replayed += 1
            for place, value in zip(answer, work(), strict=True):
                place.copy_(value)

        return replay, answer  # type: ignore[return-value]


@pytest.fixture(scope="module")
def sam() -> Sam:
    network = build_sam(SPECS["toy_tiny_vit"])
    network.load_state_dict(toy_state())
    assert isinstance(network, Sam)
    return network


@pytest.fixture(autouse=True)
def without_gradients() -> Any:
    with torch.inference_mode():
        yield


def side_of(sam: Sam, name: str) -> ImageSide:
    return sam.image_side(sam.encode(normal_input(name, 1, 3, 64, 64)))


def prompts(seed: int, points: int = 1, *, box: bool = False) -> dict[str, Any]:
    random = torch.Generator().manual_seed(seed)
    return {
        "points": 64 * torch.rand(1, points, 2, generator=random),
        "labels": torch.randint(0, 2, (1, points), generator=random),
        "boxes": 64 * torch.rand(1, 4, generator=random) if box else None,
        "multimask": points == 1 and not box,
    }


def check(decoder: CapturedDecoder, sam: Sam, side: ImageSide, asked: dict[str, Any]) -> None:
    for ours, reference in zip(decoder.decode(side, **asked), sam.decode(side, **asked), strict=True):
        torch.testing.assert_close(ours, reference)


def test_what_is_asked_again_and_again_is_captured_once(sam: Sam) -> None:
    recorder = Recorder()
    decoder, side = CapturedDecoder(sam, recorder), side_of(sam, "one")
    for seed in range(FIRST_ONES + 4):
        assert recorder.captured == (seed > FIRST_ONES)
        check(decoder, sam, side, prompts(seed))
    assert recorder.replayed == 5  # once more than there were prompts: the first answer is checked


def test_every_kind_of_prompt_has_its_own_graph(sam: Sam) -> None:
    recorder = Recorder()
    decoder, side = CapturedDecoder(sam, recorder), side_of(sam, "one")
    for seed in range(FIRST_ONES + 2):
        check(decoder, sam, side, prompts(seed))
        check(decoder, sam, side, prompts(seed, points=2))
        check(decoder, sam, side, prompts(seed, box=True))
        check(decoder, sam, side, {**prompts(seed, box=True), "points": None, "labels": None})
    assert recorder.captured == 4


def test_another_image_is_brought_to_the_graph(sam: Sam) -> None:
    decoder, sides = CapturedDecoder(sam, Recorder()), [side_of(sam, name) for name in ("one", "two")]
    for seed in range(FIRST_ONES + 4):
        for side in sides:
            check(decoder, sam, side, prompts(seed))


def test_answers_are_not_overwritten_by_the_next_one(sam: Sam) -> None:
    decoder, side = CapturedDecoder(sam, Recorder()), side_of(sam, "one")
    answers = [decoder.decode(side, **prompts(seed)) for seed in range(FIRST_ONES + 3)]
    for seed, answer in enumerate(answers):
        torch.testing.assert_close(answer, sam.decode(side, **prompts(seed)))


def test_only_some_graphs_are_kept(sam: Sam) -> None:
    recorder = Recorder()
    decoder, side = CapturedDecoder(sam, recorder), side_of(sam, "one")
    for points in range(1, KEPT_KINDS + 2):
        for seed in range(FIRST_ONES + 1):
            check(decoder, sam, side, prompts(seed, points))
    assert recorder.captured == KEPT_KINDS + 1
    check(decoder, sam, side, prompts(0, KEPT_KINDS + 1))
    assert recorder.captured == KEPT_KINDS + 1
    check(decoder, sam, side, prompts(0, 1))  # the one not used longest
    assert recorder.captured == KEPT_KINDS + 2


def test_a_side_of_another_size_goes_without(sam: Sam) -> None:
    recorder = Recorder()
    decoder, side = CapturedDecoder(sam, recorder), side_of(sam, "one")
    larger = sam.image_side(sam.encode(normal_input("larger", 1, 3, 96, 96)))
    for seed in range(FIRST_ONES + 3):
        check(decoder, sam, side, prompts(seed))
        check(decoder, sam, larger, prompts(seed))


def deaf(work: Work) -> tuple[Callable[[], None], Answer]:
    """Record an answer and give it for ever, as a graph does that reads other memory than it should."""
    return lambda: None, work()


def refusing(_work: Work) -> tuple[Callable[[], None], Answer]:
    raise RuntimeError("CUDA error: operation not permitted when stream is capturing")


@pytest.mark.parametrize("record", [deaf, refusing])
def test_graphs_that_do_not_work_are_given_up(sam: Sam, record: Callable[[Work], Any]) -> None:
    tries = []

    def recorded(work: Work) -> Any:
        tries.append(work)
        return record(work)

    decoder, side = CapturedDecoder(sam, recorded), side_of(sam, "one")
    for seed in range(FIRST_ONES + 3):
        check(decoder, sam, side, prompts(seed))
        check(decoder, sam, side, prompts(seed, points=2))
    assert len(tries) == 1
    assert "another answer" in decoder.failure or "not permitted" in decoder.failure


def test_threads_may_share_it(sam: Sam) -> None:
    decoder, sides = CapturedDecoder(sam, Recorder()), [side_of(sam, name) for name in ("one", "two")]

    def ask(seed: int) -> None:
        with torch.inference_mode():
            check(decoder, sam, sides[seed % 2], prompts(seed))

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(ask, range(40)))


def test_what_was_captured_before_a_failure_goes_on(sam: Sam) -> None:
    recorder = Recorder()
    decoder, side = CapturedDecoder(sam, recorder), side_of(sam, "one")
    for seed in range(FIRST_ONES + 1):
        check(decoder, sam, side, prompts(seed))
    decoder._record = refusing
    for seed in range(FIRST_ONES + 1):
        check(decoder, sam, side, prompts(seed, points=2))
    assert "not permitted" in decoder.failure
    before = recorder.replayed
    check(decoder, sam, side, prompts(0))
    assert recorder.replayed == before + 1


def test_features_that_are_not_numbers_are_no_failure(sam: Sam) -> None:
    decoder = CapturedDecoder(sam, Recorder())
    broken = sam.image_side(torch.full_like(sam.encode(normal_input("one", 1, 3, 64, 64)), torch.nan))
    for seed in range(FIRST_ONES + 1):
        decoder.decode(broken, **prompts(seed))
    assert not decoder.failure


# Predictors


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def predictor(recorder: Recorder) -> Predictor:
    """One that replays as on a GPU."""
    made = make_predictor()
    assert isinstance(made._sam, Sam)
    captured = CapturedDecoder(made._sam, recorder)
    made._decoding._captured, made._placement.before_retreat = captured, captured.drop
    return made


def hover(ours: Predictor, reference: Predictor, embedding: ImageEmbedding) -> None:
    for column in range(10, 10 + FIRST_ONES + 3):
        asked = Prompts(points=[(40, column)])
        assert_same(ours.decode(embedding, asked), reference.decode(embedding, asked))


def test_a_predictor_replays_for_single_objects_alone(predictor: Predictor, recorder: Recorder) -> None:
    reference = make_predictor()
    embedding = reference.encode(picture(*SHAPE))
    hover(predictor, reference, embedding)
    assert recorder.captured == 1
    for _ in range(FIRST_ONES + 1):
        several = predictor.decode_many(embedding, [Prompts(points=[(40, column)]) for column in (20, 60, 90)])
        predictor.decode(embedding, Prompts(points=[(40, 60)], mask=several[0].masks[0]))
    assert recorder.captured == 1


def test_no_graph_outlives_a_retreat(predictor: Predictor, recorder: Recorder) -> None:
    reference = make_predictor()
    embedding = reference.encode(picture(*SHAPE))
    hover(predictor, reference, embedding)
    held: list[Any] = []

    def short_of_memory() -> None:
        if not held:
            assert predictor._decoding._captured is not None
            held.append(weakref.ref(next(iter(predictor._decoding._captured._graphs.values()))))
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    with pytest.warns(RuntimeWarning, match="smaller parts"):
        predictor._placement.run(short_of_memory, short_of_memory)
    assert held[0]() is None
    replayed = recorder.replayed
    hover(predictor, reference, embedding)
    assert recorder.replayed == replayed


@pytest.mark.parametrize("graphs", [False, True])
def test_a_cpu_captures_nothing(graphs: bool) -> None:
    assert make_predictor(graphs=graphs)._decoding._captured is None
