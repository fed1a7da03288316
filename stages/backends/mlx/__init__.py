"""The MLX backend: LoRA on a base in full precision or in MLX's own 4 bits, on Apple silicon and on
Linux.
"""

from stages.settings import Launch, Settings

PACKAGES = ("mlx", "mlx_lm")


def refuses(settings: Settings, scores_steps: bool) -> list[str]:
    """As stages.backends.Limits asks."""
    faults = []
    if settings.method != "lora":
        qlora = settings.method == "qlora"
        remedy = "a base in MLX's 4 bits with method: lora" if qlora else "backend: pytorch"
        faults.append(f"method {settings.method}: backend mlx trains adapters; use {remedy}")
    if settings.added_tokens:
        faults.append(
            "added_tokens: backend mlx trains no rows of the embedding; use backend: pytorch, or "
            "leave them out"
        )
    if settings.precision == "float16":
        faults.append("precision float16: backend mlx scales no losses for it; set precision: auto")
    if settings.optim != "adamw_torch":
        faults.append(f"optim {settings.optim}: backend mlx has AdamW alone; leave it out")
    if settings.offload_activations:
        faults.append("offload_activations: backend mlx has one memory; leave it out")
    if settings.launch != Launch():
        faults.append("launch: backend mlx trains in one process; use backend: pytorch")
    if settings.offload_weights:
        faults.append("offload_weights: backend mlx has one memory; leave it out")
    if settings.device in ("cuda", "mps"):
        faults.append(
            f"device {settings.device}: backend mlx knows auto (Metal where there is one) and cpu"
        )
    if scores_steps:
        faults.append("task reward: backend mlx has no head for steps; use backend: pytorch")
    return faults
