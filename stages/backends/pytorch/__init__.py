"""The PyTorch backend: LoRA, QLoRA and full training; the heads of step scores too."""

from stages.settings import Settings

PACKAGES = ("torch", "transformers", "peft")


def refuses(settings: Settings, scores_steps: bool) -> list[str]:
    """As stages.backends.Limits asks."""
    if settings.optim == "muon" and settings.method != "full":
        return [
            f"optim muon: it turns whole matrices, and method {settings.method} trains adapters; "
            "set method: full or optim: adamw_torch"
        ]
    return []
