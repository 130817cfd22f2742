"""Office files that need a password: each way of encryption, through the real child process."""

from hashlib import md5, sha1
from io import BytesIO
from struct import pack

import pytest
from cryptography.hazmat.decrepit.ciphers.algorithms import ARC4
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from msoffcrypto.format.ooxml import OOXMLFile
from msoffcrypto.method import rc4, rc4_cryptoapi
from msoffcrypto.method.container.ecma376_encrypted import ECMA376Encrypted
from msoffcrypto.method.ecma376_standard import ECMA376Standard

from chassis.base.errors import InvalidInputError
from ingest.parsing.decrypt_office import DEFAULT_PASSWORD
from ingest.parsing.document import MediaType
from services.ingest.tests.integration.test_parsing_office import docx, paragraph, pptx, xlsx

SECRET = "Sesam-4711 \u00fc"
SALT = bytes(range(16))
TEXT = "The valve of well P-17 is closed."


def lock_agile(data: bytes, password: str = SECRET) -> bytes:
    locked = BytesIO()
    OOXMLFile(BytesIO(data)).encrypt(password, locked)
    return locked.getvalue()


def lock_standard(data: bytes, password: str = SECRET) -> bytes:
    """As Office 2007 does."""
    key = ECMA376Standard.makekey_from_password(password, 0x660E, 0x8004, 24, 128, 16, SALT)

    def encrypt(plain: bytes) -> bytes:
        encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
        return encryptor.update(plain + bytes(-len(plain) % 16)) + encryptor.finalize()

    provider = "AES\0".encode("utf-16-le")
    head = pack("<8I", 36, 0, 0x660E, 0x8004, 128, 24, 0, 0) + provider
    verifier = pack("<I", 16) + SALT + encrypt(SALT) + pack("<I", 20)
    info = pack("<HHII", 4, 2, 36, len(head)) + head + verifier + encrypt(sha1(SALT).digest())
    return contain(pack("<Q", len(data)) + encrypt(data), info)


def contain(package: bytes, info: bytes) -> bytes:
    packed = BytesIO()
    ECMA376Encrypted(package, info).write_to(packed)
    return packed.getvalue()


def name_stream(name: str) -> bytes:
    """The name of a stream in the directory of an OLE file."""
    encoded = (name + "\0").encode("utf-16-le")
    return encoded.ljust(64, b"\0") + pack("<H", len(encoded))


def record(number: int, content: bytes) -> bytes:
    return pack("<HH", number, len(content)) + content


def workbook(text: str, *head: bytes) -> bytes:
    """The stream of a workbook of Excel 97 with a cell; long enough for sectors of its own."""
    begin, end = pack("<HH", 0x0600, 0x0005), record(10, b"")
    start = record(0x809, begin + pack("<HHII", 0x0DBB, 0x07CC, 0x41, 6)) + b"".join(head)
    name = b"Pumps"
    size = len(start) + 4 + 8 + len(name) + len(end)
    sheet = record(0x85, pack("<IHBB", size, 0, len(name), 0) + name) + end
    cell = record(0x204, pack("<HHHHB", 0, 0, 0, len(text), 0) + text.encode("latin-1"))
    begin_sheet = record(0x809, pack("<HHHHII", 0x0600, 0x0010, 0x0DBB, 0x07CC, 0x41, 6))
    filler = record(0x1B6, bytes(4_000)) * 2
    return start + sheet + begin_sheet + cell + filler + end


def xls(stream: bytes) -> bytes:
    """An OLE file with this stream instead of an encrypted package; its names stay in order."""
    packed = contain(stream, b"none")
    for old, new in (
        ("\x06DataSpaces", "\x06D"),
        ("EncryptionInfo", "None"),
        ("EncryptedPackage", "Workbook"),
    ):
        packed = packed.replace(name_stream(old), name_stream(new))
    return packed.replace("EncryptedPackage".encode("utf-16-le"), bytes(32))


def lock_xls(text: str, header: bytes, make_key) -> bytes:
    """Encrypts all records but those that tell how, in blocks of 1,024 bytes."""
    stream = workbook(text, record(47, header))
    masked = b"".join(
        Cipher(ARC4(make_key(number)), None).encryptor().update(bytes(1_024))
        for number in range(len(stream) // 1_024 + 1)
    )
    locked, at = bytearray(stream), 0
    while at < len(stream):
        number, size = (int.from_bytes(stream[at + n : at + n + 2], "little") for n in (0, 2))
        kept = {0x809: size, 47: size, 0x85: 4}.get(number, 0)
        for place in range(at + 4 + kept, at + 4 + size):
            locked[place] ^= masked[place]
        at += 4 + size
    return xls(bytes(locked))


def lock_rc4(text: str, password: str = SECRET) -> bytes:
    def make_key(block: int) -> bytes:
        return rc4._makekey(password, SALT, block)

    sealed = Cipher(ARC4(make_key(0)), None).encryptor().update(SALT + md5(SALT).digest())
    return lock_xls(text, pack("<HHH", 1, 1, 1) + SALT + sealed, make_key)


def lock_cryptoapi(text: str, password: str = SECRET) -> bytes:
    def make_key(block: int) -> bytes:
        return rc4_cryptoapi._makekey(password, SALT, 128, block)

    sealed = Cipher(ARC4(make_key(0)), None).encryptor().update(SALT + sha1(SALT).digest())
    head = pack("<8I", 4, 0, 0x6801, 0x8004, 128, 1, 0, 0) + "RC4\0".encode("utf-16-le")
    verifier = pack("<I", 16) + SALT + sealed[:16] + pack("<I", 20) + sealed[16:]
    header = pack("<HHHII", 1, 4, 2, 4, len(head)) + head + verifier
    return lock_xls(text, header, make_key)


async def find_refusal(parser, data: bytes, **hints: str) -> str:
    with pytest.raises(InvalidInputError) as refusal:
        await parser(data, **({"media_type": "", "file_name": ""} | hints))
    assert TEXT not in refusal.value.detail
    return refusal.value.reason


# So many that the files have sectors of their own.
MANY = [f"{TEXT} {number * 7_919}" for number in range(2_000)]
BIG = "".join(map(paragraph, MANY))
FILES = {
    "a.docx": (lock_agile(docx(BIG)), MediaType.DOCX),
    "b.docx": (lock_standard(docx(BIG)), MediaType.DOCX),
    "c.xlsx": (lock_agile(xlsx([[text] for text in MANY])), MediaType.XLSX),
    "d.pptx": (lock_standard(pptx(*MANY)), MediaType.PPTX),
    "e.xls": (lock_rc4(TEXT), MediaType.XLS),
    "f.xls": (lock_cryptoapi(TEXT), MediaType.XLS),
}


@pytest.mark.parametrize("name", FILES)
async def test_a_locked_file_is_read_with_its_password_only(parser, name):
    data, media_type = FILES[name]
    document = await parser(data, media_type="", file_name=name, password=SECRET)
    assert document.media_type is media_type
    assert TEXT in document.text
    assert await find_refusal(parser, data, file_name=name) == "DOCUMENT_ENCRYPTED"
    for wrong in (SECRET.lower(), "x", SECRET + " "):
        refused = await find_refusal(parser, data, file_name=name, password=wrong)
        assert refused == "PASSWORD_WRONG"


async def test_a_file_without_a_password_is_read_with_one(parser):
    for name, data in (("a.docx", docx(paragraph(TEXT))), ("b.xls", xls(workbook(TEXT)))):
        for password in ("", SECRET):
            document = await parser(data, media_type="", file_name=name, password=password)
            assert TEXT in document.text


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.xls", lock_cryptoapi(TEXT, DEFAULT_PASSWORD)),
        ("b.xlsx", lock_agile(xlsx([[text] for text in MANY]), DEFAULT_PASSWORD)),
    ],
)
async def test_a_workbook_protected_from_changes_needs_no_password(parser, name, data):
    assert TEXT in (await parser(data, media_type="", file_name=name)).text


async def test_a_locked_file_has_to_say_what_it_is(parser):
    data, media_type = FILES["c.xlsx"]
    assert await find_refusal(parser, data, password=SECRET) == "DOCUMENT_ENCRYPTED"
    document = await parser(data, media_type=media_type, file_name="", password=SECRET)
    assert (document.media_type, TEXT in document.text) == (MediaType.XLSX, True)


def many_rounds() -> bytes:
    """As Office would write it, with a blank less."""
    rounds = b' <p:encryptedKey spinCount="100000"', b'<p:encryptedKey spinCount="9999999"'
    return lock_agile(docx(BIG)).replace(*rounds)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (FILES["a.docx"][0][:3_000], "DOCUMENT_DAMAGED"),
        (FILES["a.docx"][0].replace(b"<keyData", b"<keyDate"), "DOCUMENT_DAMAGED"),
        (FILES["a.docx"][0].replace(b'spinCount="1', b'spinCount="x'), "DOCUMENT_DAMAGED"),
        (many_rounds(), "DOCUMENT_ENCRYPTED"),
        (contain(bytes(9_000), b"\x04\0\x03\0" + bytes(90)), "DOCUMENT_ENCRYPTED"),
        (contain(bytes(9_000), b"none"), "DOCUMENT_ENCRYPTED"),
        (contain(bytes(9_000), b"\x04\0\x04\0\x40\0\0\0<!DOCTYPE a ["), "DOCUMENT_DAMAGED"),
    ],
    ids=["cut", "no key", "no rounds", "many rounds", "extensible", "other version", "broken"],
)
async def test_a_damaged_file_is_refused_with_its_reason(parser, data, reason):
    assert await find_refusal(parser, data, file_name="a.docx", password=SECRET) == reason
