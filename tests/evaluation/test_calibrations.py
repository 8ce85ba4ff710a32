import numpy as np

from lraee.evaluation.calibrations import allocation_table, search_table

MIXED = {
    f"blocks.{index}.{name}": np.array(value)
    for index, own in enumerate([(5, 1.0, [0.5, 0.1]), (3, 0.25, [0.2, 0.05])])
    for name, value in zip(("bits", "utilisation", "drift"), own, strict=True)
}
SEARCHED = {"search.fitness": np.array([2.0, 2.0, 1.5]), "blocks.0.qkv.weight_scale": np.ones(3)}
HEADERS = {"mixed": {"settings": {"scheme": "apq", "bits": [5, 3]}}, "searched": {}, "plain": {}}
STATES = {"plain": {"blocks.0.qkv.weight_scale": np.ones(1)}, "mixed": MIXED, "searched": SEARCHED}


def test_the_allocation_has_a_row_a_block_and_candidate():
    table = allocation_table(STATES, HEADERS)
    assert table.to_dict("records") == [
        {"quantizer": "mixed", "layer": 1, "bits": 5, "utilisation": 1.0, "candidate": 3, "drift": 0.5},
        {"quantizer": "mixed", "layer": 1, "bits": 5, "utilisation": 1.0, "candidate": 5, "drift": 0.1},
        {"quantizer": "mixed", "layer": 2, "bits": 3, "utilisation": 0.25, "candidate": 3, "drift": 0.2},
        {"quantizer": "mixed", "layer": 2, "bits": 3, "utilisation": 0.25, "candidate": 5, "drift": 0.05},
    ]


def test_a_search_begins_with_its_start():
    table = search_table(STATES)
    assert table["quantizer"].unique().tolist() == ["searched"]
    assert table[["evaluation", "fitness"]].to_numpy().tolist() == [[0, 2.0], [1, 2.0], [2, 1.5]]


def test_without_such_quantizers_the_tables_have_no_rows_but_their_columns():
    plain = {"plain": STATES["plain"]}
    assert list(allocation_table(plain, HEADERS).columns)[:3] == ["quantizer", "layer", "bits"]
    assert len(allocation_table(plain, HEADERS)) == len(search_table(plain)) == 0
