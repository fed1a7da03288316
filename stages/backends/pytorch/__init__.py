"""The PyTorch backend: LoRA, QLoRA and full training; the heads of step scores too."""

from stages.settings import Settings

PACKAGES = ("torch", "transformers", "peft")

UNSHARED = (
    ("method", "qlora", "bitsandbytes packs weights in 4 bits"),
    ("optim", "muon", "it turns whole matrices"),
    ("optim", "paged_adamw_32bit", "bitsandbytes has its state in pages"),
    ("optim", "paged_adamw_8bit", "bitsandbytes has its state in pages"),
    ("offload_weights", True, "layers come from elsewhere for each pass"),
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
    if settings.offload_weights and settings.method != "lora":
        held = "trains them all" if settings.method == "full" else "holds them in 4 bits"
        faults.append(
            f"offload_weights: it moves frozen weights in full precision, and method "
            f"{settings.method} {held}; set method: lora, or leave it out"
        )
    if settings.offload_weights and not settings.gradient_checkpointing:
        faults.append(
            "offload_weights: without gradient_checkpointing the backward pass would keep what "
            "each layer has used; set gradient_checkpointing: true"
        )
    launch = settings.launch
    if launch.strategy == "fsdp" and (launch.processes, launch.nodes) != (1, 1):
        faults += [
            f"{name} {str(value).lower()}: {why}, which strategy fsdp cannot share out; set "
            "launch.strategy: ddp"
            for name, value, why in UNSHARED
            if getattr(settings, name) == value
        ]
    return faults
