"""Our Datum against the one that Caffe was built with."""

from __future__ import annotations

import numpy as np
import pytest

from caffebench.datasets.datum import datum_class, encoded_record, raw_record, read_record
from caffebench.engine.locate import caffe_pb2


@pytest.mark.caffe
def test_fields_are_those_of_caffe() -> None:
    def fields(message: type) -> list[tuple[object, ...]]:
        return [
            (field.name, field.number, field.type, field.is_repeated, field.default_value)
            for field in message.DESCRIPTOR.fields  # type: ignore[attr-defined]
        ]

    assert fields(datum_class()) == fields(caffe_pb2().Datum)


@pytest.mark.caffe
def test_caffe_parses_a_raw_record() -> None:
    image = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    record = raw_record(image, 7).data
    datum = caffe_pb2().Datum.FromString(record)
    assert (datum.channels, datum.height, datum.width, datum.label) == (2, 3, 4, 7)
    assert datum.data == image.tobytes()
    assert not datum.encoded
    assert datum.SerializeToString() == record
    back, label = read_record(record)
    np.testing.assert_array_equal(back, image)
    assert label == 7


@pytest.mark.caffe
def test_caffe_parses_an_encoded_record() -> None:
    record = encoded_record(b"\xff\xd8 a JPEG", 3, (3, 2, 2), (1, 2, 3)).data
    datum = caffe_pb2().Datum.FromString(record)
    assert (datum.encoded, datum.data, datum.label) == (True, b"\xff\xd8 a JPEG", 3)
    assert read_record(record) == (b"\xff\xd8 a JPEG", 3)


def test_a_record_knows_the_sums_of_its_channels() -> None:
    image = np.full((2, 300, 400), 255, np.uint8)
    image[1] = 3
    assert raw_record(image, 0).sums == (255 * 120_000, 3 * 120_000)
    assert raw_record(image, 0).shape == (2, 300, 400)
