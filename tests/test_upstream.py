"""What is used of other libraries that they do not promise: an upgrade breaks here first, with the
reason.

A row is (where it is used, what it is, why, what must hold). The last test finds uses that have no
row."""

import ast
import inspect
import re
from collections.abc import Callable
from pathlib import Path

import accelerate.hooks
import accelerate.utils
import accelerate.utils.memory
import bitsandbytes
import peft.tuners.tuners_utils
import pytest
import torch
import transformers
from mlx_lm.generate import batch_generate
from mlx_lm.tuner.trainer import grad_checkpoint
from peft.tuners.lora import layer as lora_layer
from peft.utils import save_and_load
from transformers import cache_utils, masking_utils
from transformers.models.llama import modeling_llama

ROOT = Path(__file__).parents[1]
TRAINER, GENERATION = transformers.Trainer, transformers.GenerationMixin


def takes(function: Callable, *names: str) -> bool:
    """Whether a function has these parameters."""
    return set(names) <= set(inspect.signature(function).parameters)


def code(function: Callable) -> str:
    return inspect.getsource(function)


USED = [
    (
        "pytorch/trainer.py",
        "get_train_dataloader",
        "a plan decides the micro-batches, not a sampler",
        lambda: (
            "self.get_train_dataloader()" in code(TRAINER._inner_training_loop)
            or "get_train_dataloader" in code(TRAINER.train)
            or "self.get_train_dataloader()" in code(transformers.trainer)
        ),
    ),
    (
        "pytorch/trainer.py",
        "compute_loss",
        "the loss is a sum over labelled tokens, divided by those of the whole step",
        lambda: takes(TRAINER.compute_loss, "model", "inputs", "num_items_in_batch"),
    ),
    (
        "pytorch/trainer.py",
        "training_step",
        "a step whose memory does not do is made again in more passes",
        lambda: takes(TRAINER.training_step, "model", "inputs", "num_items_in_batch"),
    ),
    (
        "pytorch/trainer.py",
        "log",
        "the mean loss is over all steps since the last report, after a resume too",
        lambda: takes(TRAINER.log, "logs", "start_time"),
    ),
    (
        "pytorch/trainer.py",
        "_save_checkpoint",
        "a checkpoint gets its losses and is sealed before an older one goes",
        lambda: "self._save_checkpoint(" in code(transformers.trainer),
    ),
    (
        "pytorch/trainer.py",
        "_load_best_model",
        "the weights of the last step are kept before those of the best take their place",
        lambda: "self._load_best_model()" in code(transformers.trainer),
    ),
    (
        "pytorch/trainer.py",
        "_load_from_checkpoint",
        "a training that was killed after its last step is finished without another one",
        lambda: "self._load_from_checkpoint(resume_from_checkpoint)" in code(transformers.trainer),
    ),
    (
        "pytorch/trainer.py",
        "evaluate",
        "an evaluation keeps sums, not logits",
        lambda: "self.evaluate(" in code(TRAINER._evaluate),
    ),
    (
        "pytorch/trainer.py",
        "model_accepts_loss_kwargs",
        "set, so that num_items_in_batch is counted over the whole step",
        lambda: "self.model_accepts_loss_kwargs" in code(transformers.trainer),
    ),
    (
        "pytorch/trainer.py",
        "should_reduce_batch_size",
        "tells out of memory from other errors on every device",
        lambda: takes(accelerate.utils.memory.should_reduce_batch_size, "exception"),
    ),
    (
        "pytorch/spread_trainer.py",
        "create_optimizer",
        "a sharded model's weights are other tensors, and Muon's optimizer is ours",
        lambda: takes(TRAINER.create_optimizer, "model"),
    ),
    (
        "pytorch/spread_trainer.py",
        "_wrap_model",
        "else accelerate wraps the model into DDP, whose forward pass is not ours",
        lambda: (
            "use_accelerator_prepare = model is self.model" in code(TRAINER._prepare_for_training)
        ),
    ),
    (
        "pytorch/spread_trainer.py",
        "_clip_grad_norm",
        "the norm of sharded gradients is made whole",
        lambda: takes(TRAINER._clip_grad_norm, "model"),
    ),
    (
        "pytorch/spread_trainer.py",
        "_save",
        "the weights of a sharded model come from all processes",
        lambda: takes(TRAINER._save, "output_dir", "state_dict"),
    ),
    (
        "pytorch/spread_trainer.py",
        "_save_optimizer_and_scheduler",
        "the state of a sharded model's optimizer comes from all processes",
        lambda: takes(TRAINER._save_optimizer_and_scheduler, "output_dir"),
    ),
    (
        "pytorch/spread_trainer.py",
        "_load_optimizer_and_scheduler",
        "and goes to all of them",
        lambda: takes(TRAINER._load_optimizer_and_scheduler, "checkpoint"),
    ),
    (
        "pytorch/spread_trainer.py",
        "_save_rng_state",
        "several processes draw by the number of the step, however many there are",
        lambda: takes(TRAINER._save_rng_state, "output_dir"),
    ),
    (
        "pytorch/spread_trainer.py",
        "place_model_on_device",
        "a sharded model goes to the device layer by layer",
        lambda: "self.place_model_on_device" in code(TRAINER.__init__),
    ),
    (
        "pytorch/sharding.py",
        "_no_split_modules",
        "the classes of a model's layers",
        lambda: modeling_llama.LlamaPreTrainedModel._no_split_modules == ["LlamaDecoderLayer"],
    ),
    (
        "pytorch/decoding.py",
        "_prefill",
        "the first pass of generate, whose loop over tokens is ours",
        lambda: takes(GENERATION._prefill, "input_ids", "generation_config", "model_kwargs"),
    ),
    (
        "pytorch/decoding.py",
        "_update_model_kwargs_for_generation",
        "moves mask and positions on by a token",
        lambda: takes(GENERATION._update_model_kwargs_for_generation, "outputs", "model_kwargs"),
    ),
    (
        "pytorch/decoding.py",
        "custom_generate",
        "where the loop is handed to generate",
        lambda: takes(GENERATION.generate, "custom_generate"),
    ),
    (
        "pytorch/decoding.py",
        "DynamicLayer",
        "the one kind of cache that rows can be taken out of",
        lambda: hasattr(cache_utils.DynamicLayer, "batch_select_indices"),
    ),
    (
        "pytorch/attention.py",
        "eager_attention_forward",
        "a model's own attention, which the faster one is compared with and falls back on",
        lambda: callable(modeling_llama.eager_attention_forward),
    ),
    (
        "pytorch/attention.py",
        "eager_mask",
        "the form of the mask that the faster attention adds",
        lambda: callable(masking_utils.eager_mask),
    ),
    (
        "pytorch/attention.py",
        "_attn_implementation",
        "which kind of attention a model has",
        lambda: (
            modeling_llama.LlamaConfig(attn_implementation="eager")._attn_implementation == "eager"
        ),
    ),
    (
        "pytorch/fused.py",
        "lora_variant",
        "PEFT's sign of an adapter that is more than a product",
        lambda: lora_layer.LoraLayer(torch.nn.Linear(2, 2)).lora_variant == {},
    ),
    (
        "pytorch/attention.py",
        "_softmax_backward_data",
        "the gradient of a softmax from its result",
        lambda: callable(torch._softmax_backward_data),
    ),
    (
        "pytorch/models.py",
        "cast_input_dtype_enabled",
        "switches off a conversion that autocast undoes",
        lambda: "cast_input_dtype_enabled" in code(peft.tuners.tuners_utils),
    ),
    (
        "pytorch/models.py",
        "support_avx512bf16_for_cpu",
        "switches off a repacking that has no backward pass",
        lambda: hasattr(bitsandbytes.nn.Linear4bit(8, 8), "support_avx512bf16_for_cpu"),
    ),
    (
        "pytorch/models.py",
        "save_embedding_layers",
        "else a checkpoint with added tokens holds the whole embedding twice",
        lambda: takes(save_and_load.get_peft_model_state_dict, "save_embedding_layers"),
    ),
    (
        "shared/precision.py",
        "_is_avx512_bf16_supported",
        "whether a processor has instructions for bfloat16",
        lambda: isinstance(torch.cpu._is_avx512_bf16_supported(), bool),
    ),
    (
        "shared/precision.py",
        "_is_amx_tile_supported",
        "the same, of matrices",
        lambda: isinstance(torch.cpu._is_amx_tile_supported(), bool),
    ),
    (
        "shared/model_folders.py",
        "_name_or_path",
        "emptied, because a config would keep a path of this machine",
        lambda: hasattr(transformers.LlamaConfig(), "_name_or_path"),
    ),
    (
        "pytorch/offload.py",
        "_hf_hook",
        "says in which file a matrix is that was left on the disk",
        lambda: (
            "module._hf_hook = hook" in code(accelerate.hooks.add_hook_to_module)
            and takes(accelerate.hooks.AlignDevicesHook.__init__, "weights_map")
            and "safetensors_file" in code(accelerate.utils.OffloadedWeightsLoader.__getitem__)
        ),
    ),
    (
        "mlx/backend.py",
        "batch_generate",
        "answers in batches that rows leave when they have ended",
        lambda: takes(batch_generate, "model", "tokenizer", "prompts"),
    ),
    (
        "mlx/models.py",
        "grad_checkpoint",
        "recomputes the activations of a layer's class",
        lambda: takes(grad_checkpoint, "layer"),
    ),
]


@pytest.mark.parametrize(
    ("file", "name", "holds"),
    [(file, name, holds) for file, name, _, holds in USED],
    ids=[name for _, name, _, _ in USED],
)
def test_what_is_used_without_a_promise_is_still_as_it_was(file, name, holds):
    assert re.search(rf"\b{name}\b", (ROOT / "stages/backends" / file).read_text(encoding="utf-8"))
    assert holds()


def test_every_private_name_and_every_overridden_method_has_a_row():
    rows = {name for _, name, _, _ in USED}
    assert all(reason for _, _, reason, _ in USED)
    private = set()
    for path in (ROOT / "stages").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and re.match(r"_[a-z]", node.attr):
                owner = node.value.id if isinstance(node.value, ast.Name) else ""
                if owner not in ("self", "cls") and not isinstance(node.value, ast.Call):
                    private.add(node.attr)
    # documented: of NamedTuples, of syntax nodes, of os
    promised = {"_asdict", "_fields", "_replace", "_exit"}
    assert private - promised <= rows
    trainers = [
        node
        for name in ("trainer", "spread_trainer")
        for node in ast.parse(
            (ROOT / f"stages/backends/pytorch/{name}.py").read_text(encoding="utf-8")
        ).body
        if isinstance(node, ast.ClassDef) and node.name in ("LabelledTrainer", "SpreadTrainer")
    ]
    assert len(trainers) == 2
    methods = {
        node.name
        for trainer in trainers
        for node in trainer.body
        if isinstance(node, ast.FunctionDef)
    }
    overridden = {name for name in methods if hasattr(TRAINER, name) and name != "__init__"}
    assert overridden == rows & methods
