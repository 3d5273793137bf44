#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""misuse.py ROOT COMPILER FLAG...: what is written wrongly doesn't compile, and the message says what to write; what is
written rightly compiles, also where others have defined macros.

With the compiler that it is given, and with the other one of g++ and clang++ where that is installed.
"""
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from os import sched_getaffinity
from pathlib import Path

ROOT = Path(sys.argv[1])
INCLUDE = ROOT / "include"
FLAGS = sys.argv[3:]
OTHERS = [found for names in (("clang++-14", "clang++"), ("g++",)) if (found := next(filter(shutil.which, names), None))]
is_clang = lambda compiler: "clang" in Path(compiler).name or Path(compiler).name == "c++" and "clang" in subprocess.run(
    [compiler, "--version"], capture_output=True, text=True).stdout
COMPILERS = [sys.argv[2], *[other for other in OTHERS if is_clang(other) != is_clang(sys.argv[2])][:1]]
ALL_HEADERS = sorted(path.relative_to(INCLUDE).as_posix() for path in INCLUDE.rglob("*.hpp"))
# without those of instruction sets, of which a program has the ones that its compiler is told of
HEADERS = [header for header in ALL_HEADERS if not header.startswith("mistral/simd/sets/")]

CONFIG = """
inline constexpr mistral::ModelConfig tiny{
    .dim = 64, .n_layers = 3, .head_dim = 16, .hidden_dim = 160, .n_heads = 4, .n_kv_heads = 2,
    .window_size = 8, .context_len = 64, .vocab_size = 97};
using Model = mistral::Transformer<tiny, mistral::F32>;
using Session = mistral::Session<Model>;
"""


def compile_unit(compiler, unit, *flags, how="-I"):
    """What the compiler says to it, and whether it takes it."""
    result = subprocess.run([compiler, "-std=c++20", *FLAGS, how, str(INCLUDE), *flags, "-fsyntax-only", "-x", "c++", "-"],
                            input=unit, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return result.stdout, result.returncode == 0


def errors_of(said):
    return [line for line in said.splitlines() if re.search(r"\berror:", line)]


# A unit that can't be compiled at all ends with one line, whatever else is in it.

def first_line_of_all(compiler, header, flags, message, how):
    unit = f"#include <{header}>\nint main() {{ throw mistral::nothing_of_the_kind; }}\n"
    said, taken = compile_unit(compiler, unit, *flags, how=how)
    errors = errors_of(said)
    if not taken and len(errors) == 1 and message in errors[0]:
        return None
    return (f"{compiler} {' '.join(flags)} {how}, <{header}> first: expected one error, '{message}', got {len(errors)}: "
            f"{errors[:2]}")


UNSUPPORTED = [(["-std=c++17"], "mistral needs C++20"), (["-fno-exceptions"], "mistral needs exceptions")]


def comes_first(header):
    """Nothing but comments and includes stands in a header above its first one of ours, which leads to supported.hpp.
    (Those of other libraries may stand above: such headers are compiled.)"""
    seen = set()
    while header != "mistral/core/supported.hpp":
        if header in seen:
            return f"{header}: its first header of ours doesn't lead to core/supported.hpp"
        seen.add(header)
        for line in (INCLUDE / header).read_text(encoding="utf-8").splitlines():
            text = line.strip()
            if not text or text.startswith("//") or re.match(r"#(pragma once|if|ifdef|elif|else|endif)\b", text):
                continue
            included = re.match(r"#include <(.*?)>", text)
            if not included:
                return f"{header}: expected #include <mistral/...> before '{text}'"
            if included[1].startswith("mistral/"):
                header = included[1]
                break
    return None


# What is said of a mistake: its name, the lines of code, and what stands in the messages of each compiler.
HOOKS = "The hooks are residual, scores (with wants_scores), heads, attention_output, feed_forward_output and logits"
NEARLY = "tape: a member is nearly the hook "
FIT_HOOKS = "The hooks are step(const FitStep&), evaluation(const FitEvaluation&) and resumed(std::uint64_t)"
ELEMENTS = "float, mistral::bf16 or mistral::q8"
LIST = (INCLUDE / "mistral/format/format_names.hpp").read_text(encoding="utf-8")
FORMATS = "one of mistral's " + ", ".join(re.findall(r"\bX\((\w+)\) ?", LIST.split("#define MISTRAL_FORMATS")[1].split("\n//")[0]))


def tape(members, argument="Tape& tape"):
    return f"struct Tape {{ {members} }};\nvoid watch(Session& session, {argument}) {{ session.decode(1, tape); }}"


def fit(members, argument="Hooks& hooks"):
    return (f"struct Hooks {{ {members} }};\nusing Trainer = mistral::Trainer<Model>;\n"
            f"void run(Trainer& trainer, {argument}) {{ mistral::fit(trainer, {{}}, {{}}, {{}}, hooks); }}")


LAYERS = "struct Own : mistral::MistralLayers {{ {} template <mistral::ModelConfig C, mistral::WeightFormat F> {} }};\n"
NAME = 'static constexpr std::string_view name = "own";'
FEED_FORWARD = "struct FeedForward : mistral::FeedForward<C, F> {{ using mistral::FeedForward<C, F>::FeedForward; {} }};"
OWN_MODEL = "using OwnModel = mistral::Transformer<tiny, mistral::F32, Own>;\n"


def own(layer, name=NAME, use="OwnModel model;"):
    return LAYERS.format(name, layer) + OWN_MODEL + use + "\n"


# A layer policy that no Trainer knows the way back through: all that is said is one error, which names the policy.
UNTRAINABLE = "a model of this layer policy can't be trained"
TRAIN = "void train(OwnModel& model) { mistral::Trainer trainer{model}; trainer.step({}); trainer.evaluate({}); }"
UNTRAINABLES = [
    ("a feed-forward of another kind", own(FEED_FORWARD.format(""), use=TRAIN)),
    ("a feed-forward that ends elsewhere",
     own("struct FeedForward { mistral::Linear<F, C.dim, C.hidden_dim> w1, w3; mistral::Linear<F, C.hidden_dim, C.dim> w2; "
         "explicit FeedForward(mistral::MemoryResource* m) : w1(m), w3(m), w2(m) {} template <mistral::KvElement T, class Tape> "
         "void forward(const mistral::ForwardContext<C, T>&, mistral::Workspace<C, F, T>&, Tape&) const noexcept {} };",
         use=TRAIN)),
    ("an attention of another kind",
     own("struct Attention : mistral::Attention<C, F> { using mistral::Attention<C, F>::Attention; };", use=TRAIN)),
    ("an activation without a backward",
     "struct Square { static void forward(mistral::Rows<float>, mistral::Rows<const float>) noexcept {} };\n" +
     own("using FeedForward = mistral::FeedForward<C, F, Square>;", use=TRAIN)),
]

MISTAKES = [
    ("a session of integers", "std::size_t size = sizeof(mistral::Session<Model, int>);", [ELEMENTS]),
    ("a session of halves", "std::size_t size = sizeof(mistral::Session<Model, mistral::f16>);", [ELEMENTS]),
    ("a session of a weight format", "std::size_t size = sizeof(mistral::Session<Model, mistral::BF16>);", [ELEMENTS]),
    ("a batch of doubles", "std::size_t size = sizeof(mistral::SessionBatch<Model, double>);", [ELEMENTS]),
    ("weights of an element", "std::size_t size = sizeof(mistral::Transformer<tiny, float>);", [FORMATS]),
    ("weights of a cache's element", "std::size_t size = sizeof(mistral::Transformer<tiny, mistral::bf16>);", [FORMATS]),
    ("adapters on an element", "std::size_t size = sizeof(mistral::Lora<float>);", [FORMATS]),
    ("a session that is copied", "void f(Session& a) { Session b(a); }", ["call fork()"]),
    ("a session that is copied by =", "void f(Session& a) { auto b = a; }", ["call fork()"]),
    ("a session that is handed over by value", "void g(Session); void f(const Session& a) { g(a); }", ["call fork()"]),
    ("a session that is assigned", "void f(Session& a, const Session& b) { a = b; }", ["call fork()", "assign()"]),

    ("a layer policy without a name", own(FEED_FORWARD.format(""), ""), ["nn/layers.hpp: a layer policy has no name"]),
    ("a layer policy that replaces nothing", own("struct Feedforward : mistral::FeedForward<C, F> {};"),
     ["nn/layers.hpp: a layer policy replaces no layer"]),
    ("a layer that lacks a tensor",
     own("struct Attention { mistral::Linear<F, C.dim, C.query_dim()> wq; explicit Attention(mistral::MemoryResource* m) : wq(m) {} };"),
     ["nn/layers.hpp: a layer policy's Attention lacks a tensor of the table"]),
    ("a layer that has a tensor more", own(FEED_FORWARD.format("mistral::Linear<F, C.dim, C.dim> w4;")),
     ["nn/tensors.hpp: a layer has a member that the table of tensors"]),
    ("an adapter of a model that holds none", "void f(Session& session) { session.use_adapter(0); }", ["HoldsAdapters"]),

    ("residuals", tape("void residuals(const mistral::Residual&) {}"), [HOOKS]),
    ("any other name alone", tape("int state = 0; void rezidual(const mistral::Residual&) {}"), [HOOKS]),
    ("no hook at all", tape("int state = 0;"), [HOOKS]),
    ("a function for a tape", "void watch(Session& session) { session.decode(1, [](const mistral::Residual&) {}); }", [HOOKS]),
    ("residuals beside a hook", tape("void residuals(const mistral::Residual&) {} void heads(const mistral::LayerRows&) {}"),
     [NEARLY + "residual(const Residual&)"]),
    ("attn_output beside a hook",
     tape("void attn_output(const mistral::LayerRows&) {} void residual(const mistral::Residual&) {}"),
     [NEARLY + "attention_output(const LayerRows&)"]),
    ("feedforward_output beside a hook",
     tape("void feedforward_output(const mistral::LayerRows&) {} void residual(const mistral::Residual&) {}"),
     [NEARLY + "feed_forward_output(const LayerRows&)"]),
    ("score beside a hook", tape("void score(const mistral::AttentionScores&) {} void heads(const mistral::LayerRows&) {}"),
     [NEARLY + "scores(const AttentionScores&)"]),
    ("head beside a hook", tape("void head(const mistral::LayerRows&) {} void residual(const mistral::Residual&) {}"),
     [NEARLY + "heads(const LayerRows&)"]),
    ("logit beside a hook", tape("void logit(std::span<float>) {} void residual(const mistral::Residual&) {}"),
     [NEARLY + "logits(std::span<float>)"]),
    ("want_scores", tape("bool want_scores(std::size_t) { return true; } void scores(const mistral::AttentionScores&) {}"),
     ["tape: a member is nearly wants_scores(std::size_t layer)"]),
    ("wants_scores without scores", tape("bool wants_scores(std::size_t) { return true; } "
                                         "void residual(const mistral::Residual&) {}"),
     ["tape: wants_scores() would not be called: it says of which layers scores() is shown"]),
    ("wants_scores that isn't const", tape("bool wants_scores(std::size_t) { return true; } "
                                           "void scores(const mistral::AttentionScores&) const {}", "const Tape& tape"),
     ["tape: wants_scores() would not be called: it takes a layer"]),

    ("a fit's hook by another name", fit("void evaluated(const mistral::FitEvaluation&) {}"), [FIT_HOOKS]),
    ("a fit's evaluate beside a hook",
     fit("void evaluate(const mistral::FitEvaluation&) {} void step(const mistral::FitStep&) {}"),
     ["fit: a member is nearly the hook evaluation(const FitEvaluation&)"]),
    ("a fit's steps beside a hook",
     fit("void steps(const mistral::FitStep&) {} void evaluation(const mistral::FitEvaluation&) {}"),
     ["fit: a member is nearly the hook step(const FitStep&)"]),
    ("a fit's step of something else", fit("bool step(const mistral::FitEvaluation&) { return true; }"),
     ["fit: step() would not be called"]),
    ("a fit's evaluation that isn't const", fit("void evaluation(const mistral::FitEvaluation&) {}", "const Hooks& hooks"),
     ["fit: evaluation() would not be called"]),
]

# Honest code that looks like these. It is compiled with -Wctad-maybe-unsupported too, where that is known.
GOOD = """
struct Own : mistral::NoTape { int state = 0; };
struct Some {  // a hook, and members of its own whose names are nearly hooks'
  std::vector<float> residuals, score, head;
  void residual(const mistral::Residual& x) { logit(x.layer); }
  void logit(std::size_t) {}
  void attention(const mistral::LayerRows&) {}
};
struct Chosen {
  void scores(const mistral::AttentionScores&) const {}
  bool wants_scores(std::size_t layer) const { return layer == 1; }
};
struct Steps { void step(const mistral::FitStep&) {} double evaluate = 0.0; };
struct Ends { bool evaluation(const mistral::FitEvaluation&) const { return false; } };
void watch(Session& session, Own own, Some some, const Chosen& chosen) {
  session.decode(1, own);
  session.decode(1, some);
  session.decode(1, chosen);
  session.decode(1, mistral::NoTape{});
  session.decode(1, mistral::ResidualHook{[](const mistral::Residual&) {}});
  Session moved = std::move(session);
  Session forked = moved.fork();
  moved = std::move(forked);
}
void deduce(Model& model, const Model& shared, const mistral::Tokenizer& tokenizer) {  // as the documents write it
  mistral::Trainer trainer{model, {.learning_rate = 1e-3f}};
  mistral::Trainer plain{model};
  mistral::Session session{shared};
  mistral::Session with_rollback{model, 16};
  mistral::SessionBatch batch{shared};
  mistral::SessionBatch small{shared, {.max_sequences = 4}};
  mistral::SessionBatch with_texts{model, tokenizer, {.max_sequences = 4}};
  [[maybe_unused]] mistral::ResidualHook hook{[](const mistral::Residual&) {}};
  static_assert(std::is_same_v<decltype(trainer), mistral::Trainer<Model>> &&
                std::is_same_v<decltype(session), Session> && std::is_same_v<decltype(with_rollback), Session> &&
                std::is_same_v<decltype(batch), mistral::SessionBatch<Model>> &&
                std::is_same_v<decltype(with_texts), decltype(small)>);
}
void run(mistral::Trainer<Model>& trainer, const Ends& ends) {
  mistral::fit(trainer, {}, {}, {});
  mistral::fit(trainer, {}, {}, {}, Steps{});
  mistral::fit(trainer, {}, {}, {}, ends);
}
static_assert(!std::is_copy_constructible_v<Session> && !std::is_copy_assignable_v<Session>);
static_assert(std::is_move_constructible_v<Session> && std::is_move_assignable_v<Session>);
"""


# What windows.h, X11 and Qt define, where a program has them before our headers.
MACROS = """
#define min(a, b) (((a) < (b)) ? (a) : (b))
#define max(a, b) (((a) > (b)) ? (a) : (b))
#define near
#define far
#define small char
#define interface struct
#define ERROR 0
#define IN
#define OUT
#define OPTIONAL
#define CONST const
#define DELETE 0x00010000L
#define TRUE 1
#define FALSE 0
#define VOID void
#define GetObject GetObjectW
#define None 0L
#define Status int
#define Bool int
#define True 1
#define False 0
#define Always 2
#define Success 0
#define Complex 0
#define Unsorted 0
#define Convex 1
#define Above 0
#define Below 1
#define slots
#define signals public
#define emit
#define foreach for
#define major(device) 0
#define minor(device) 0
#define linux 1
#define unix 1
"""


def behind_macros():
    """All headers of ours behind these macros, which headers of others needn't bear: they stand before."""
    others = dict.fromkeys(
        included for header in ALL_HEADERS
        for included in re.findall(r"^#include <((?!mistral)[^>]*)>", (INCLUDE / header).read_text(encoding="utf-8"), re.MULTILINE))
    there = "".join(f"#if __has_include(<{other}>)\n#include <{other}>\n#endif\n" for other in others
                    if not other.startswith(("arm_", "asm/")))
    return there + MACROS + "".join(f"#include <{header}>\n" for header in HEADERS)


def precompile(compiler, folder):
    """Leaves what all cases begin with, compiled, and returns the flags that put it before a unit."""
    header = Path(folder) / Path(compiler).name / "begin.hpp"
    header.parent.mkdir()
    header.write_text(f"#include <mistral/train.hpp>\n#include <mistral/generate/batch.hpp>\n{CONFIG}", encoding="utf-8")
    subprocess.run([compiler, "-std=c++20", *FLAGS, f"-I{INCLUDE}", "-x", "c++-header", str(header), "-o", f"{header}.gch"],
                   check=True)
    return ["-include", str(header)]


def mistake(compiler, begin, what, code, messages):
    said, taken = compile_unit(compiler, code + "\n", *begin)
    if taken:
        return f"{compiler}: {what} compiles"
    missing = [message for message in messages if message not in said]
    return f"{compiler}: {what}: expected '{missing[0]}', the compiler said: {said[:1500]}" if missing else None


def untrainable(compiler, begin, what, code):
    said, _ = compile_unit(compiler, code, *begin)
    errors = errors_of(said)
    if len(errors) == 1 and UNTRAINABLE in errors[0] and "TrainableLayers<Own" in said:
        return None
    return f"{compiler}: {what}: expected one error, '{UNTRAINABLE}', that names the policy Own, the compiler said: {said[:1500]}"


def good(compiler, what, unit, *flags):
    said, taken = compile_unit(compiler, unit, *flags)
    return None if taken and not said else f"{compiler}: {what} doesn't compile:\n{said[:3000]}"


def main():
    umbrellas = [header for header in HEADERS if header.count("/") == 1]
    third_party = [header for header in HEADERS
                   if re.search(r"^#include <(tbb|xsimd|Eigen)/", (INCLUDE / header).read_text(encoding="utf-8"), re.MULTILINE)
                   and header not in umbrellas]
    if len(HEADERS) < 100 or len(umbrellas) < 3 or len(third_party) < 2:
        sys.exit(f"FAILED: expected the headers in {INCLUDE}, found {len(HEADERS)}")
    jobs = [(comes_first, header) for header in HEADERS]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(len(sched_getaffinity(0))) as pool:
        begins = dict(zip(COMPILERS, pool.map(lambda compiler: precompile(compiler, folder), COMPILERS)))
        for compiler in COMPILERS:
            for flags, message in UNSUPPORTED:
                jobs += [(first_line_of_all, compiler, header, flags, message, how) for header, how in
                         [*((header, how) for header in umbrellas for how in ("-I", "-isystem")),
                          *((header, "-isystem") for header in third_party)]]
            jobs += [(mistake, compiler, begins[compiler], *row) for row in MISTAKES]
            jobs += [(untrainable, compiler, begins[compiler], *row) for row in UNTRAINABLES]
            warnings = ["-Wall", "-Wextra", "-Werror", *(["-Wctad-maybe-unsupported"] if is_clang(compiler) else [])]
            jobs.append((good, compiler, "honest code",
                         "".join(f"#include <{header}>\n" for header in HEADERS) + CONFIG + GOOD, *warnings))
            jobs.append((good, compiler, "what stands behind others' macros", behind_macros()))
        failures = [failure for failure in pool.map(lambda job: job[0](*job[1:]), jobs) if failure]
    for failure in failures:
        print("FAILED:", failure)
    print(f"{len(jobs)} cases with {' and '.join(COMPILERS)}, {len(failures)} failed")
    return 1 if failures else 0


sys.exit(main())
