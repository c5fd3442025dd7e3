"""A made-up Llama: a folder with a configuration and random weights.

Weights are written, not left to SGLang's dummy loader: that one draws them so
small that attention adds nothing, and any KV at all would give the same text.
With these, every token depends on the whole prompt.
"""

from __future__ import annotations

import array
import json
import random
import struct
from collections.abc import Iterator
from pathlib import Path

VOCAB = 512
_HIDDEN = 64
_INNER = 128
_HEADS = 4
_KV_HEADS = 2
_HEAD_DIM = 16
_LAYERS = 3

# 32-bit floats: rounding must not decide between two tokens when a prompt is
# computed in one piece here and in two pieces there.
_CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": _HIDDEN,
    "intermediate_size": _INNER,
    "num_attention_heads": _HEADS,
    "num_key_value_heads": _KV_HEADS,
    "head_dim": _HEAD_DIM,
    "num_hidden_layers": _LAYERS,
    "vocab_size": VOCAB,
    "max_position_embeddings": 8192,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "torch_dtype": "float32",
    "hidden_act": "silu",
}


def _shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names and shapes of all weights, in Hugging Face's order for Llama."""
    yield "model.embed_tokens.weight", (VOCAB, _HIDDEN)
    for layer in range(_LAYERS):
        at = f"model.layers.{layer}."
        yield at + "self_attn.q_proj.weight", (_HEADS * _HEAD_DIM, _HIDDEN)
        yield at + "self_attn.k_proj.weight", (_KV_HEADS * _HEAD_DIM, _HIDDEN)
        yield at + "self_attn.v_proj.weight", (_KV_HEADS * _HEAD_DIM, _HIDDEN)
        yield at + "self_attn.o_proj.weight", (_HIDDEN, _HEADS * _HEAD_DIM)
        yield at + "mlp.gate_proj.weight", (_INNER, _HIDDEN)
        yield at + "mlp.up_proj.weight", (_INNER, _HIDDEN)
        yield at + "mlp.down_proj.weight", (_HIDDEN, _INNER)
        yield at + "input_layernorm.weight", (_HIDDEN,)
        yield at + "post_attention_layernorm.weight", (_HIDDEN,)
    yield "model.norm.weight", (_HIDDEN,)
    yield "lm_head.weight", (VOCAB, _HIDDEN)


def _values(name: str, shape: tuple[int, ...], draw: random.Random) -> array.array[float]:
    if len(shape) == 1:
        return array.array("f", [1.0] * shape[0])
    # Sharper attention than chance gives: single tokens far away then matter.
    scale = (3.0 if "q_proj" in name else 1.0) / shape[1] ** 0.5
    return array.array("f", (draw.gauss(0.0, scale) for _ in range(shape[0] * shape[1])))


def write(folder: Path, seed: int = 1) -> None:
    """Write config.json and model.safetensors into `folder`, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(_CONFIG, indent=2))
    draw = random.Random(seed)
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    chunks: list[bytes] = []
    offset = 0
    for name, shape in _shapes():
        chunk = _values(name, shape, draw).tobytes()
        end = offset + len(chunk)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [offset, end]}
        chunks.append(chunk)
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.writelines(chunks)
