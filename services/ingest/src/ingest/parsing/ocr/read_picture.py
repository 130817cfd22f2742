"""Reads PNG, JPEG and TIFF by OCR; runs in the child."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO

from PIL import ImageFile, ImageOps, JpegImagePlugin, PngImagePlugin, TiffImagePlugin

from ingest.parsing.failure import ParseFailure, RefusalError
from ingest.parsing.ocr import engine
from ingest.parsing.ocr.data import OcrData
from ingest.parsing.ocr.pages import PIXELS_MAX, PageRecogniser, check_pages
from ingest.parsing.reading import Reading

THREADS_MAX = engine.THREADS_MAX

_OPENERS = (
    PngImagePlugin.PngImageFile,
    JpegImagePlugin.JpegImageFile,
    TiffImagePlugin.TiffImageFile,
)


def read(data: bytes, limit_chars: int, ocr: OcrData) -> Reading:
    """Reads every page of a picture.

    Raises:
        RefusalError: `DOCUMENT_DAMAGED`, `DOCUMENT_TOO_LARGE`, `OCR_UNCERTAIN` or
            `PARSER_OUTPUT_LIMIT`. A page that cannot be decoded fails the document, so that it is
            never indexed in part.
    """
    recogniser = PageRecogniser(ocr, limit_chars)
    with _expect_damage(), _open(data) as picture:
        count = getattr(picture, "n_frames", 1)
        check_pages(count)
        texts = []
        for number in range(count):
            picture.seek(number)
            if picture.width * picture.height > PIXELS_MAX:
                raise RefusalError(
                    ParseFailure.DOCUMENT_TOO_LARGE,
                    f"the picture has {picture.width} x {picture.height} points, more than"
                    f" {PIXELS_MAX}; make it smaller",
                )
            texts.append(recogniser.read(ImageOps.exif_transpose(picture)))
    recogniser.check_certain()
    return Reading("", texts, recogniser.describe())


def _open(data: bytes) -> ImageFile.ImageFile:
    for opener in _OPENERS:
        try:
            return opener(BytesIO(data))
        except SyntaxError:
            continue  # how the library says that it is another format
    raise RefusalError(ParseFailure.DOCUMENT_DAMAGED, "the picture cannot be opened")


@contextmanager
def _expect_damage() -> Iterator[None]:
    """Turns what the library raises for a broken file into a refusal without its text."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (MemoryError, RefusalError):
        raise
    except Exception as error:
        raise RefusalError(
            ParseFailure.DOCUMENT_DAMAGED, f"the picture cannot be read: {type(error).__name__}"
        ) from error
