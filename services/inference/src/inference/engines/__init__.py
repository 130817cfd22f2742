"""The engines; only this package imports OpenVINO."""

import sys

# Importing OpenVINO starts its telemetry, which calls Google Analytics and writes to the home
# folder. If the telemetry package cannot be imported, OpenVINO uses its own stub. This is done here
# because Python runs this file before any module of the package imports OpenVINO.
sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
