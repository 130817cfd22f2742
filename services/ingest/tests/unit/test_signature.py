"""Signatures tell how similar texts are, in any script, and always the same."""

import random
import subprocess
import sys
from collections.abc import Sequence
from itertools import combinations

import pytest

from ingest.parsing.steps.near_duplicates import SHINGLE_WORDS, sign
from ingest.signature import BANDS, NUMBERS, estimate_similarity, list_bands
from ingest.usecases.documents.duplicates import SIMILARITY_MIN

ENGLISH = """The pump delivers forty litres of water in a minute at a pressure of three bar. Before
the first start, fill the housing with clean water and open the valve on the pressure side. Never
let the pump run dry, because its seal needs the water as a lubricant and is destroyed without it
within a few minutes. Check the filter on the suction side once a month, and clean it when the flow
has fallen by more than a tenth. In winter, when frost is likely, drain the housing through the
screw at its lowest point. If the motor hums but does not turn, disconnect it from the mains and
look for a stone or a piece of wood in the impeller."""
CHINESE = (
    "水泵每分钟可以输送四十升水,压力为三巴。首次启动之前,请用清水注满泵壳,并打开压力侧的阀门。"
    "切勿让水泵干转,因为密封件需要水作为润滑剂,否则几分钟之内就会损坏。每月检查一次吸入侧的"
    "过滤器,当流量下降超过十分之一时进行清洗。冬季可能结冰时,请通过最低处的螺钉排空泵壳。如果"
    "电机发出嗡嗡声但不转动,请断开电源,并检查叶轮中是否有石子或木块。"
)
THAI = (
    "ปั๊มน้ำส่งน้ำได้สี่สิบลิตรต่อนาทีที่แรงดันสามบาร์ก่อนเริ่มใช"
    "้งานครั้งแรกให้เติมน้ำสะอาดลงในตัวเรือนและเปิดวาล์วด้านแรงดั"
    "นห้ามปล่อยให้ปั๊มทำงานโดยไม่มีน้ำเพราะซีลต้องใช้น้ำเป็นสารหล"
    "่อลื่นและจะเสียหายภายในไม่กี่นาทีตรวจสอบไส้กรองด้านดูดเดือนล"
    "ะครั้งและทำความสะอาดเมื่ออัตราการไหลลดลงมากกว่าหนึ่งในสิบในฤ"
    "ดูหนาวเมื่ออาจเกิดน้ำแข็งให้ระบายน้ำออกจากตัวเรือนผ่านสกรูที"
    "่จุดต่ำสุด"
)
JAPANESE = (
    "このポンプは毎分四十リットルの水を三バールの圧力で送ります。初めて始動する前に、きれいな水で"
    "ケーシングを満たし、吐出側のバルブを開いてください。空運転は絶対にしないでください。"
    "シールは水で潤滑されるため、水がないと数分で壊れます。"
)
ARABIC = """تضخ المضخة أربعين لترا من الماء في الدقيقة عند ضغط ثلاثة بار. قبل التشغيل الأول
املأ الغلاف بالماء النظيف وافتح الصمام على جانب الضغط. لا تدع المضخة تعمل وهي جافة
لأن الحشية تحتاج إلى الماء
للتشحيم وتتلف بدونه خلال دقائق قليلة. افحص المرشح مرة كل شهر ونظفه عندما ينخفض التدفق."""
INVOICE = """Our terms of delivery apply to all orders of this year. Prices are net and in euros,
and an invoice is due within thirty days. Goods stay our property until they are paid in full."""
CHINESE_INVOICE = (
    "本合同适用于本年度的所有订单。价格为净价,以欧元计算,发票应在三十天之内支付。在全额付款之前,"
    "货物仍为我方财产。"
)
THAI_INVOICE = "เงื่อนไขการจัดส่งของเราใช้กับคำสั่งซื้อทั้งหมดในปีนี้ราคาเป็นราคาสุทธิเป็นยูโรและต้องชำระภายในสามสิบวัน"
OTHERS = (INVOICE, CHINESE_INVOICE, THAI_INVOICE)
TEXTS = {
    "English": ENGLISH,
    "Chinese": CHINESE,
    "Thai": THAI,
    "Japanese": JAPANESE,
    "Arabic": ARABIC,
}


def compare(one: str, other: str) -> float:
    return estimate_similarity(sign(one), sign(other))


def share_band(one: str, other: str) -> bool:
    return bool(set(list_bands(sign(one), "c")) & set(list_bands(sign(other), "c")))


def drop_word(text: str) -> str:
    """A text without a word in its middle, or without a sign of a script without blanks."""
    middle = len(text) // 2
    end = text.find(" ", middle + 1)
    return text[:middle] + text[end if 0 < end < middle + 20 else middle + 1 :]


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_small_edits_stay_above_the_threshold(text: str):
    for edited in (drop_word(text), f"{text} 2026", text.upper(), f"  {text}\n".replace(".", "!")):
        assert compare(text, edited) >= SIMILARITY_MIN
        assert share_band(text, edited)


def test_unrelated_texts_stay_far_below_in_every_script():
    for one, other in combinations((*TEXTS.values(), *OTHERS), 2):
        assert compare(one, other) < 0.1
        assert not share_band(one, other)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_half_of_another_text_is_below_the_threshold(text: str):
    assert 0.1 < compare(text, text[: len(text) // 2]) < SIMILARITY_MIN


def test_case_blanks_and_punctuation_make_no_difference():
    assert sign("Water finds, its way.") == sign("water\n\tFINDS its way")
    assert sign("Straße am Fluss heute") == sign("STRASSE AM FLUSS HEUTE")


def similar_to(words: Sequence[str], share: float, rng: random.Random) -> str:
    """The words of a text, of which a share is others."""
    return " ".join(word if rng.random() > share else str(rng.random()) for word in words)


def jaccard(one: str, other: str) -> float:
    def shingle(text: str) -> set[tuple[str, ...]]:
        words = text.replace(".", " ").split()
        return set(zip(*(words[n:] for n in range(SHINGLE_WORDS)), strict=False))

    sets = shingle(one), shingle(other)
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def test_the_estimate_is_near_the_jaccard_index_and_bands_find_what_is_above_the_threshold():
    rng = random.Random(7)
    errors, missed, found = [], 0, 0
    for _ in range(300):
        words = [str(rng.randrange(10**6)) for _ in range(400)]
        text, other = " ".join(words), similar_to(words, rng.uniform(0.0, 0.06), rng)
        exact = jaccard(text, other)
        errors.append(compare(text, other) - exact)
        if exact >= SIMILARITY_MIN:
            found += share_band(text, other)
            missed += not share_band(text, other)
    assert abs(sum(errors) / len(errors)) < 0.01
    assert sum(abs(error) > 0.1 for error in errors) <= 3
    assert found > 100
    assert missed <= 2


@pytest.mark.parametrize("text", ["", " \n", "...", "。、"])
def test_a_text_without_words_has_no_signature(text: str):
    assert sign(text) == b""


def test_texts_of_few_words_are_compared_as_a_whole():
    assert compare("Water", "water") == 1
    assert compare("Water flows", "Water flows!") == 1
    assert compare("Water flows", "Water") < SIMILARITY_MIN
    assert compare("水", "水。") == 1


def test_long_texts_are_read_in_parts_without_a_seam():
    words = [str(number) for number in range(40_000)]
    text = " ".join(words)
    assert compare(text, " ".join(reversed(words))) < 0.1
    # A set has no order: turned around at a place, only the shingles over that place are others.
    assert compare(text, " ".join(words[16_384:] + words[:16_384])) > 0.98


def test_bands_are_apart_for_collections():
    signature = sign(ENGLISH)
    assert len(set(list_bands(signature, "1 a"))) == BANDS
    assert not set(list_bands(signature, "1 a")) & set(list_bands(signature, "1 b"))
    assert all(-(1 << 63) <= band < 1 << 63 for band in list_bands(signature, "1 a"))


def test_a_signature_is_the_same_in_every_process_and_release():
    """If this fails after an update of the library, raise the version of the step."""
    assert len(sign(ENGLISH)) == NUMBERS.size
    fixed = {text: (sign(text)[:8].hex(), list_bands(sign(text), "1 a")[0]) for text in FIXED}
    assert fixed == FIXED
    module = "ingest.parsing.steps.near_duplicates"
    script = f"from {module} import sign; print(sign({CHINESE!r}).hex())"
    for seed in ("0", "1"):
        told = subprocess.run(
            [sys.executable, "-c", script],
            env={"PYTHONHASHSEED": seed, "PYTHONUTF8": "1"},
            check=True,
            capture_output=True,
            text=True,
        )
        assert told.stdout.strip() == sign(CHINESE).hex()


FIXED = {
    ENGLISH: ("b779b81c7156f03b", 3350152039523113062),
    CHINESE: ("5b308758d6df4606", 7349717629264482952),
    THAI: ("6cf981082001bd06", 459449282117958460),
}
