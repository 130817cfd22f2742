"""Recognises the text of one picture, with the tesseract engine that xberg contains."""

import asyncio
from io import BytesIO
from typing import Final, NamedTuple

import xberg
from PIL import ImageChops, ImageFilter
from PIL.Image import Image
from xberg.options import (
    ExtractInput,
    ExtractionConfig,
    OcrConfig,
    OcrElementConfig,
    TesseractConfig,
)

from ingest.parsing.failure import ParseFailure, RefusalError
from ingest.parsing.ocr.data import OcrData

THREADS_MAX: Final = 64
# Confidence from which text is taken, 0 to 1: read pages have 0.9 and more, pages that stand on
# their head, drawings and noise less than 0.5.
CONFIDENT: Final = 0.7
TURNS: Final = (0, 180, 90, 270)
# A picture whose darkest and lightest points differ less than this is empty.
CONTRAST_MIN: Final = 40
# Points that differ from their neighbours by more than SPECK, in shares of all, from which a
# picture counts as noisy: the engine takes minutes for a page full of specks.
SPECK: Final = 100
SPECKS_SHARE_MAX: Final = 0.005


class Recognised(NamedTuple):
    """Text of a picture; `confidence` from 0 to 1 is that of its words, by their length."""

    text: str
    confidence: float

    @property
    def is_certain(self) -> bool:
        """Whether the text may be taken for what is on the picture."""
        return self.confidence >= CONFIDENT


NOTHING: Final = Recognised("", 0.0)


def recognise(picture: Image, data: OcrData) -> Recognised:
    """Reads a picture as it stands, or, if that is not certain, turned as it reads best."""
    grey = picture.convert("L")
    shades = [shade for shade, count in enumerate(grey.histogram()) if count]
    if shades[-1] - shades[0] < CONTRAST_MIN:
        return NOTHING
    grey = _remove_specks(grey)
    best = NOTHING
    for turn in TURNS:
        found = _read(grey.rotate(turn, expand=True) if turn else grey, data)
        if found.is_certain:
            return found
        best = max(best, found, key=lambda one: one.confidence)
    return best


def _remove_specks(grey: Image) -> Image:
    smooth = grey.filter(ImageFilter.MedianFilter(3))
    differences = ImageChops.difference(grey, smooth).histogram()
    specks = sum(differences[SPECK:])
    return smooth if specks > SPECKS_SHARE_MAX * grey.width * grey.height else grey


def _read(grey: Image, data: OcrData) -> Recognised:
    languages = data.languages.split("+")
    packed = BytesIO()
    grey.save(packed, "PNG", compress_level=1)
    config = ExtractionConfig(
        use_cache=False,
        force_ocr=True,
        enable_quality_processing=False,
        output_format="plain",
        ocr=OcrConfig(
            language=languages,
            tessdata_path=data.folder,
            element_config=OcrElementConfig(include_elements=True, min_level="word"),
            tesseract_config=TesseractConfig(
                language=languages,
                output_format="text",
                enable_table_detection=False,
                use_cache=False,
            ),
        ),
    )
    source = ExtractInput(kind="bytes", bytes=packed.getvalue(), mime_type="image/png")
    try:
        found = asyncio.run(xberg.extract(source, config)).results[0]
    except (xberg.XbergError, RuntimeError, ValueError) as error:
        # The message could quote the document.
        raise RefusalError(
            ParseFailure.DOCUMENT_DAMAGED, f"the picture cannot be read: {type(error).__name__}"
        ) from error
    words = [element for element in found.ocr_elements or () if element.text.strip()]
    size = sum(len(word.text) for word in words)
    if not size:
        return NOTHING
    confidence = sum(len(word.text) * word.confidence.recognition for word in words) / size
    return Recognised(found.content, confidence)
