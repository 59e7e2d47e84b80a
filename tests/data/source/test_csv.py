"""What is the CSV source's own; tables are tested in test_tables.py."""

import numpy as np

from mimstocr.data import DataSettings, load_panel


def test_a_name_with_wildcards_is_one_file(tmp_path):
    for name, close in (("prices[1].csv", 1), ("prices1.csv", 2)):
        (tmp_path / name).write_text(f"date,symbol,close\n2020-01-02,A,{close}\n")
    assert load_panel(DataSettings(source=f"csv:{tmp_path / 'prices[1].csv'}"))["close"].item() == 1


def test_columns_that_are_not_used_are_not_parsed(tmp_path):
    (tmp_path / "p.csv").write_text('date,symbol,note,close\n2020-01-02,A,"said ""buy, now""",1.5\n')
    assert load_panel(DataSettings(source=f"csv:{tmp_path / 'p.csv'}"))["close"].item() == 1.5


def test_numbers_become_float32_as_a_frame_of_floats_would(tmp_path):
    # the last lies just above the middle of two float32; as a float64 it is the middle, which rounds to even
    texts = ["0.1", "0.3333333333333333", "16777217", "1e-30", "1.0000000596046447753906250001"]
    rows = "".join(f"2020-01-02,{symbol},{text}\n" for symbol, text in zip("ABCDE", texts, strict=True))
    (tmp_path / "p.csv").write_text("date,symbol,close\n" + rows)
    read = load_panel(DataSettings(source=f"csv:{tmp_path / 'p.csv'}"))["close"].values[0]
    assert read.tolist() == [float(np.float32(float(text))) for text in texts]
