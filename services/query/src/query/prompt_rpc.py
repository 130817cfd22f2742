"""`PromptService` and the scopes of its methods."""

from dataclasses import dataclass
from typing import Any, Final

from grpc.aio import ServicerContext
from typing_extensions import override

from aquifer.query.v1 import prompt_service_pb2 as pb
from aquifer.query.v1.prompt_service_pb2_grpc import PromptServiceServicer
from chassis.base import paging
from chassis.identity.tokens import caller
from chassis.rpc.server import Access, any_of
from query.prompt import (
    DEFAULT,
    Content,
    PromptVersion,
    make_name,
    read_new_id,
    read_own_id,
    read_reference,
    unknown_prompt_error,
)
from query.usecases.prompts import Prompts

ACCESS: Final[Access] = {
    "aquifer.query.v1.PromptService/CreatePrompt": any_of("documents.write"),
    "aquifer.query.v1.PromptService/GetPrompt": any_of("ask"),
    "aquifer.query.v1.PromptService/ListPrompts": any_of("ask"),
    "aquifer.query.v1.PromptService/UpdatePrompt": any_of("documents.write"),
    "aquifer.query.v1.PromptService/DeletePrompt": any_of("documents.write"),
    "aquifer.query.v1.PromptService/ListPromptVersions": any_of("ask"),
}


@dataclass(frozen=True, kw_only=True)
class PromptRpc(PromptServiceServicer):
    """`PromptService`; converts messages, for the caller's verified tenant."""

    prompts: Prompts

    @override
    async def CreatePrompt(
        self, request: pb.CreatePromptRequest, context: ServicerContext[Any, Any]
    ) -> pb.Prompt:
        """Creates a prompt."""
        who, prompt_id = caller(), read_new_id(request.prompt.name)
        content = _read_content(request.prompt)
        created = await self.prompts.create(who.tenant, prompt_id, content, who.principal)
        return _to_prompt(created)

    @override
    async def GetPrompt(
        self, request: pb.GetPromptRequest, context: ServicerContext[Any, Any]
    ) -> pb.Prompt:
        """Reads a version of a prompt."""
        if not request.name:
            raise unknown_prompt_error()
        found = await self.prompts.find(caller().tenant, read_reference(request.name))
        return _to_prompt(found)

    @override
    async def ListPrompts(
        self, request: pb.ListPromptsRequest, context: ServicerContext[Any, Any]
    ) -> pb.ListPromptsResponse:
        """Lists prompts by id."""
        page = paging.parse(request.page_size, request.page_token)
        found = await self.prompts.list_page(caller().tenant, page.after_name, page.limit)
        shown, token = paging.fill(page, found, _to_prompt, lambda one: (one.prompt_id,))
        return pb.ListPromptsResponse(prompts=shown, next_page_token=token)

    @override
    async def UpdatePrompt(
        self, request: pb.UpdatePromptRequest, context: ServicerContext[Any, Any]
    ) -> pb.Prompt:
        """Adds a version to a prompt."""
        who, prompt_id = caller(), read_own_id(request.prompt.name)
        changed = await self.prompts.update(
            who.tenant,
            prompt_id,
            _read_content(request.prompt),
            who.principal,
            request.expected_version,
        )
        return _to_prompt(changed)

    @override
    async def DeletePrompt(
        self, request: pb.DeletePromptRequest, context: ServicerContext[Any, Any]
    ) -> pb.DeletePromptResponse:
        """Deletes a prompt with its versions."""
        await self.prompts.delete(caller().tenant, read_own_id(request.name))
        return pb.DeletePromptResponse()

    @override
    async def ListPromptVersions(
        self, request: pb.ListPromptVersionsRequest, context: ServicerContext[Any, Any]
    ) -> pb.ListPromptVersionsResponse:
        """Lists the versions of a prompt, newest first."""
        page = paging.parse(request.page_size, request.page_token)
        parent = read_reference(request.parent)
        if not request.parent or parent.version:
            raise unknown_prompt_error()
        found = await self.prompts.list_versions(
            caller().tenant, parent.prompt_id, paging.read_number(page.after), page.limit
        )
        shown, token = paging.fill(page, found, _to_prompt, lambda one: (str(one.version),))
        return pb.ListPromptVersionsResponse(versions=shown, next_page_token=token)


def _read_content(given: pb.Prompt) -> Content:
    return Content(template=given.template, description=given.description)


def _to_prompt(one: PromptVersion) -> pb.Prompt:
    converted = pb.Prompt(
        name=make_name(one.prompt_id),
        version=one.version,
        template=one.content.template,
        description=one.content.description,
        creator=one.creator,
        built_in=one.prompt_id == DEFAULT.prompt_id,
    )
    if one.created_at:
        converted.create_time.FromDatetime(one.created_at)
    return converted
