"""The registry of formats: what each is called, and which module reads it.

A new format is a member of `MediaType`, one line here and, unless an existing reader can read it,
one module with `read(data, limit_chars) -> Reading`.
"""

from dataclasses import dataclass

from ingest.parsing.document import MediaType


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """`reader` is a module in `ingest.parsing`; empty for text that is kept as it is.

    `ocr_reader` is one that recognises text on pictures, if OCR is on; a format without another is
    read by OCR only.

    `aliases` are further media types, `syntax` is what further ones end with, `suffixes` are those
    of file names. The bytes of a format `in_text` are decoded first, and its reader gets UTF-8;
    with `declares_charset`, the document itself may declare it. `started_early`: a child waits for
    the first document. `takes_password`: its reader opens files with a password.
    """

    suffixes: tuple[str, ...]
    aliases: tuple[str, ...] = ()
    syntax: str = ""
    reader: str = ""
    ocr_reader: str = ""
    in_text: bool = False
    declares_charset: bool = False
    started_early: bool = False
    takes_password: bool = False

    @property
    def needs_ocr(self) -> bool:
        """Whether it is a format of pictures."""
        return bool(self.ocr_reader) and not self.reader


def _picture(*suffixes: str, aliases: tuple[str, ...] = ()) -> Format:
    return Format(suffixes=suffixes, aliases=aliases, ocr_reader="ocr.read_picture")


def _office(*suffixes: str, aliases: tuple[str, ...] = (), takes_password: bool = False) -> Format:
    return Format(
        suffixes=suffixes, aliases=aliases, reader="read_office", takes_password=takes_password
    )


FORMATS = {
    MediaType.TEXT: Format(suffixes=(".txt",), in_text=True),
    MediaType.MARKDOWN: Format(
        suffixes=(".md", ".markdown", ".mdown", ".mkd"),
        aliases=("text/x-markdown",),
        reader="markdown.read_markdown",
        in_text=True,
        started_early=True,
    ),
    MediaType.HTML: Format(
        suffixes=(".html", ".htm", ".xhtml"),
        aliases=("application/xhtml+xml",),
        reader="html.read_html",
        in_text=True,
        declares_charset=True,
        started_early=True,
    ),
    MediaType.CSV: Format(
        suffixes=(".csv",),
        aliases=(
            "application/csv",
            "application/x-csv",
            "text/x-csv",
            "text/comma-separated-values",
            "text/x-comma-separated-values",
        ),
        reader="data.read_csv",
        in_text=True,
    ),
    MediaType.TSV: Format(
        suffixes=(".tsv", ".tab"),
        aliases=("text/tsv", "text/x-tsv", "application/tsv"),
        reader="data.read_csv",
        in_text=True,
    ),
    MediaType.JSON: Format(
        suffixes=(".json", ".jsonld", ".geojson", ".topojson", ".har"),
        aliases=("text/json", "text/x-json", "application/x-json", "application/geojson"),
        syntax="+json",
        reader="data.read_json",
        in_text=True,
    ),
    MediaType.JSONL: Format(
        suffixes=(".jsonl", ".ndjson", ".jsonlines"),
        aliases=(
            *("application/x-ndjson", "application/ndjson", "application/x-jsonl", "text/jsonl"),
            *("application/jsonlines", "application/x-jsonlines", "application/json-lines"),
            *("text/x-ndjson", "text/ndjson", "application/json-seq"),
        ),
        reader="data.read_jsonl",
        in_text=True,
    ),
    MediaType.XML: Format(
        suffixes=(
            *(".xml", ".rss", ".atom", ".rdf", ".dita", ".ditamap", ".dbk", ".docbook", ".tei"),
            *(".gpx", ".kml", ".xliff", ".xlf", ".tmx"),
        ),
        aliases=("text/xml",),
        syntax="+xml",
        reader="xml.read_xml",
        in_text=True,
        declares_charset=True,
    ),
    MediaType.NOTEBOOK: Format(suffixes=(".ipynb",), reader="data.read_notebook", in_text=True),
    MediaType.PDF: Format(
        suffixes=(".pdf",),
        aliases=("application/x-pdf",),
        reader="pdf.read_pdf",
        ocr_reader="ocr.read_scan",
        started_early=True,
        takes_password=True,
    ),
    MediaType.DOCX: _office(".docx", ".docm", ".dotx", takes_password=True),
    MediaType.PPTX: _office(".pptx", ".pptm", ".ppsx", takes_password=True),
    MediaType.XLSX: _office(".xlsx", ".xlsm", takes_password=True),
    MediaType.XLS: _office(".xls", takes_password=True),
    MediaType.ODT: _office(".odt"),
    MediaType.ODS: _office(".ods"),
    MediaType.ODP: _office(".odp"),
    MediaType.RTF: _office(".rtf", aliases=("text/rtf",)),
    MediaType.EPUB: _office(".epub"),
    MediaType.EML: Format(suffixes=(".eml",), reader="mail.read_mail"),
    MediaType.MSG: _office(".msg"),
    MediaType.MHTML: Format(
        suffixes=(".mhtml", ".mht"),
        aliases=("application/x-mimearchive", "application/mhtml", "text/mhtml"),
        reader="mail.read_mhtml",
    ),
    MediaType.PNG: _picture(".png"),
    MediaType.JPEG: _picture(".jpg", ".jpeg", aliases=("image/jpg",)),
    MediaType.TIFF: _picture(".tif", ".tiff"),
}

# Texts that are kept as they are, whatever their media type says of their use.
TEXTS = frozenset(
    "application/" + name
    for name in (
        *("yaml", "x-yaml", "toml", "sql"),
        *("javascript", "x-javascript", "typescript", "x-sh", "x-csh", "x-tex", "x-latex"),
        *("x-python", "x-httpd-php", "x-perl", "x-ruby", "x-tcl", "x-subrip", "x-troff"),
    )
)


def find_media_type(name: str) -> MediaType | None:
    """The format of a media type without parameters, in lower case; None if it is not accepted."""
    for media_type, form in FORMATS.items():
        if name == media_type or name in form.aliases:
            return media_type
    for media_type, form in FORMATS.items():
        if form.syntax and name.endswith(form.syntax):
            return media_type
    return MediaType.TEXT if name.startswith("text/") or name in TEXTS else None


def find_by_suffix(file_name: str) -> MediaType | None:
    """The format of a file name; None if no format has this suffix."""
    lower = file_name.lower()
    return next((kind for kind, form in FORMATS.items() if lower.endswith(form.suffixes)), None)
