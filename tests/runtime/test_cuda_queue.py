"""The queue of batches for a GPU, without a GPU."""

import threading

import hypothesis
import numpy as np
import pytest
from cifar10_runtime.engine.cuda import LARGEST_GRAPH, BatchQueue, CudaGate
from cifar10_runtime.errors import InferenceError
from hypothesis import strategies as st


@hypothesis.given(st.lists(st.integers(0, LARGEST_GRAPH), max_size=30))
def test_the_queue_gives_every_batch_once_in_order_in_groups_that_fit_a_graph(sizes: list[int]) -> None:
    queue = BatchQueue()
    put = [(size, queue.put(np.zeros((size, 1, 1, 3), np.uint8))) for size in sizes]
    taken = []
    while len(queue):
        group = queue.take()
        assert len(group) > 0
        assert sum(len(batch) for batch, _ in group) <= LARGEST_GRAPH
        taken += [(len(batch), future) for batch, future in group]
    assert taken == put


def test_a_closed_queue_fails_waiting_and_later_batches_and_frees_its_threads() -> None:
    queue = BatchQueue()
    waiting = queue.put(np.zeros((1, 1, 1, 3), np.uint8))
    queue.close()
    for future in (waiting, queue.put(np.zeros((1, 1, 1, 3), np.uint8))):
        with pytest.raises(InferenceError, match="closed"):
            future.result()
    assert queue.take() == []


def test_a_capture_excludes_all_other_calls() -> None:
    gate, inside, broken = CudaGate(), [], []

    def work(number: int) -> None:
        for turn in range(200):
            capture = (number + turn) % 7 == 0
            with gate.capture() if capture else gate.call():
                inside.append(capture)
                broken.append(any(inside) and len(inside) > 1)
                inside.pop()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(broken) == 1600
    assert not any(broken)
