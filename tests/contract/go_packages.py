"""A plugin of buf that writes down the Go package of each file; it generates no code."""

import sys

from google.protobuf.compiler.plugin_pb2 import CodeGeneratorRequest, CodeGeneratorResponse

request = CodeGeneratorRequest.FromString(sys.stdin.buffer.read())
response = CodeGeneratorResponse()
response.supported_features = CodeGeneratorResponse.FEATURE_PROTO3_OPTIONAL
for file in request.proto_file:
    if file.name in request.file_to_generate:
        response.file.add(name=file.name, content=file.options.go_package)
sys.stdout.buffer.write(response.SerializeToString())
