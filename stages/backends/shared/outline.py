"""A model as its base's config.json has it, without weights."""

from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from stages.backends.shared.model_folders import is_in_4_bits, loading


def outline(folder: Path) -> Any:
    """The model of a checkpoint without its weights: a 70B takes a second."""
    with loading(folder, "no causal language model that transformers knows"), torch.device("meta"):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        is_in_4_bits(folder)  # what is quantised otherwise is refused
        return AutoModelForCausalLM.from_config(config, trust_remote_code=False)
