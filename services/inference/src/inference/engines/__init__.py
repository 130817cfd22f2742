"""The engines, and the only room that imports OpenVINO."""

import sys

# Importing OpenVINO starts its telemetry, which calls Google Analytics and writes to the home
# folder. What can not be imported can not call: OpenVINO then takes the stub it brings along. Here,
# since Python runs this before any module of the room, hence before the first import of OpenVINO.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
