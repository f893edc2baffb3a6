"""One typed, frozen configuration for a whole experiment; presets are TOML files of it.

Each stage gets only its own section. Unknown keys are refused, so no typing error leaves a default in place.
"""

from vzero.config.engines import OPERATIONAL, EngineConfig, LaunchConfig, RolloutsConfig
from vzero.config.experiment import (
    OWN,
    EvaluationConfig,
    ImagesConfig,
    Preset,
    QuestionerConfig,
    SolverConfig,
)
from vzero.config.training import GrpoSettings, LoraConfig, SamplingConfig, Section

__all__ = [
    "OPERATIONAL",
    "OWN",
    "EngineConfig",
    "EvaluationConfig",
    "GrpoSettings",
    "ImagesConfig",
    "LaunchConfig",
    "LoraConfig",
    "Preset",
    "QuestionerConfig",
    "RolloutsConfig",
    "SamplingConfig",
    "Section",
    "SolverConfig",
]
