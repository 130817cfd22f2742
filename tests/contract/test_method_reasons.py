"""The comment of each method lists exactly the reasons that the method can answer with.

Both directions are proven statically: `raising.py` follows every call from the servicer's method
through use cases, ports, the adapters wired to them, stores, context managers and the methods of
siblings, and adds up the reasons that no handler on the way catches. It can not see:

* Conditions. A reason counts as possible when the code that gives it is reachable; what a caller
  rules out by its arguments is named in `EXCLUDED`, each with its cause.
* Types that no annotation names. A call on such a value is not followed; a test of its own guards
  the calls on what wiring puts into servicers and use cases.
* What a store builds from its own rows: it was checked when it was written.
* The handling of an event behind `ReplayDeadLetter`: any reason of any consumer.

Reasons of every call (token, deadline, load) come from the interceptor and are listed once, in
docs/status-codes.md.
"""

import ast
import re
from collections.abc import Iterator

import pytest

from aquifer.auth.v1 import auth_service_pb2
from aquifer.inference.v1 import inference_service_pb2, model_service_pb2
from aquifer.ingest.v1 import ingest_service_pb2
from aquifer.ops.v1 import (
    dead_letter_service_pb2,
    profile_service_pb2,
    reconcile_service_pb2,
    status_service_pb2,
)
from aquifer.query.v1 import (
    conversation_service_pb2,
    prompt_service_pb2,
    query_service_pb2,
)
from aquifer.query.vectors.v1 import vector_service_pb2
from chassis.rpc.status import STATUS_OF
from tests.contract.names import Place
from tests.contract.raising import Raises
from tests.contract.reasons import ROOT, sources
from tests.contract.references import Source
from tests.contract.test_error_table import PAGE, PROMISE, UPPER
from tools.event_catalogue import comments

PUBLIC = [
    auth_service_pb2,
    conversation_service_pb2,
    ingest_service_pb2,
    prompt_service_pb2,
    query_service_pb2,
    inference_service_pb2,
]
OTHERS = [
    dead_letter_service_pb2,
    model_service_pb2,
    profile_service_pb2,
    reconcile_service_pb2,
    status_service_pb2,
    vector_service_pb2,
]
METHODS = [
    method.full_name
    for module in (*PUBLIC, *OTHERS)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
# `All methods: CODE REASON, ...` or `All methods but One, Two: CODE REASON, ...`
ALL = re.compile(r"All methods(?: but (?P<but>[\w, ]+))?: (?P<promises>[^.]*)\.")

SEARCH = {
    "PROFILE_INVALID": "the names are those that inference lists",
    "DOCUMENT_NAME": "a search filters by collection alone",
    "VERSION_INVALID": "a search filters by collection alone",
    "FILTER_TOO_LONG": "a search names at most 100 collections",
    "SPELLINGS_COUNT": "a search passes on the first 64",
    "TENANT_INVALID": "the tenant is that of a verified token",
    "TEXT_COUNT": "one question is embedded",
    "TEXT_LENGTH": "a question has 1 to 4,000 characters, a stored passage at most 4,096",
    "SPARSE_INVALID": "query encodes the question's words itself",
    "VECTOR_INVALID": "inference checks what its engine returns",
    "VECTOR_WIDTH": "query compares the profile of each embedding with its own",
    "STORE_MISSING": "the store's client answers VECTORS_STORE_MISSING in its place",
    "VECTORS_STORE_MISSING": "the use case answers VECTORS_REBUILDING in its place",
    "VECTORS_SLOW": "the client's limit of 5 s ends before the 30 s of the vector process",
}
ASK = SEARCH | {
    "WORDINGS_COUNT": "the use case searches in one wording",
    "DIVERSITY_RANGE": "the use case asks for the order by score",
    "NEIGHBOURS_RANGE": "the use case reads no neighbours",
    "LIMIT_RANGE": "the use case asks for a fixed number of passages",
    "PASSAGE_COUNT": "the use case asks for a fixed number of passages",
    "MESSAGES_INVALID": "query sends the question that it has checked",
    "SAMPLING_RANGE": "query leaves it to the model",
    "STOP_INVALID": "query sends none",
    "OUTPUT_FORMAT_INVALID": "query asks for text",
    "TOOLS_INVALID": "query offers none",
}
UPLOAD = {
    "COLLECTION_DELETED": "of upload events alone",
    "REFERENCE_MISMATCH": "of upload events alone",
    "TENANT_SUSPENDED": "of upload events alone",
    "UPLOAD_EVENT_ID": "of upload events alone",
    "OBJECT_KEY_INVALID": "ingest makes the keys itself",
    "DOCUMENT_DELETED": "of roll backs alone",
}
ROLL_BACK = {
    **{reason: why for reason, why in UPLOAD.items() if reason != "DOCUMENT_DELETED"},
    "EMPTY_DOCUMENT": "the bytes were accepted before",
}
STARTED = UPLOAD | {
    "EMPTY_DOCUMENT": "checked when the upload was started",
    "REQUEST_REUSED": "the request id is the id of the upload",
}
# The two differ only in their types: the port has no implementation that names it.
FEED = {
    "REFERENCE_FORBIDDEN": "of a reference, which is no feed of changes",
    "DROPS_UNAVAILABLE": "of the drops folder, which is no feed of changes",
}
RECONCILE = {
    "PROFILE_INVALID": "the names are those that inference lists",
    "DOCUMENT_NAME": "a row or point was checked when it was written",
    "VERSION_INVALID": "a row or point was checked when it was written",
    "POINT_INVALID": "a row or point was checked when it was written",
    "POINT_ID_INVALID": "a row or point was checked when it was written",
    "TENANT_INVALID": "a row was checked when it was written",
    "TEXT_COUNT": "at most 32 passages are embedded at a time",
    "TEXT_LENGTH": "a stored passage has at most 4,096 characters",
    "BATCH_RANGE": "the store's client splits what is too much for one call",
    "LIMIT_RANGE": "a page of the store has a fixed size",
    "PAGE_SIZE_RANGE": "a slice has a fixed size",
    "FILTER_TOO_LONG": "the store is read without a filter",
    "FILTER_INVALID": "the store is read without a filter",
    "OBJECT_KEY_INVALID": "the keys are those that the store lists",
    "SPARSE_INVALID": "query encodes the passage's words itself",
    "VECTOR_INVALID": "inference checks what its engine returns",
    "VECTOR_WIDTH": "query compares the profile of each embedding with its own",
    "STORE_MISSING": "the store's client answers VECTORS_STORE_MISSING in its place",
    "VECTORS_SLOW": "the store's client answers VECTORS_UNAVAILABLE in its place",
}
PROFILE = {
    "PROFILE_INVALID": "the names are those that inference lists",
    "STORE_MISSING": "the store's client answers VECTORS_STORE_MISSING in its place",
    "VECTORS_SLOW": "the store's client answers VECTORS_UNAVAILABLE in its place",
}
# A store that is missing has no points, and is not complete.
COUNTED = {"VECTORS_STORE_MISSING": "the use cases take it for an empty store"}
EXCLUDED = {
    "ConversationService.SendMessage": ASK
    | {
        "COLLECTION_NAME": "checked when it was set",
        "COLLECTIONS_COUNT": "checked when they were set",
        "FILTER_INVALID": "checked when it was set",
        "OUTPUT_TOKENS_RANGE": "checked when it was set",
        "AS_OF_RANGE": "a message asks for live versions",
        "HISTORY_NOT_KEPT": "a message asks for live versions",
        "CAPABILITY_MISSING": "query asks for text, which every model here can write",
    },
    "ProfileService.ListProfiles": PROFILE | COUNTED,
    "ProfileService.BuildProfile": PROFILE
    | COUNTED
    | {
        "DIMENSIONS_DIFFER": "the store was just removed",
        "DIMENSIONS_RANGE": "inference lists at most 4,096 dimensions",
    },
    "ProfileService.CompareProfile": PROFILE
    | {
        "DOCUMENT_NAME": "a row was checked when it was written",
        "VERSION_INVALID": "a row was checked when it was written",
        "TENANT_INVALID": "a row was checked when it was written",
        "TEXT_COUNT": "at most 32 passages are embedded at a time",
        "TEXT_LENGTH": "a stored passage has at most 4,096 characters",
        "COLLECTION_NAME": "a comparison has no filter",
        "DIVERSITY_RANGE": "a comparison asks for the order by score",
        "FILTER_TOO_LONG": "a comparison has no filter",
        "SPELLINGS_COUNT": "a comparison has no words",
        "FILTER_INVALID": "a comparison has no filter",
        "SPARSE_INVALID": "a comparison has no words",
        "VECTOR_INVALID": "inference checks what its engine returns",
        "VECTOR_WIDTH": "query compares the profile of each embedding with its own",
    },
    "ProfileService.FlipProfile": PROFILE | COUNTED,
    "ProfileService.DropProfile": {
        "PROFILE_INVALID": "the names are those that inference lists",
        "VECTORS_STORE_MISSING": "a missing store is removed already",
        "VECTORS_SLOW": "the store's client answers VECTORS_UNAVAILABLE in its place",
    },
    "ReconcileService.Reconcile": RECONCILE,
    "IngestService.UploadDocument": UPLOAD,
    "IngestService.ImportDocuments": UPLOAD,
    "IngestService.RollBackDocument": ROLL_BACK,
    "IngestService.StartUpload": {"UPLOAD_EVENT_ID": "of upload events alone"},
    "IngestService.AppendUpload": {
        "DOCUMENT_TOO_LARGE": "a part is stored with its own size as the limit",
        "OBJECT_KEY_INVALID": "ingest makes the keys itself",
    },
    "IngestService.FinishUpload": STARTED,
    "IngestService.WatchDocument": FEED,
    "IngestService.WatchDocuments": FEED,
    "PromptService.CreatePrompt": {"PROMPT_UNKNOWN": "the row is locked, and live"},
    "QueryService.Search": SEARCH,
    "QueryService.Ask": ASK
    | {
        "CONVERSATION_FULL": "an answer outside of conversations is no message",
        "CONVERSATION_UNKNOWN": "an answer outside of conversations is no message",
        "REQUEST_OVERTAKEN": "an answer outside of conversations is no message",
    },
    "VectorService.Prepare": {"STORE_MISSING": "the store was just made"},
    "VectorService.DeleteVersion": {
        "COLLECTION_NAME": "filters by one document",
        "FILTER_TOO_LONG": "filters by one document",
    },
}
# Events of calls are far below the limit: ids, a display name, counts.
NEVER = {"EVENT_TOO_LARGE"}
# Fails like the handling of the event it replays, whatever that is.
OPEN_ENDED = {"DeadLetterService.ReplayDeadLetter": ("Settlement", "handle")}

# Auth refuses deleted tenants by their state; the analysis takes each kind of transactions for all.
UNGUARDED = "aquifer.auth."
GUARDS = {("ABORTED", "TENANT_DELETED")}

# Callables from outside that are wired in: clocks, ids; and what collections and events do.
OUTSIDE = {"self.clock", "self._clock", "self.new_id"}
MAPPING = {
    "get",
    "setdefault",
    "pop",
    "popitem",
    "values",
    "clear",
    "append",
    "items",
    "add",
    "discard",
    "set",
    "wait",
    "update",
}

Promise = tuple[str, str]


@pytest.fixture(scope="module")
def raises() -> Raises:
    return Raises(Source(sources()), sources())


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    return {name: " ".join(text.split()) for name, text in comments(ROOT / "protos").items()}


def promises(text: str) -> set[Promise]:
    """Codes with the reasons listed after them."""
    return {(code, one) for code, listed in PROMISE.findall(text) for one in UPPER.findall(listed)}


def listed(texts: dict[str, str], method: str) -> set[Promise]:
    """What a method and its service promise for it."""
    service, _, name = method.rpartition(".")
    found = promises(texts[method])
    for common in ALL.finditer(texts[service]):
        if name not in re.findall(r"\w+", common["but"] or ""):
            found |= promises(common["promises"])
    return found


def find_method(raises: Raises, class_name: str, name: str) -> Place:
    [found] = [one for one in raises.source.classes if one.name == class_name]
    return raises.source.own_members(found)[name][0]


def answered(raises: Raises, method: str) -> set[Promise]:
    """What a method's code can answer with."""
    service, _, name = method.rpartition(".")
    short = method.removeprefix(f"{service.rpartition('.')[0]}.")
    left_out = [find_method(raises, *OPEN_ENDED[short])] if short in OPEN_ENDED else []
    found = with_codes(raises, raises.of(raises.served[service, name], without=left_out))
    return found - GUARDS if service.startswith(UNGUARDED) else found


def with_codes(raises: Raises, found: set[tuple[str, str]]) -> set[Promise]:
    """Each reason with the gRPC code of its class, without what is a bug."""
    codes = {kind.__name__: code.name for kind, code in STATUS_OF.items()}
    return {
        (codes[known], reason)
        for kind, reason in found
        for known in raises.ancestors(kind) & set(codes)
        if reason not in NEVER
    }


def excluded(method: str) -> set[str]:
    return set(EXCLUDED.get(".".join(method.split(".")[-2:]), ()))


@pytest.mark.parametrize("method", METHODS)
def test_a_method_lists_exactly_the_reasons_it_can_answer_with(raises, texts, method):
    possible = {one for one in answered(raises, method) if one[1] not in excluded(method)}
    assert listed(texts, method) - possible == set(), "listed, and nothing raises it"
    assert possible - listed(texts, method) == set(), "raised, and not listed"


@pytest.mark.parametrize("method", METHODS)
def test_what_is_excluded_would_be_found_otherwise(raises, method):
    assert excluded(method) <= {reason for _, reason in answered(raises, method)}


def test_every_excluded_method_exists():
    short = {".".join(method.split(".")[-2:]) for method in METHODS}
    assert {*EXCLUDED, *OPEN_ENDED} <= short


def test_the_page_lists_the_reasons_of_every_call(raises):
    edge = raises.of(find_method(raises, "Edge", "_run_limited"))
    section = PAGE.read_text().partition("\n## Every method\n")[2].partition("\n## ")[0]
    found = promises(" ".join(section.split())) | {("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED")}
    assert found == with_codes(raises, edge)


def test_every_service_points_to_the_page(texts):
    for module in PUBLIC:
        [service] = module.DESCRIPTOR.services_by_name.values()
        assert "docs/status-codes.md" in texts[service.full_name]


def own_calls(source: Source) -> Iterator[tuple[str, Place, ast.expr]]:
    """Calls on the fields of servicers and use cases, which wiring fills."""
    for place in source.places.values():
        if place.owner and re.match(r"(?!chassis)\w+\.(rpc|usecases)\b", place.module.name):
            for node in ast.walk(place.node):
                if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("self."):
                    yield ast.unparse(node.func), place, node.func


def test_no_call_on_what_was_wired_is_lost(raises):
    lost = {
        name
        for name, place, called in own_calls(raises.source)
        if not raises.source.callees(place, called)
        if name.rpartition(".")[2] not in MAPPING
    }
    assert lost == OUTSIDE


HEAD = "from chassis.base.errors import ConflictError\n"
RAISE = 'raise ConflictError("{reason}", "planted")'
# Where a reason is planted, before which line, and the methods that can answer with it then.
PLANTED = {
    "PLANTED_METHOD": (
        "services/auth/src/auth/rpc.py",
        "        return pb.GetJwksResponse(",
        {"AuthService.GetJwks"},
    ),
    "PLANTED_USE_CASE": (
        "services/query/src/query/usecases/find_passages.py",
        "        store_id = index.serving.store_id\n",
        {"QueryService.Search", "QueryService.Ask", "ConversationService.SendMessage"},
    ),
    "PLANTED_DOMAIN": (
        "services/auth/src/auth/domain.py",
        "    if not 0 <= valid_days <= VALID_DAYS_MAX:\n",
        {"AuthService.CreateApiKey"},
    ),
    "PLANTED_ADAPTER": (
        "services/auth/src/auth/tokens.py",
        "        return self._jwks\n",
        {"AuthService.GetJwks"},
    ),
    "PLANTED_SIBLING": (
        "services/inference/src/inference/usecases.py",
        "        steps = generator.generate(request)\n",
        {"InferenceService.Generate", "QueryService.Ask", "ConversationService.SendMessage"},
    ),
    "PLANTED_CAUGHT": (
        "services/ingest/src/ingest/gateways.py",
        "        request = HideDocumentRequest(",
        set(),  # the use case answers HIDE_PENDING in its place
    ),
    "PLANTED_THREAD": (
        "services/query/src/query/vectors/shard.py",
        '        """Remove at most `DELETE_BATCH` points; returns how many of them existed."""\n',
        {
            "VectorService.DeletePoints",
            "VectorService.DeleteVersion",
            "ReconcileService.Reconcile",
        },
    ),
    "PLANTED_TRANSLATED": (
        "services/query/src/query/vectors/shard.py",
        "            return self._shard.count(edge.CountRequest(filter=filter_points(",
        set(),  # the context manager around it raises VECTORS_FAILED in its place
    ),
}


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> Raises:
    """What a copy of the sources raises in which every reason of PLANTED is given."""
    folder = tmp_path_factory.mktemp("planted")
    for path in sources():
        copy = folder / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text())
    for reason, (file, before, _) in PLANTED.items():
        text = (folder / file).read_text()
        assert text.count(before) == 1, before
        indent = before[: len(before) - len(before.lstrip())]
        docstring, _, rest = text.partition('"""\n\n')
        text = f'{docstring}"""\n\n{HEAD}{rest}'
        (folder / file).write_text(
            text.replace(before, f"{indent}{RAISE.format(reason=reason)}\n{before}")
        )
    return Raises(Source(sources(folder)), sources(folder))


@pytest.fixture(scope="module")
def methods_of_reasons(planted) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for method in METHODS:
        for _, reason in answered(planted, method):
            found.setdefault(reason, set()).add(".".join(method.split(".")[-2:]))
    return found


@pytest.mark.parametrize("reason", PLANTED)
def test_a_planted_reason_is_found_where_it_can_be_answered(methods_of_reasons, reason):
    assert methods_of_reasons.get(reason, set()) == PLANTED[reason][2]
