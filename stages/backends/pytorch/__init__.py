"""The PyTorch backend: LoRA, QLoRA and full training; the heads of step scores too."""

from stages.settings import Settings

PACKAGES = ("torch", "transformers", "peft")


def refuses(settings: Settings, scores_steps: bool) -> list[str]:
    """As stages.backends.Limits asks."""
    return []
