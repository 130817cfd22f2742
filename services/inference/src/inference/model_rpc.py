"""`ModelService`; every change is logged with its caller."""

import logging
from dataclasses import dataclass
from typing import Any, Final

from grpc.aio import ServicerContext
from typing_extensions import override

from aquifer.inference.v1 import inference_service_pb2
from aquifer.inference.v1 import model_service_pb2 as pb
from aquifer.inference.v1.model_service_pb2_grpc import ModelServiceServicer
from chassis.identity.tokens import caller
from chassis.rpc.server import Access, any_of
from inference.model_messages import to_definition, to_model
from inference.model_usecases import DeleteAlias, LoadModel, SetAlias, UnloadModel

log = logging.getLogger(__name__)

ACCESS: Final[Access] = {
    f"aquifer.inference.v1.ModelService/{method}": any_of("operate")
    for method in ("LoadModel", "UnloadModel", "SetModelAlias", "DeleteModelAlias")
}


@dataclass(frozen=True, kw_only=True)
class ModelRpc(ModelServiceServicer):
    """`ModelService` on top of the use cases."""

    load: LoadModel
    unload: UnloadModel
    set_alias: SetAlias
    delete_alias: DeleteAlias

    @override
    async def LoadModel(
        self, request: pb.LoadModelRequest, context: ServicerContext[Any, Any]
    ) -> inference_service_pb2.Model:
        """Adds a model, or replaces one."""
        listed = await self.load.run(to_definition(request))
        _log_change("model.load", model=request.name)
        return to_model(listed)

    @override
    async def UnloadModel(
        self, request: pb.UnloadModelRequest, context: ServicerContext[Any, Any]
    ) -> pb.UnloadModelResponse:
        """Removes a model."""
        await self.unload.run(request.name, force=request.force)
        _log_change("model.unload", model=request.name)
        return pb.UnloadModelResponse()

    @override
    async def SetModelAlias(
        self, request: pb.SetModelAliasRequest, context: ServicerContext[Any, Any]
    ) -> pb.SetModelAliasResponse:
        """Points an alias to a model."""
        await self.set_alias.run(request.alias, request.model)
        _log_change("model.alias_set", model=request.model, alias=request.alias)
        return pb.SetModelAliasResponse()

    @override
    async def DeleteModelAlias(
        self, request: pb.DeleteModelAliasRequest, context: ServicerContext[Any, Any]
    ) -> pb.DeleteModelAliasResponse:
        """Removes an alias."""
        await self.delete_alias.run(request.alias)
        _log_change("model.alias_deleted", alias=request.alias)
        return pb.DeleteModelAliasResponse()


def _log_change(event: str, **names: str) -> None:
    log.warning(event, extra={**names, "principal": caller().principal})
