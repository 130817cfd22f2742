"""The vector of one sentence from a correct all-MiniLM-L6-v2, to check engines."""

import base64

import numpy as np

from inference.ports import Matrix

SENTENCE = (
    "Ocean currents carry heat from the tropics to the poles, "
    "and their slowing would cool northern Europe within decades."
)

# Computed in f32 by sentence-transformers 6.2 on torch 2.13; 384 little-endian f16 values.
_VECTOR = (
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


def vector() -> Matrix:
    """The unit-length vector of `SENTENCE`, f32 [384]."""
    halves = np.frombuffer(base64.b64decode(_VECTOR), "<f2").astype(np.float32)
    return halves / np.float32(np.linalg.norm(halves))
