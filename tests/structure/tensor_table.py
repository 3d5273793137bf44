#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tensor_table.py ROOT COMPILER FLAG...: whoever adds a tensor to the table of core/tensors.hpp and forgets something is
told so by the compiler.

Copies the headers and adds a matrix w4 to the feed-forward, step by step. Until the last step they don't compile, and the
message names what is missing and the role; then what loads, saves, adapts, merges and trains a model compiles, and knows
of it.
"""
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from os import sched_getaffinity
from pathlib import Path

ROOT = Path(sys.argv[1])
COMPILER = sys.argv[2:]

CONFIG = """
using namespace mistral;
inline constexpr ModelConfig tiny{
    .dim = 64, .n_layers = 3, .head_dim = 16, .hidden_dim = 160, .n_heads = 4, .n_kv_heads = 2,
    .window_size = 8, .context_len = 64, .vocab_size = 97};
using Model = Transformer<tiny, F32>;
"""

# What is compiled: as little as shows what is missing.
TABLE = "#include <mistral/core/tensors.hpp>\n"
LAYERS = f"#include <mistral/format/f32.hpp>\n#include <mistral/nn/transformer.hpp>\n{CONFIG}Model model;\n"
STEPS = "#include <mistral/train/backward.hpp>\n"
WAYS_BACK = f"{STEPS}{CONFIG}double run(Backward<Model>& b, Model& m, Gradients<Model>& g) {{ return b.run(m, g, {{}}, {{}}, {{}}, {{}}); }}\n"
ALL = f"""
#include <mistral/train.hpp>
#include <mistral/checkpoint/merge.hpp>
#include <mistral/checkpoint/save_packed.hpp>
{CONFIG}
using Tuned = Transformer<tiny, Lora<F32>>;

void use(Model& model, Tuned& tuned) {{
  randomize(model, 1);
  model = load<Model>("in");
  save_checkpoint(model, "out");
  save_packed(model, "out.mistral");
  write_gguf<Q4_0>(Checkpoint::open("in"), "out.gguf");
  merge_checkpoint(Checkpoint::open("in"), "adapter", "out");
  add_adapter(tuned, {{}});
  load_adapter(tuned, "adapter");
  save_adapter(tuned, "adapter");
  merge_adapter(tuned);
  Trainer(model, {{}}).step({{}});
  Trainer(tuned, {{}}).step({{}});
}}
"""

# An edit is a header, a text in it, and what takes its place.
ROLE = ("core/tensors.hpp", "  norm,            ///<", "  w4,              ///< a tensor more\n  norm,            ///<")
ROW = ("core/tensors.hpp", "    detail::norm_row(TensorRole::norm,",
       '    detail::matrix_row(TensorRole::w4, "feed_forward.w4.weight", "mlp.more_proj.weight", "ffn_more.weight",\n'
       "                       TensorExtent::hidden_dim, TensorExtent::dim),\n    detail::norm_row(TensorRole::norm,")
TWIN = (ROW[0], ROW[1], ROW[2].replace("mlp.more_proj", "mlp.up_proj"))
FIELD = ("core/tensors.hpp", "w3 = true;", "w3 = true, w4 = true;")
TARGET = ("core/tensors.hpp", "{TensorRole::w3, &LoraTargets::w3},",
          "{TensorRole::w3, &LoraTargets::w3}, {TensorRole::w4, &LoraTargets::w4},")
MEMBER = ("nn/feed_forward.hpp", "  Linear<F, C.dim, C.hidden_dim> w3;",
          "  Linear<F, C.dim, C.hidden_dim> w4;\n  Linear<F, C.dim, C.hidden_dim> w3;")
OTHER_MEMBER = (MEMBER[0], MEMBER[1], MEMBER[2].replace("C.hidden_dim> w4", "C.dim> w4"))
MODEL_MEMBER = ("nn/transformer.hpp", "  RmsNorm<C.dim> norm;", "  RmsNorm<C.dim> more;\n  RmsNorm<C.dim> norm;")
PLACE = ("nn/tensors.hpp", "  } else if constexpr (R == TensorRole::norm) {",
         "  } else if constexpr (R == TensorRole::w4) {\n    return owner.feed_forward.w4;\n"
         "  } else if constexpr (R == TensorRole::norm) {")
STEP = ("train/backward_steps.hpp", "TensorRole::w2,", "TensorRole::w2, TensorRole::w4,")
WAY_BACK = ("train/backward.hpp", "    } else if constexpr (R == TensorRole::w3) {",
            "    } else if constexpr (R == TensorRole::w4) {\n"
            "      product(at, pass, work_.branch.view(), dhidden_.view(), dbranch_.view(), SumFrom::y);\n"
            "    } else if constexpr (R == TensorRole::w3) {")

# With all of it, the rest follows: names in files, adapters, memory.
FOLLOWS = """
static_assert(find_tensor(TensorNaming::gguf, "blk.2.ffn_more.weight").row->role == TensorRole::w4);
static_assert(LoraTargets{}.holds("layers.0.feed_forward.w4"));
static_assert(tiny.parameter_count() == 2 * 97 * 64 + 64 + 3 * (2 * 64 * 64 + 2 * 64 * 32 + 4 * 64 * 160 + 2 * 64));
static_assert(Model::memory_bytes == 4 * (tiny.parameter_count() + 2 * 15 * 64));  // 97 rows are 7 panels of 16
"""

# What is done, what is compiled, and what stands in the compiler's messages; nothing: it compiles.
CASES = [
    ("the headers as they are", [], ALL, []),
    ("a role", [ROLE], TABLE, ["the table of tensors has one row for each TensorRole"]),
    ("a role and a row with another's name", [ROLE, TWIN, FIELD, TARGET], TABLE, ["two rows of the table have one name"]),
    ("a role and a row", [ROLE, ROW], TABLE, ["LoraTargets and lora_targets have one field for each row"]),
    ("all but a member", [ROLE, ROW, FIELD, TARGET, STEP], LAYERS, ["tensor_of knows no member", "TensorRole::w4"]),
    ("all but its place", [ROLE, ROW, FIELD, TARGET, MEMBER, STEP], LAYERS,
     ["tensor_of knows no member", "TensorRole::w4"]),
    ("all, and a member of another shape", [ROLE, ROW, FIELD, TARGET, OTHER_MEMBER, PLACE, STEP], LAYERS,
     ["a member has another shape or kind than its row", "TensorRole::w4"]),
    ("all but its step back", [ROLE, ROW, FIELD, TARGET, MEMBER, PLACE], STEPS,
     ["Backward has no step back", "TensorRole::w4"]),
    ("all but its way back", [ROLE, ROW, FIELD, TARGET, MEMBER, PLACE, STEP], WAYS_BACK,
     ["a role of backward_steps has no step in Backward::back", "TensorRole::w4"]),
    ("a layer's member alone", [MEMBER], LAYERS, ["a layer has a member that the table of tensors"]),
    ("a model's member alone", [MODEL_MEMBER], LAYERS, ["a model has a member that the table of tensors"]),
    ("all of it", [ROLE, ROW, FIELD, TARGET, MEMBER, PLACE, STEP, WAY_BACK], ALL + FOLLOWS, []),
]


def check(case):
    """What is wrong with a case, None if nothing is."""
    name, edits, unit, expected = case
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / "include/mistral", Path(folder) / "mistral")
        for header, text, other in edits:
            path = Path(folder) / "mistral" / header
            content = path.read_text(encoding="utf-8")
            if content.count(text) != 1:
                return f"{name}: expected '{text}' once in {header}"
            path.write_text(content.replace(text, other), encoding="utf-8")
        result = subprocess.run([*COMPILER, "-std=c++20", "-fsyntax-only", f"-I{folder}", "-x", "c++", "-"],
                                input=unit, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if (result.returncode == 0) != (not expected):
        return f"{name}: expected it {'not ' if expected else ''}to compile:\n{result.stdout[:2000]}"
    for message in expected:
        if message not in result.stdout:
            return f"{name}: expected '{message}' among the messages:\n{result.stdout[:2000]}"
    return None


with ThreadPoolExecutor(len(sched_getaffinity(0))) as pool:
    failures = [failure for failure in pool.map(check, CASES) if failure]
for failure in failures:
    print("FAILED:", failure)
print(f"{len(CASES) - len(failures)} of {len(CASES)} as expected")
sys.exit(1 if failures else 0)
