"""An answer shown to a person, as it comes."""

from aquifer.query.v1.query_service_pb2 import FinishReason
from aquifer_cli import ask as asking
from aquifer_cli.client import Client
from aquifer_cli.screen import Screen


async def show_answer(client: Client, screen: Screen, question: str, collection: str = "") -> str:
    """Prints an answer as it comes; returns its id."""
    answer_id, citations = "", []
    async for step in asking.ask(client, question, collection=collection):
        if screen.machine:
            screen.record(asking.step_json(step))
        match step.WhichOneof("step"):
            case "started":
                answer_id = step.started.answer_id
            case "delta":
                screen.say(step.delta.text, end="")
            case "citation":
                citations.append(step.citation)
            case "finished":
                screen.say("")
                for citation in citations:
                    screen.say(asking.citation_line(citation), style="dim")
                reason = FinishReason.Name(step.finished.reason).removeprefix("FINISH_REASON_")
                kind = "composed" if step.finished.generative else "quotes only"
                screen.note(
                    f"{step.finished.model} ({kind}), {reason}, answer {answer_id}; "
                    f"`aquifer trace {answer_id}` shows its way"
                )
    return answer_id
