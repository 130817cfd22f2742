"""The commands that start a stack and show what runs in it; they come before all others."""

import os

import click

from aquifer_cli import endpoints
from aquifer_cli.command import Run, cli, command
from aquifer_cli.launch import command_of

__all__ = ["cli"]


@command(
    cli,
    "up",
    examples="""\
  aquifer up                          until Ctrl-C, on random ports
  aquifer up --base-port 7400         the same ports every time, 7400 to 7412
  aquifer up --data-dir /srv/aquifer  with another data folder
  aquifer up --engine openai --engine-url http://localhost:11434/v1 --engine-model qwen3:0.6b
  aquifer up --engine vllm --model /srv/models/qwen3-8b""",
)
@click.option("--base-port", type=click.IntRange(1024, 65000), help="First port; default: random.")
@click.option(
    "--engine",
    type=click.Choice(["extractive", "openai", "vllm"]),
    help="Who answers questions: extractive quotes documents; openai: a model of a server; vllm: a"
    " model that vLLM runs here.",
)
@click.option("--engine-url", help="URL of that server, with its version; needed for openai.")
@click.option(
    "--engine-model",
    "--model",
    help="Model of the engine; openai: default is the first that the server lists; vllm: a folder,"
    " or a name on the hub.",
)
def up(
    run: Run,
    base_port: int | None,
    engine: str | None,
    engine_url: str | None,
    engine_model: str | None,
) -> int:
    """Starts all services and servers here, until Ctrl-C.

    SIGTERM stops them as well. Prints a line for each part as it comes up and, once all of them
    serve, the line `Aquifer is ready ...`; with --json one event a line. Addresses and the first
    key are in endpoints.json in the data folder, for its owner only.

    Without --engine, answers quote the documents and need no other program. With --engine openai,
    a server that speaks OpenAI's protocol writes them: vLLM, llama.cpp, Ollama, or a hosted one
    whose key is in AQUIFER_ENGINE_API_KEY. With --engine vllm, vLLM, which needs an installation
    of its own, runs the model here; AQUIFER_ENGINE_ARGUMENTS has further settings of it, as JSON.
    While either is away, answers quote.
    """
    if engine == "openai" and not engine_url:
        raise click.UsageError("--engine openai needs --engine-url")
    if engine == "vllm" and not engine_model:
        raise click.UsageError("--engine vllm needs --model")
    if engine_url and not engine_url.startswith(("http://", "https://")):
        raise click.UsageError("--engine-url must be a URL such as http://localhost:8000/v1")
    if engine_url and engine is None:
        engine = "openai"
    given = {"ENGINE": engine, "ENGINE_URL": engine_url, "ENGINE_MODEL": engine_model}
    os.environ.update({f"AQUIFER_{name}": value for name, value in given.items() if value})
    folder = endpoints.make_data_dir(run.data_dir or endpoints.default_data_dir())
    line = command_of("stack", "up", "--data-dir", str(folder))
    line += ["--base-port", str(base_port)] if base_port else []
    line += ["--json"] if run.screen.machine else []
    # The supervisor replaces this process, so there is only one process to stop.
    os.execv(line[0], line)  # noqa: S606


@command(cli, "demo", folder=False)
def demo(run: Run) -> int:
    """Shows uploads, answers and traces, then removes everything.

    Starts a stack in a temporary folder, uploads three documents, publishes one as an event, asks
    three questions, shows the trace of the event and the trace of an answer, and stops. Exit code
    0: every step was successful.
    """
    from aquifer_cli import demo as demonstration

    return demonstration.run(run.screen)
