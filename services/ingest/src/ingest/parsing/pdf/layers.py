"""Finds the layers of a PDF that are switched off; pdfium does not tell them."""

import io
import logging
from functools import cached_property
from typing import Any

from ingest.parsing.failure import ParseFailure, RefusalError


class Layers:
    """The layers of one document; it is read again only when a layer is asked for."""

    def __init__(self, data: bytes, password: str) -> None:
        self._data = data
        self._password = password

    def is_hidden(self, page: int, name: str) -> bool:
        """Whether all layers of this name are off, or, without a name, the page's groups.

        Raises:
            RefusalError: `DOCUMENT_DAMAGED`.
        """
        try:
            return self._is_hidden(page, name)
        except (MemoryError, ImportError, OSError):
            raise
        except Exception as error:
            # The library may raise any error for a broken file; its text could quote the document.
            raise RefusalError(
                ParseFailure.DOCUMENT_DAMAGED, f"PDF: {type(error).__name__} in its layers"
            ) from error

    def _is_hidden(self, page: int, name: str) -> bool:
        if name:
            return self._states.get(name, False)
        return self._are_groups_hidden(page)

    @cached_property
    def _file(self) -> Any:
        # Few documents have layers, and the import takes a tenth of a second.
        from pypdf import PdfReader  # noqa: PLC0415
        from pypdf.errors import PdfReadError  # noqa: PLC0415

        # Its warnings could quote the document.
        library = logging.getLogger("pypdf")
        library.addHandler(logging.NullHandler())
        library.propagate = False
        try:
            file = PdfReader(io.BytesIO(self._data))
        except PdfReadError:
            # Only with a pointer to the object table, even a wrong one, it rebuilds the table.
            file = PdfReader(io.BytesIO(self._data + b"\nstartxref\n0\n%%EOF\n"))
        if file.is_encrypted:
            file.decrypt(self._password)
        return file

    @cached_property
    def _off(self) -> set[int]:
        """Object numbers of the layers that are off when the document is opened."""
        settings = self._file.root_object.get("/OCProperties", {})
        default = settings.get("/D", {})
        off = {layer.idnum for layer in default.get("/OFF", ())}
        if default.get("/BaseState") == "/OFF":
            off |= {layer.idnum for layer in settings.get("/OCGs", ())}
            off -= {layer.idnum for layer in default.get("/ON", ())}
        return off

    @cached_property
    def _states(self) -> dict[str, bool]:
        states = dict[str, bool]()
        for layer in self._file.root_object.get("/OCProperties", {}).get("/OCGs", ()):
            name = str(layer.get_object().get("/Name", ""))
            states[name] = states.get(name, True) and layer.idnum in self._off
        return states

    def _are_groups_hidden(self, page: int) -> bool:
        """Whether all membership groups of a page are hidden: they have no name to tell them by."""
        properties = self._file.pages[page].get("/Resources", {}).get("/Properties", {})
        groups = [group.get_object() for group in properties.get_object().values()]
        groups = [group for group in groups if group.get("/Type") == "/OCMD"]
        return bool(groups) and all(map(self._is_group_hidden, groups))

    def _is_group_hidden(self, group: Any) -> bool:
        members = group.raw_get("/OCGs") if "/OCGs" in group else []
        numbers = [members] if hasattr(members, "idnum") else list(members)
        states = [number.idnum in self._off for number in numbers]
        match group.get("/P", "/AnyOn"):
            case "/AllOn":
                return any(states)
            case "/AnyOff":
                return bool(states) and not any(states)
            case "/AllOff":
                return not all(states)
            case _:
                return bool(states) and all(states)
