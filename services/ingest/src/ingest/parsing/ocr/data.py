"""The language data of the OCR engine. The child imports this module, so keep it small."""

import re
from pathlib import Path
from typing import NamedTuple

from chassis.base.errors import FailedPreconditionError

_LANGUAGES = re.compile(r"[A-Za-z_]{3,20}(\+[A-Za-z_]{3,20}){0,7}")


class OcrData(NamedTuple):
    """A folder of tesseract's language data, and the languages to read, as `eng+deu`."""

    folder: str
    languages: str

    def check(self) -> "OcrData":
        """Check that the data of all languages is there.

        Raises:
            FailedPreconditionError: OCR_LANGUAGES_INVALID, OCR_DATA_MISSING.
        """
        if not _LANGUAGES.fullmatch(self.languages):
            raise FailedPreconditionError(
                "OCR_LANGUAGES_INVALID",
                "AQUIFER_OCR_LANGUAGES must be up to 8 codes of tesseract, such as eng+deu",
            )
        for language in self.languages.split("+"):
            if not Path(self.folder, f"{language}.traineddata").is_file():
                raise FailedPreconditionError(
                    "OCR_DATA_MISSING",
                    f"{self.folder} has no {language}.traineddata; install the language data of"
                    " tesseract, or correct AQUIFER_OCR_DATA_DIR and AQUIFER_OCR_LANGUAGES",
                )
        return self


def open_ocr_data(folder: str, languages: str) -> OcrData | None:
    """The data for OCR; None if no language is given: OCR is off.

    Raises:
        FailedPreconditionError: as `OcrData.check`.
    """
    return OcrData(folder, languages).check() if languages else None
