"""Typed calls of the pdfium library; every handle is an address, and 0 or None is none.

The library is loaded and initialised on import, before the child's jail is sealed.
"""

import ctypes
import sys
from collections.abc import Callable
from ctypes import POINTER, byref, c_char_p, c_double, c_float, c_int, c_uint, c_ulong, c_void_p
from math import cos, radians, sin
from typing import Any, NamedTuple

import pypdfium2_raw as raw

TEXT_OBJECT, FORM_OBJECT = 1, 5
FLATTENED = 1
PASSWORD_ERROR, ENCRYPTION_ERROR = 4, 5
STROKED = 1
GREY_BITMAP, WHITE, WITH_ANNOTATIONS = 1, 0xFFFFFFFF, 1
# The mark at the end of a UTF-16 text.
NUL_BYTES = 2
_SURROGATES = range(0xD800, 0xE000)


class Box(NamedTuple):
    """A rectangle in the coordinates of the page."""

    left: float
    bottom: float
    right: float
    top: float

    def turn(self, angle: int) -> "Box":
        """The rectangle around this one in coordinates whose first axis has this angle."""
        corners = [
            turn(x, y, angle) for x in (self.left, self.right) for y in (self.bottom, self.top)
        ]
        across, up = [x for x, _ in corners], [y for _, y in corners]
        return Box(min(across), min(up), max(across), max(up))


def turn(x: float, y: float, angle: int) -> tuple[float, float]:
    """A place in coordinates whose first axis has this angle, in degrees."""
    if angle == 0:
        return x, y
    cosine, sine = cos(radians(angle)), sin(radians(angle))
    return x * cosine + y * sine, y * cosine - x * sine


def _bind(name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    """Give a function plain types: those of the package make an object for every handle."""
    address = ctypes.cast(getattr(raw, name), c_void_p).value
    if address is None:
        raise ImportError(f"pdfium has no {name}")
    return ctypes.PYFUNCTYPE(result, *arguments)(address)


_H = c_void_p
_OUT = POINTER(c_float)

load_document = _bind("FPDF_LoadMemDocument64", _H, c_char_p, ctypes.c_size_t, c_char_p)
close_document = _bind("FPDF_CloseDocument", None, _H)
find_error = _bind("FPDF_GetLastError", c_ulong)
count_pages = _bind("FPDF_GetPageCount", c_int, _H)
load_page = _bind("FPDF_LoadPage", _H, _H, c_int)
close_page = _bind("FPDF_ClosePage", None, _H)
find_rotation = _bind("FPDFPage_GetRotation", c_int, _H)

load_structure = _bind("FPDF_StructTree_GetForPage", _H, _H)
close_structure = _bind("FPDF_StructTree_Close", None, _H)
count_top_elements = _bind("FPDF_StructTree_CountChildren", c_int, _H)
find_top_element = _bind("FPDF_StructTree_GetChildAtIndex", _H, _H, c_int)
count_elements = _bind("FPDF_StructElement_CountChildren", c_int, _H)
find_element = _bind("FPDF_StructElement_GetChildAtIndex", _H, _H, c_int)
find_element_content = _bind("FPDF_StructElement_GetChildMarkedContentID", c_int, _H, c_int)

find_first_bookmark = _bind("FPDFBookmark_GetFirstChild", _H, _H, _H)
find_next_bookmark = _bind("FPDFBookmark_GetNextSibling", _H, _H, _H)
find_destination = _bind("FPDFBookmark_GetDest", _H, _H, _H)
find_destination_page = _bind("FPDFDest_GetDestPageIndex", c_int, _H, _H)
_get_width = _bind("FPDF_GetPageWidthF", c_float, _H)
_get_height = _bind("FPDF_GetPageHeightF", c_float, _H)
_create_bitmap = _bind("FPDFBitmap_CreateEx", _H, c_int, c_int, c_int, c_void_p, c_int)
_fill_bitmap = _bind("FPDFBitmap_FillRect", c_int, _H, c_int, c_int, c_int, c_int, c_ulong)
_render = _bind("FPDF_RenderPageBitmap", None, _H, _H, c_int, c_int, c_int, c_int, c_int, c_int)
_destroy_bitmap = _bind("FPDFBitmap_Destroy", None, _H)

count_page_objects = _bind("FPDFPage_CountObjects", c_int, _H)
find_page_object = _bind("FPDFPage_GetObject", _H, _H, c_int)
count_form_objects = _bind("FPDFFormObj_CountObjects", c_int, _H)
find_form_object = _bind("FPDFFormObj_GetObject", _H, _H, c_ulong)
find_type = _bind("FPDFPageObj_GetType", c_int, _H)
count_marks = _bind("FPDFPageObj_CountMarks", c_int, _H)
find_mark = _bind("FPDFPageObj_GetMark", _H, _H, c_ulong)
find_marked_content = _bind("FPDFPageObj_GetMarkedContentID", c_int, _H)
find_font = _bind("FPDFTextObj_GetFont", _H, _H)

load_text = _bind("FPDFText_LoadPage", _H, _H)
close_text = _bind("FPDFText_ClosePage", None, _H)
count_characters = _bind("FPDFText_CountChars", c_int, _H)
find_character = _bind("FPDFText_GetUnicode", c_uint, _H, c_int)
find_object = _bind("FPDFText_GetTextObject", _H, _H, c_int)
is_unmapped = _bind("FPDFText_HasUnicodeMapError", c_int, _H, c_int)
is_generated = _bind("FPDFText_IsGenerated", c_int, _H, c_int)
find_font_size = _bind("FPDFText_GetFontSize", c_double, _H, c_int)

count_annotations = _bind("FPDFPage_GetAnnotCount", c_int, _H)
load_annotation = _bind("FPDFPage_GetAnnot", _H, _H, c_int)
close_annotation = _bind("FPDFPage_CloseAnnot", None, _H)
find_subtype = _bind("FPDFAnnot_GetSubtype", c_int, _H)
find_flags = _bind("FPDFAnnot_GetFlags", c_int, _H)
count_drawn = _bind("FPDFAnnot_GetObjectCount", c_int, _H)
remove_annotation = _bind("FPDFPage_RemoveAnnot", c_int, _H, c_int)
flatten = _bind("FPDFPage_Flatten", c_int, _H, c_int)
find_form_type = _bind("FPDF_GetFormType", c_int, _H)
find_field_type = _bind("FPDFAnnot_GetFormFieldType", c_int, _H, _H)
find_field_flags = _bind("FPDFAnnot_GetFormFieldFlags", c_int, _H, _H)
count_options = _bind("FPDFAnnot_GetOptionCount", c_int, _H, _H)
is_selected = _bind("FPDFAnnot_IsOptionSelected", c_int, _H, _H, c_int)
close_forms = _bind("FPDFDOC_ExitFormFillEnvironment", None, _H)

_get_text = _bind("FPDFText_GetText", c_int, _H, c_int, c_int, c_void_p)
_get_matrix = _bind("FPDFText_GetMatrix", c_int, _H, c_int, POINTER(raw.FS_MATRIX))
_get_box = _bind("FPDFText_GetLooseCharBox", c_int, _H, c_int, POINTER(raw.FS_RECTF))
_get_origin = _bind(
    "FPDFText_GetCharOrigin", c_int, _H, c_int, POINTER(c_double), POINTER(c_double)
)
_get_bounds = _bind("FPDFPageObj_GetBounds", c_int, _H, _OUT, _OUT, _OUT, _OUT)
_get_page_box = _bind("FPDF_GetPageBoundingBox", c_int, _H, POINTER(raw.FS_RECTF))
_get_annotation_box = _bind("FPDFAnnot_GetRect", c_int, _H, POINTER(raw.FS_RECTF))
_set_render_mode = _bind("FPDFTextObj_SetTextRenderMode", c_int, _H, c_int)
_set_stroke_width = _bind("FPDFPageObj_SetStrokeWidth", c_int, _H, c_float)
_transform = _bind("FPDFPageObj_Transform", None, _H, *[c_double] * 6)
_open_forms = _bind("FPDFDOC_InitFormFillEnvironment", _H, _H, POINTER(raw.FPDF_FORMFILLINFO))

_get_object_text = _bind("FPDFTextObj_GetText", c_ulong, _H, _H, c_void_p, c_ulong)
_get_element_type = _bind("FPDF_StructElement_GetType", c_ulong, _H, c_void_p, c_ulong)
_get_place = _bind(
    "FPDFDest_GetLocationInPage", c_int, _H, *[POINTER(c_int)] * 3, *[POINTER(c_float)] * 3
)
_get_bookmark_title = _bind("FPDFBookmark_GetTitle", c_ulong, _H, c_void_p, c_ulong)
_get_metadata = _bind("FPDF_GetMetaText", c_ulong, _H, c_char_p, c_void_p, c_ulong)
_get_mark_name = _bind("FPDFPageObjMark_GetName", c_int, _H, c_void_p, c_ulong, POINTER(c_ulong))
_get_mark_value = _bind(
    "FPDFPageObjMark_GetParamStringValue",
    *(c_int, _H, c_char_p, c_void_p, c_ulong, POINTER(c_ulong)),
)
_get_annotation_value = _bind("FPDFAnnot_GetStringValue", c_ulong, _H, c_char_p, c_void_p, c_ulong)
_get_field_value = _bind("FPDFAnnot_GetFormFieldValue", c_ulong, _H, _H, c_void_p, c_ulong)
_get_option = _bind("FPDFAnnot_GetOptionLabel", c_ulong, _H, _H, c_int, c_void_p, c_ulong)


# The library serves one thread, so one piece of memory is enough for what it answers.
_RECTANGLE, _MATRIX = raw.FS_RECTF(), raw.FS_MATRIX()
_X, _Y = c_double(), c_double()
_BOUNDS = [c_float() for _ in range(4)]
_TO_RECTANGLE, _TO_MATRIX, _TO_X, _TO_Y = map(byref, (_RECTANGLE, _MATRIX, _X, _Y))
_TO_BOUNDS = [byref(bound) for bound in _BOUNDS]


def read_characters(text: int, count: int) -> str:
    """The text of a page, one character of the result for each character of the page."""
    units = (ctypes.c_uint16 * (count + 1))()
    written = _get_text(text, 0, count, units)
    found = bytes(units)[: 2 * max(0, written - 1)].decode("utf-16-le", "replace")
    if len(found) == count:
        return found
    # Characters without a Unicode value are left out there.
    return "".join(_to_sign(find_character(text, index)) for index in range(count))


def _to_sign(code: int) -> str:
    is_character = code <= sys.maxunicode and code not in _SURROGATES
    return chr(code) if is_character else "\ufffd"


def find_matrix(text: int, index: int) -> tuple[float, float, float, float]:
    """How a character is turned and scaled on the page: a, b, c and d of its matrix."""
    _get_matrix(text, index, _TO_MATRIX)
    return _MATRIX.a, _MATRIX.b, _MATRIX.c, _MATRIX.d


def find_origin(text: int, index: int) -> tuple[float, float]:
    """Where a character begins on its baseline."""
    _get_origin(text, index, _TO_X, _TO_Y)
    return _X.value, _Y.value


def find_box(text: int, index: int) -> Box:
    """The place that a character takes on its line."""
    _get_box(text, index, _TO_RECTANGLE)
    return Box(_RECTANGLE.left, _RECTANGLE.bottom, _RECTANGLE.right, _RECTANGLE.top)


def find_sides(text: int, first: int, last: int) -> tuple[float, float]:
    """The left side of one character and the right side of another."""
    _get_box(text, first, _TO_RECTANGLE)
    left = _RECTANGLE.left
    if first != last:
        _get_box(text, last, _TO_RECTANGLE)
    return left, _RECTANGLE.right


def find_page_box(page: int) -> Box:
    """The part of the page that is shown."""
    _get_page_box(page, _TO_RECTANGLE)
    return Box(_RECTANGLE.left, _RECTANGLE.bottom, _RECTANGLE.right, _RECTANGLE.top)


def find_page_size(page: int) -> tuple[float, float]:
    """Width and height of the page as it is shown."""
    return _get_width(page), _get_height(page)


def render_grey(page: int, width: int, height: int) -> bytes:
    """The page on white as rows of bytes, one for each point.

    Raises:
        MemoryError: there is none for the picture.
    """
    points = ctypes.create_string_buffer(width * height)
    bitmap = _create_bitmap(width, height, GREY_BITMAP, points, width)
    if not bitmap:
        raise MemoryError
    try:
        _fill_bitmap(bitmap, 0, 0, width, height, WHITE)
        _render(bitmap, page, 0, 0, width, height, 0, WITH_ANNOTATIONS)
    finally:
        _destroy_bitmap(bitmap)
    return points.raw


def find_annotation_box(annotation: int) -> Box:
    """The place of an annotation."""
    _get_annotation_box(annotation, _TO_RECTANGLE)
    return Box(_RECTANGLE.left, _RECTANGLE.bottom, _RECTANGLE.right, _RECTANGLE.top)


def find_width(text_object: int) -> float:
    """Width of the drawn glyphs of a text object, 0 if the font lacks them."""
    _get_bounds(text_object, *_TO_BOUNDS)
    return _BOUNDS[2].value - _BOUNDS[0].value


def find_top(item: int) -> float:
    """The height of the upper side of an object."""
    _get_bounds(item, *_TO_BOUNDS)
    return _BOUNDS[3].value


def widen(text_object: int) -> None:
    """Give a text object without drawn glyphs a width: the library skips one that has none."""
    _set_render_mode(text_object, STROKED)
    _set_stroke_width(text_object, 1.0)
    # Only a transformation measures the object again.
    _transform(text_object, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0)


def open_forms(document: int) -> tuple[int, object]:
    """The handle for the form fields of a document, and what must live as long as it."""
    settings = raw.FPDF_FORMFILLINFO(version=2)
    return _open_forms(document, byref(settings)) or 0, settings


def find_destination_height(destination: int) -> float | None:
    """The height on a page that a destination names, if it does."""
    flags, places = [c_int() for _ in range(3)], [c_float() for _ in range(3)]
    found = _get_place(destination, *map(byref, flags), *map(byref, places))
    return places[1].value if found and flags[1].value else None


def read_object_text(text_object: int, text: int) -> str:
    """The characters of a text object, as the text of its page has them."""
    return _read_text(lambda *space: _get_object_text(text_object, text, *space))


def read_structure_type(element: int) -> str:
    """The standard type of a structure element, such as H1, whatever its file names it."""
    return _read_text(lambda *space: _get_element_type(element, *space))


def read_bookmark_title(bookmark: int) -> str:
    return _read_text(lambda *space: _get_bookmark_title(bookmark, *space))


def read_metadata(document: int, key: str) -> str:
    return _read_text(lambda *space: _get_metadata(document, key.encode(), *space))


def read_annotation_value(annotation: int, key: str) -> str:
    return _read_text(lambda *space: _get_annotation_value(annotation, key.encode(), *space))


def read_field_value(forms: int, annotation: int) -> str:
    return _read_text(lambda *space: _get_field_value(forms, annotation, *space))


def read_option(forms: int, annotation: int, option: int) -> str:
    return _read_text(lambda *space: _get_option(forms, annotation, option, *space))


def read_mark_name(mark: int) -> str:
    return _read_text(lambda *space: _measure(_get_mark_name, mark, *space))


def read_mark_value(mark: int, key: str) -> str:
    return _read_text(lambda *space: _measure(_get_mark_value, mark, key.encode(), *space))


def _measure(function: Callable[..., int], *arguments: object) -> int:
    size = c_ulong()
    return size.value if function(*arguments, byref(size)) else 0


def _read_text(fill: Callable[..., int]) -> str:
    """Call a function that fills a buffer with UTF-16 and a final NUL, and returns the size."""
    size = fill(None, 0)
    if size <= NUL_BYTES:
        return ""
    space = ctypes.create_string_buffer(size)
    fill(space, size)
    return space.raw[: size - NUL_BYTES].decode("utf-16-le", "replace")


def _start() -> None:
    """Without fonts of the system, so that a text is the same inside and outside of a jail."""
    no_folders = (c_char_p * 1)(None)
    settings = raw.FPDF_LIBRARY_CONFIG(version=2)
    settings.m_pUserFontPaths = ctypes.cast(no_folders, type(settings.m_pUserFontPaths))
    raw.FPDF_InitLibraryWithConfig(byref(settings))


_start()
