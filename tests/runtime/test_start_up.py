"""What a first prediction imports."""

import pytest

from tests.test_imports import imported


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_a_first_prediction_imports_torch_and_no_table(engine, exported):
    pytest.importorskip(engine)
    run = (
        "from lraee.runtime import EarlyExitCLIP",
        f"model = EarlyExitCLIP.load({str(exported.folder)!r}, {engine!r})",
        "from PIL import Image",
        "model.predict(Image.new('RGB', (40, 40)))",
        "import sys",
        "assert not {'pandas', 'pyarrow', 'scipy'} & set(sys.modules)",
    )
    assert imported([], run) == {"torch"}
