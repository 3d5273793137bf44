# SPDX-License-Identifier: Apache-2.0
"""Mistral and LoRA in plain PyTorch, written from the papers and from what Hugging Face documents of its files: the other
side of against_pytorch.sh. Nothing here is shared with the library that it is held against.

    base     config.json and model.safetensors of a MistralForCausalLM, float32; RoPE turns the halves of a head
    adapter  adapter_config.json and adapter_model.safetensors of PEFT's LoRA: W x + scale B (A x), where scale is
             lora_alpha / r, or lora_alpha / sqrt(r) with use_rslora
"""

import json
import math

import numpy
import torch
import torch.nn.functional as functional

DTYPES = {"F32": numpy.dtype("<f4"), "I32": numpy.dtype("<i4")}


def write_safetensors(path, tensors):
    """{name: array} as a safetensors file: 8 bytes of the header's length, a JSON header, the data."""
    names = {dtype: name for name, dtype in DTYPES.items()}
    header, end = {}, 0
    for name, array in tensors.items():
        begin, end = end, end + array.nbytes
        header[name] = {"dtype": names[array.dtype], "shape": list(array.shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in tensors.values():
            file.write(numpy.ascontiguousarray(array).data)


def read_safetensors(path):
    """The same back, as tensors that own their memory."""
    tensors = {}
    with open(path, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        begin = file.tell()
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            file.seek(begin + entry["data_offsets"][0])
            array = numpy.fromfile(file, DTYPES[entry["dtype"]], math.prod(entry["shape"]))
            tensors[name] = torch.from_numpy(array.reshape(entry["shape"]))
    return tensors


def modules(config):
    """Every matrix that an adapter may stand beside, with its shape (outputs, inputs)."""
    dim, hidden, size = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    queries, keys = config["num_attention_heads"] * size, config["num_key_value_heads"] * size
    for i in range(config["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        yield layer + "self_attn.q_proj", (queries, dim)
        yield layer + "self_attn.k_proj", (keys, dim)
        yield layer + "self_attn.v_proj", (keys, dim)
        yield layer + "self_attn.o_proj", (dim, queries)
        yield layer + "mlp.gate_proj", (hidden, dim)
        yield layer + "mlp.up_proj", (hidden, dim)
        yield layer + "mlp.down_proj", (dim, hidden)
    yield "lm_head", (config["vocab_size"], dim)


class Linear(torch.nn.Module):
    """A frozen matrix, and the two small ones of an adapter, where it has them."""

    def __init__(self, weight, a=None, b=None, scale=0.0):
        super().__init__()
        self.weight = torch.nn.Parameter(weight, requires_grad=False)
        self.lora_a = None if a is None else torch.nn.Parameter(a)
        self.lora_b = None if b is None else torch.nn.Parameter(b)
        self.scale = scale

    def forward(self, x):
        y = functional.linear(x, self.weight)
        if self.lora_a is None:
            return y
        return y + self.scale * functional.linear(functional.linear(x, self.lora_a), self.lora_b)


class Norm(torch.nn.Module):
    def __init__(self, weight, eps):
        super().__init__()
        self.weight = torch.nn.Parameter(weight, requires_grad=False)
        self.eps = eps

    def forward(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps))


class Layer(torch.nn.Module):
    def __init__(self, config, prefix, linear, norm):
        super().__init__()
        self.heads, self.kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
        self.size = config["head_dim"]
        self.q, self.k, self.v, self.o = (linear(prefix + "self_attn." + n + "_proj") for n in "qkvo")
        self.gate, self.up, self.down = (linear(prefix + "mlp." + n + "_proj") for n in ("gate", "up", "down"))
        self.input_norm = norm(prefix + "input_layernorm.weight")
        self.mlp_norm = norm(prefix + "post_attention_layernorm.weight")

    def forward(self, x, turn, mask):
        batch, length, _ = x.shape
        normed = self.input_norm(x)

        def by_head(y, heads):
            return y.view(batch, length, heads, self.size).transpose(1, 2)

        q, k = turn(by_head(self.q(normed), self.heads)), turn(by_head(self.k(normed), self.kv_heads))
        v = by_head(self.v(normed), self.kv_heads)
        k, v = (y.repeat_interleave(self.heads // self.kv_heads, dim=1) for y in (k, v))
        if hasattr(functional, "scaled_dot_product_attention"):
            attended = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        else:
            scores = (q @ k.transpose(2, 3)) / math.sqrt(self.size)
            attended = torch.softmax(scores.masked_fill(~mask, -math.inf), dim=-1) @ v
        x = x + self.o(attended.transpose(1, 2).reshape(batch, length, self.heads * self.size))
        normed = self.mlp_norm(x)
        return x + self.down(functional.silu(self.gate(normed)) * self.up(normed))


class Mistral(torch.nn.Module):
    """A checkpoint's model, with an adapter's matrices where a folder of one is given."""

    def __init__(self, base, adapter=None):
        super().__init__()
        self.config = config = json.loads((base / "config.json").read_text())
        tensors = read_safetensors(base / "model.safetensors")
        low, scale, used = {}, 0.0, set()
        if adapter is not None:
            settings = json.loads((adapter / "adapter_config.json").read_text())
            rank = settings["r"]
            scale = settings["lora_alpha"] / (math.sqrt(rank) if settings.get("use_rslora") else rank)
            low = read_safetensors(adapter / "adapter_model.safetensors")

        def linear(name):
            names = [f"base_model.model.{name}.lora_{m}.weight" for m in "AB"]
            used.update(n for n in names if n in low)
            return Linear(tensors.pop(name + ".weight"), *(low.get(n) for n in names), scale)

        def norm(name):
            return Norm(tensors.pop(name), config["rms_norm_eps"])

        self.embedding = torch.nn.Parameter(tensors.pop("model.embed_tokens.weight"), requires_grad=False)
        layers = range(config["num_hidden_layers"])
        self.layers = torch.nn.ModuleList(Layer(config, f"model.layers.{i}.", linear, norm) for i in layers)
        self.norm = norm("model.norm.weight")
        self.head = linear("lm_head")
        if tensors or used != set(low):
            raise ValueError(f"tensors that no layer took: {[*tensors, *(set(low) - used)]}")

    def forward(self, tokens):
        """tokens (batch, length) -> logits (batch, length, vocab_size)"""
        length = tokens.shape[1]
        positions = torch.arange(length)
        size = self.config["head_dim"]
        powers = torch.arange(0, size, 2, dtype=torch.float64) / size
        angles = positions[:, None] * (self.config["rope_theta"] ** -powers)
        cos, sin = (torch.cat((f(angles), f(angles)), dim=1).float() for f in (torch.cos, torch.sin))

        def turn(x):  # pairs are (i, i + size / 2)
            left, right = x.chunk(2, dim=-1)
            return x * cos + torch.cat((-right, left), dim=-1) * sin

        behind = positions[:, None] - positions[None, :]
        mask = behind >= 0
        if self.config["sliding_window"]:
            mask &= behind < self.config["sliding_window"]
        x = self.embedding[tokens]
        for layer in self.layers:
            x = layer(x, turn, mask)
        return self.head(self.norm(x))
