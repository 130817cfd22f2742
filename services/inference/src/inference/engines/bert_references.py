"""The vectors of one sentence from correct models, to check engines."""

import base64

import numpy as np

from inference.ports import Matrix

SENTENCE = (
    "Ocean currents carry heat from the tropics to the poles, "
    "and their slowing would cool northern Europe within decades."
)

# Computed in f32 by sentence-transformers 6.2 on torch 2.13; 384 little-endian f16 values.
_MINILM = (
    "eKhGLU8soikKLtqnxa1crlWhxiJzG7So6qR1JJMp3B8trVKqY6jMq/SpbaVhpeImS6t4HuutboyIpR0vGqxPK8Os"
    "lSxxqSYeI6qOpeKteSxhJeisdSpdK8AMOhs9l7oq3Kx7JisqS6X/qSmuGq0vKgimnqPhGOgpcifEqtWrqqg+Kdqo"
    "F6TNLKeo85ywIJ6kZK9vri8nJKkJpSanuZifrFAtF5zQpq+kqCSsJRwwEa72kZee6aU2rCok1ZlBrBkwySBNLE8T"
    "/qgLKYIdeqbnJdylEBxwKMMmN6cJk7evZpuznwGlYSucoxElWCm/oXKkqJ4CLyCjNDGvJn4tKB4AgFEsPKpSJHYq"
    "tSTXnVitJxwfn1SlQ6swJaynQC4iJOik6iQJJ+OgySAZEOuFcSutqISlqam/nVgnmiRaIwIhE61+r9CkyCKPKyws"
    "wZRSJfcnph1nqsWpRSX3K2KmACw1KbAq55pznnshIKjGqropoS1JKbIr7qypp/efV5Uxmjypgi1eLgArw6W5rnmV"
    "YyOoo18uEyjQKpwWTCItKiSeAiQhre8fuJz+pyIcQKxVLfsrhiwUrHSt46jQLIclCqoAgK8oo6DfqlEnXqn3JFWr"
    "JRzKqlWoaJ5TsIApKKvvKhOpuiTPK8aivCpCrAKtEp/KLEquaal5JNCqY61oJj6wJzAFpMYcx6uOLkOr/6RpIaOg"
    "6qUyqo8w9aNfJR0dzqowLEyp1yQPLOynAahHIpsdISuLpwWnXB5drgWpcaoMJWKrUSQZoWapcySpKTMqQS0AJmSs"
    "F6ChJ7amuZ87IX+W0Cqnrl0mOBCCpMgpgK0Ppd2vfykJnkEi76gFn7Amo6sAgNMsNSmdmFUsNo+Upgsh/ROfHr0n"
    "LR3vLFsvvSMdJRkmuap7oxEoOiovKKUsY6ouKc4pzCrRKkArCiqRnm2p4K8qKjmcZiXCn5usCisLovmnVCXLLZep"
    "8Sc6IXasxafjKgerSDARGfwgWiBKK9SXkR51IN2qGaPBK+WqxSZLq0yT"
)


# Computed in f64 by numpy from the weights of 4 bits, as a passage; as above.
_MULTILINGUAL = (
    "fx38qCanVKezLYif2RxaJkUuNCeyKrGZ2SfeJI+mdyrfKdCe5YkxrSglMKSiriYreieMK92pHqKlJSGs5ajTqHws"
    "G6uJLHQiX6xQqfkskKq0pFws0Bq0n0MogiiBqNMipCLwqIeoPC1BKe4t8SYnq86tDq7eqTktEir5pD0q9CKDLR0s"
    "FyAnK8CiqqInqVkrViTjqZeoWylvJuWpTCjcpgysZKKNpjYUtq06LQMsLa2DK8igfyorK0CuWq1oqQqtLKhvLWEr"
    "XqqdMKWhHSwWqq2mg6FKKxCuNiznpLSoFygjKUIkaas8qvkRaB9ApmCneipNqt2oSqoDq7eoIygqKbUliyMSLFIp"
    "DCafJoQpAixPqlqsCZinqKutoisIrc4sWS1FKs8r0KfHLMumKiqVpmEkK6H2Ke6oCawOqcspLSuhrU2qzqtnKsap"
    "0KTXJkIsJq5MqJarbyF+GGEn2CQzJN2kGCfXLtcoMp2foBapyqSTq9+pAKcIKAUst6scGS4nMKxzqqyfTygvqLMn"
    "QCegLDomtKjxI4QqOp8qJ4Oe7i5XpnIn4i0xrAmsPC2rqEimPqjCKiGu8SFcKHenMitBrHKsKiZkLHmqjSBMKGqs"
    "ySOyqKWtTam7rAOkdBuDDTaqyagDr6kkTa31KbsgRqc4KcqobxQJLDCl/6lSrOKlkCqrKQ0uS6o/Ks2hOahRL6Qr"
    "6CkHnEimdqBnqXurI62RCUQjgajQrBWsoCdgKwal5KKuKt8r+inoJ3gleyDQJEspV65lrAwkRalNLDKrLS2LKdwd"
    "3S7jqS0saqgRq8QqeSgjrDkptiHhJ/AYGiCIKj0mEK0sqisoTS5sqGorA6arreSfyqk3pWitHygzIxmqTKp3Jskk"
    "QiYhpGSpBycrqi4gE6fPLC6sAK1UJJMgO6voJqyo36pxKbqlQacVGOQl6a2MqU4ngKqKKvmjQKzzKOcqw6glIzAs"
    "+SvGKwgu86u4oPYs5KqVLVwqy6z7Jsuia64wprQsGqxbrmgmQizLK6cm"
)


def minilm() -> Matrix:
    """The unit-length vector of `SENTENCE` by all-MiniLM-L6-v2, f32 [384]."""
    return _decode(_MINILM)


def multilingual() -> Matrix:
    """The unit-length vector of the passage `SENTENCE` by multilingual-e5-small, f32 [384]."""
    return _decode(_MULTILINGUAL)


def _decode(text: str) -> Matrix:
    halves = np.frombuffer(base64.b64decode(text), "<f2").astype(np.float32)
    return halves / np.float32(np.linalg.norm(halves))
