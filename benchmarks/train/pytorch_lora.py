#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""PyTorch's half of against_pytorch.sh.

    pytorch_lora.py make FOLDER SHAPE     writes random weights, a fresh adapter and a batch of random tokens
    pytorch_lora.py steps FOLDER THREADS  for each line on stdin a step of training: prints its loss and its seconds; at the
                                          end of stdin the peak of the process's memory, in bytes
    pytorch_lora.py check FOLDER          computes the logits of the adapter that the library has trained and saved, and
                                          prints how far they are from those that the library says
"""

import json
import pathlib
import resource
import sys
import time

import numpy
import torch
import torch.nn.functional as functional

import plain_mistral

# (dim, layers, head_dim, hidden, heads, key heads, window, vocabulary), rank, rank-stabilised, sequences, their length
SHAPES = {
    "small": ((1024, 12, 64, 3584, 16, 4, 4096, 32000), 32, False, 4, 512),
    "tiny": ((64, 3, 16, 160, 4, 2, 8, 97), 6, True, 2, 40),
}


def make(folder, shape):
    (dim, layers, size, hidden, heads, kv_heads, window, vocabulary), rank, stabilised, batch, length = SHAPES[shape]
    config = {
        "architectures": ["MistralForCausalLM"], "model_type": "mistral", "hidden_act": "silu",
        "hidden_size": dim, "num_hidden_layers": layers, "head_dim": size, "intermediate_size": hidden,
        "num_attention_heads": heads, "num_key_value_heads": kv_heads, "sliding_window": window,
        "max_position_embeddings": 4096, "vocab_size": vocabulary, "rope_theta": 10000.0, "rms_norm_eps": 1e-5,
        "tie_word_embeddings": False, "torch_dtype": "float32",
    }
    random = numpy.random.default_rng(1)

    def matrix(outputs, inputs):  # keeps activations at their size
        return random.standard_normal((outputs, inputs), dtype=numpy.float32) / numpy.float32(inputs**0.5)

    shapes = dict(plain_mistral.modules(config))
    tensors = {"model.embed_tokens.weight": random.standard_normal((vocabulary, dim), dtype=numpy.float32)}
    tensors.update({name + ".weight": matrix(*of) for name, of in shapes.items()})
    norms = [f"model.layers.{i}.{n}_layernorm" for i in range(layers) for n in ("input", "post_attention")]
    for name in [*norms, "model.norm"]:
        tensors[name + ".weight"] = random.uniform(0.5, 1.5, dim).astype(numpy.float32)
    adapter = {}
    for name, (outputs, inputs) in shapes.items():  # as PEFT begins: A uniform, B zero
        limit = inputs**-0.5
        prefix = f"base_model.model.{name}.lora_"
        adapter[prefix + "A.weight"] = random.uniform(-limit, limit, (rank, inputs)).astype(numpy.float32)
        adapter[prefix + "B.weight"] = numpy.zeros((outputs, rank), numpy.float32)
    settings = {
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": rank, "lora_alpha": 16, "lora_dropout": 0.0, "bias": "none",
        "use_rslora": stabilised, "target_modules": sorted({name.split(".")[-1] for name in shapes}),
    }
    for part in ("base", "adapter"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "base/config.json").write_text(json.dumps(config))
    (folder / "adapter/adapter_config.json").write_text(json.dumps(settings))
    plain_mistral.write_safetensors(folder / "base/model.safetensors", tensors)
    plain_mistral.write_safetensors(folder / "adapter/adapter_model.safetensors", adapter)
    tokens = random.integers(0, vocabulary, (batch, length + 1)).astype(numpy.int32)  # the last one is only predicted
    plain_mistral.write_safetensors(folder / "batch.safetensors", {"tokens": tokens})


def steps(folder, threads):
    torch.set_num_threads(threads)
    model = plain_mistral.Mistral(folder / "base", folder / "adapter")
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01)
    tokens = plain_mistral.read_safetensors(folder / "batch.safetensors")["tokens"].long()
    for _ in sys.stdin:
        begin = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        loss = functional.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 0.3)
        optimizer.step()
        print(f"{loss.item():.7f} {time.perf_counter() - begin:.6f}", flush=True)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, flush=True)


def check(folder):
    model = plain_mistral.Mistral(folder / "base", folder / "trained")
    tokens = plain_mistral.read_safetensors(folder / "batch.safetensors")["tokens"].long()
    ours = torch.from_numpy(numpy.load(folder / "logits.npy"))
    with torch.no_grad():
        logits = model(tokens[:1, :-1])[0]
        plain = plain_mistral.Mistral(folder / "base")(tokens[:1, :-1])[0]
    difference = (logits - ours).abs().max().item()
    print(f"the saved adapter, read by PyTorch: logits of up to {logits.abs().max().item():.2f} differ by up to "
          f"{difference:.1e}; from those without it by up to {(plain - ours).abs().max().item():.2f}")
    # fp32 sums of another order, through all layers: a few hundred roundings of 2^-24
    if not difference <= 1e-4 * max(1.0, logits.abs().max().item()):
        sys.exit("FAILED: the logits differ")


def main():
    if len(sys.argv) == 4 and sys.argv[1] == "make" and sys.argv[3] in SHAPES:
        make(pathlib.Path(sys.argv[2]), sys.argv[3])
    elif len(sys.argv) == 4 and sys.argv[1] == "steps":
        steps(pathlib.Path(sys.argv[2]), int(sys.argv[3]))
    elif len(sys.argv) == 3 and sys.argv[1] == "check":
        check(pathlib.Path(sys.argv[2]))
    else:
        sys.exit(__doc__)


main()
