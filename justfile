# Aquifer. `just` lists the recipes; `./just` does the same on a machine that has only Python.

export PATH := justfile_directory() / ".venv/bin:" + justfile_directory() / ".tools/bin:" + env("PATH")
export UV_PYTHON_DOWNLOADS := "never"

contracts := "packages/contracts/src"

[private]
default:
    @just --list --unsorted

# regenerate the contracts from protos/
[group('contract')]
gen:
    buf lint
    find {{contracts}}/aquifer -name '*_pb2*' -delete
    python -m grpc_tools.protoc -I protos \
        --python_out={{contracts}} --grpc_python_out={{contracts}} \
        --mypy_out=quiet,readable_stubs:{{contracts}} --mypy_grpc_out=quiet,readable_stubs,only_async:{{contracts}} \
        $(find protos -name '*.proto' | sort)
    # a proto without a service needs no stubs
    for proto in $(grep -L '^service ' -r protos --include='*.proto'); do \
        rm -f {{contracts}}/"$(echo "$proto" | sed 's,^protos/,,; s,\.proto$,,')"_pb2_grpc.py*; done
