"""The PyTorch backend: LoRA, QLoRA and full training; the heads of step scores too."""

from stages.settings import Settings

PACKAGES = ("torch", "transformers", "peft")

UNSHARED = (
    ("method", "qlora", "bitsandbytes packs weights in 4 bits"),
    ("optim", "muon", "it turns whole matrices"),
    ("optim", "paged_adamw_32bit", "bitsandbytes has its state in pages"),
    ("optim", "paged_adamw_8bit", "bitsandbytes has its state in pages"),
    ("precision", "float16", "each process scales the loss by what it alone has seen"),
)
"""Settings, with their reasons, that go with whole weights in each process alone."""


def refuses(settings: Settings, scores_steps: bool) -> list[str]:
    """As stages.backends.Limits asks."""
    faults = []
    if settings.optim == "muon" and settings.method != "full":
        faults.append(
            f"optim muon: it turns whole matrices, and method {settings.method} trains adapters; "
            "set method: full or optim: adamw_torch"
        )
    if settings.launch.strategy == "fsdp":
        faults += [
            f"{name} {value}: {why}, which strategy fsdp cannot share out; set launch.strategy: ddp"
            for name, value, why in UNSHARED
            if getattr(settings, name) == value
        ]
    return faults
