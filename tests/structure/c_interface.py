#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""c_interface.py ROOT CC CXX [TOOL]: mistral/c.h is C and C++; with the tool, it does what the tool and the library do.

TOOL compiles the model breeze, with adapters. examples/c/generate.c is compiled and run against it; examples/c/logits.py, and
the rest of the interface through ctypes, are held against `mistral logits`, bit by bit. Prints a line for each fault.
"""
import ctypes
import importlib.util
import json
import os
import re
import struct
import subprocess
import sys
import tempfile
import threading
from ctypes import POINTER, byref, c_char_p, c_float, c_int32, c_size_t, c_uint32, c_uint64, c_void_p
from pathlib import Path

ROOT, CC, CXX = Path(sys.argv[1]).resolve(), sys.argv[2], sys.argv[3]
TOOL = sys.argv[4] if len(sys.argv) > 4 else None
BREEZE = str(ROOT / "examples/own_model/breeze")
TEXT = "In the beginning God created the heaven"
OK, ARGUMENT, DATA, ROOM, MEMORY, STOPPED, INTERNAL = range(7)
faults = []


def expect(what, expected, found):
    if expected != found:
        faults.append(f"{what}: expected {expected!r:.200}, got {found!r:.200}")


def run(*command, **options):
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    if result.returncode != 0:
        sys.exit(f"FAILED: {' '.join(map(str, command))}\n{result.stderr}")
    return result


def check_header(folder):
    """It compiles as C99 and as C++, alone, and in C++ beside the library's namespace."""
    strict = ["-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror", "-fsyntax-only", f"-I{ROOT}/include"]
    source = folder / "header.c"
    source.write_text("#include <mistral/c.h>\nint main(void) { return mistral_c_version() != MISTRAL_C_VERSION; }\n")
    for standard in ("c99", "c11"):
        run(CC, f"-std={standard}", *strict, source)
    for standard in ("c++11", "c++20"):
        run(CXX, f"-std={standard}", *strict, "-x", "c++", source)
    run(CC, "-std=c99", *strict, ROOT / "examples/c/generate.c")


def logits_of_tool(folder, library, tokens, *options):
    """What `mistral logits` writes: the bytes of each row."""
    out = folder / "logits.npy"
    run(TOOL, "logits", "-m", BREEZE, "--compiled", library, "--tokens", ",".join(map(str, tokens)), "--out", out, *options)
    data = out.read_bytes()
    data = data[10 + struct.unpack("<H", data[8:10])[0]:]
    size = len(data) // len(tokens)
    return [data[i * size:(i + 1) * size] for i in range(len(tokens))]


class LoadOptions(ctypes.Structure):
    _fields_ = [("size", c_size_t), ("allow_different_window", c_int32), ("allow_longer_context", c_int32),
                ("check_memory", c_int32), ("refuse_not_finite", c_int32), ("max_memory", c_uint64),
                ("session_bytes", c_uint64), ("progress", c_void_p), ("user", c_void_p), ("threads", c_size_t)]


class GenerateOptions(ctypes.Structure):
    _fields_ = [("size", c_size_t), *((name, c_float) for name in ("temperature", "top_p", "min_p", "repetition_penalty")),
                ("top_k", c_int32), ("repetition_window", c_int32), ("seed", c_uint64), ("max_tokens", c_size_t),
                ("lookup", c_size_t), ("stop_at_eos", c_int32), ("own_text", c_int32), ("stop_ids", c_void_p),
                ("stop_id_count", c_size_t), ("stop_strings", POINTER(c_char_p)), ("stop_string_count", c_size_t)]


class Longer(ctypes.Structure):
    """Options of a later version."""
    _fields_ = [("known", GenerateOptions), ("unknown", c_size_t)]


class Generated(ctypes.Structure):
    _fields_ = [("size", c_size_t), ("text", c_char_p), ("text_size", c_size_t), ("tokens", POINTER(c_int32)),
                ("token_count", c_size_t), ("reason", c_int32), ("reserved", c_int32)]


class TokenizerInfo(ctypes.Structure):
    _fields_ = [("size", c_size_t), ("vocab_size", c_size_t), *((name, c_int32) for name in (
        "bos_id", "eos_id", "unk_id", "pad_id", "adds_bos", "adds_eos"))]


OnText = ctypes.CFUNCTYPE(c_int32, c_void_p, POINTER(ctypes.c_char), c_size_t)


class BatchOptions(ctypes.Structure):
    _fields_ = [*((name, c_size_t) for name in ("size", "max_sequences", "token_budget", "max_waiting", "max_waiting_tokens",
                                                "max_prompt_tokens", "worth_waiting")),
                ("share_prefixes", c_int32), ("reserved", c_int32)]


class BatchRequest(ctypes.Structure):
    _fields_ = [("size", c_size_t), ("prompt", POINTER(c_int32)), ("prompt_size", c_size_t), ("options", POINTER(GenerateOptions)),
                ("adapter", c_size_t), ("tag", c_uint64), ("on_text", OnText), ("user", c_void_p)]


class BatchResult(ctypes.Structure):
    _fields_ = [("size", c_size_t), ("id", c_uint64), ("tag", c_uint64), ("text", c_char_p), ("text_size", c_size_t),
                ("tokens", POINTER(c_int32)), ("token_count", c_size_t), ("reason", c_int32), ("status", c_int32),
                ("message", c_char_p)]


Progress = ctypes.CFUNCTYPE(c_int32, c_void_p, c_uint64, c_uint64)


class Checks:
    def __init__(self, example, folder, library):
        self.example, self.folder = example, folder
        self.model = example.Model(library, BREEZE)
        self.c = self.model.c
        self.tokens = self.model.encode(TEXT)
        self.rows = logits_of_tool(folder, library, self.tokens)

    def status(self, name, *arguments):
        return getattr(self.c, f"mistral_{name}")(*arguments)

    def fails(self, status, words, name, *arguments):
        """The call fails with that status, and its message has these words."""
        expect(f"mistral_{name}", status, self.status(name, *arguments))
        message = self.c.mistral_error_message().decode()
        if words not in message or "\n" in message:
            faults.append(f"mistral_{name}: expected a message with '{words}', got '{message}'")

    def session(self, rollback=0):
        session = c_void_p()
        self.model.call("session_new", self.model.model, c_size_t(rollback), byref(session))
        return session

    def row_after(self, session, tokens, name="session_prefill"):
        logits = POINTER(c_float)()
        self.model.call(name, session, (c_int32 * len(tokens))(*tokens), c_size_t(len(tokens)), byref(logits))
        return ctypes.string_at(logits, 4 * self.model.info.vocab_size)

    def position(self, session):
        position = c_size_t()
        self.model.call("session_position", session, byref(position))
        return position.value

    def exports(self, library):
        """The library shows the functions of the header, and nothing else."""
        header = (ROOT / "include/mistral/c.h").read_text(encoding="utf-8")
        declared = set(re.findall(r"^MISTRAL_C_API .*?\b(mistral_\w+)\(", header, re.MULTILINE))
        shown = run("nm", "-D", "--defined-only", library).stdout
        expect("the symbols", sorted(declared | {"mistral_compiled_model"}), sorted(line.split()[-1] for line in shown.splitlines()))

    def numbers(self):
        info = self.model.info
        expect("info", (128, 4, 32, 384, 4, 2, 64, 1024, 2048, b"BF16", b"bf16", 1),
               (info.dim, info.n_layers, info.head_dim, info.hidden_dim, info.n_heads, info.n_kv_heads, info.window_size,
                info.context_len, info.vocab_size, info.weights, info.kv, info.adapters))
        of = TokenizerInfo(size=ctypes.sizeof(TokenizerInfo))
        self.model.call("tokenizer_get_info", self.model.tokenizer, byref(of))
        expect("the tokenizer's numbers", (2048, 1, 2, 1, 0), (of.vocab_size, of.bos_id, of.eos_id, of.adds_bos, of.adds_eos))
        told = json.loads(run(TOOL, "tokenize", "--tokenizer", BREEZE, "--text", TEXT, "--json").stdout)
        expect("encode", [1, *told], self.tokens)
        expect("decode", TEXT, self.model.decode(self.tokens))

    def logits(self):
        """Logits are the tool's, whichever function makes them, and the last hidden state is what they are made of."""
        logits, hidden = self.model.forward(self.tokens)
        expect("logits of forward", self.rows, [row.tobytes() for row in logits])
        expect("hidden states", [(len(self.tokens), 128)] * 5, [(len(layer), len(layer[0])) for layer in hidden])
        expect("layers that change the residual stream", 5, len({layer[-1].tobytes() for layer in hidden}))
        session = self.session()
        expect("logits of prefill", self.rows[2], self.row_after(session, self.tokens[:3]))
        out = POINTER(c_float)()
        self.model.call("session_decode", session, c_int32(self.tokens[3]), byref(out))
        expect("logits of decode", self.rows[3], ctypes.string_at(out, 4 * self.model.info.vocab_size))
        self.model.call("session_decode", session, c_int32(self.tokens[4]), None)
        expect("position", 5, self.position(session))
        self.c.mistral_session_free(session)

    def residual(self):
        """A callback may write to the residual stream, and may stop: then the session is cleared."""
        array_of = (c_int32 * len(self.tokens))(*self.tokens)
        for stops in (False, True):
            session, out = self.session(), POINTER(c_float)()
            self.row_after(session, self.tokens)

            @self.example.OnResidual
            def change(_, residual):
                if residual.contents.layer == 2:
                    residual.contents.values[0] += 1.0
                return 0 if stops else 1

            status = self.status("session_forward_residual", session, array_of, c_size_t(len(self.tokens)), change, None, byref(out))
            expect("a callback that stops", STOPPED if stops else OK, status)
            expect("the position after it", 0 if stops else 2 * len(self.tokens), self.position(session))
            if not stops:
                self.model.call("session_clear", session)
                self.model.call("session_forward_residual", session, array_of, c_size_t(len(self.tokens)), change, None, byref(out))
                changed = ctypes.string_at(out, 4 * self.model.info.vocab_size)
                expect("whether a change to the residual stream goes on", True, changed != self.rows[0])
            self.c.mistral_session_free(session)

    def states(self):
        """Rollback, fork, save and restore go on to the same bits."""
        session, other, path = self.session(2), c_void_p(), str(self.folder / "state").encode()
        head, rest = self.tokens[:4], self.tokens[4:]
        self.row_after(session, head)
        self.row_after(session, [7, 8])
        revertible = c_size_t()
        self.model.call("session_revertible", session, byref(revertible))
        expect("revertible", 6, revertible.value)
        self.fails(DATA, "rollback", "session_rollback", session, c_size_t(7))
        self.fails(DATA, "rollback", "session_rollback", session, c_size_t(2**64 - 1))
        self.model.call("session_rollback", session, c_size_t(2))
        ids = (c_int32 * 4)(*head)
        self.fails(DATA, "tokens", "session_save", session, ids, c_size_t(3), path)
        self.model.call("session_save", session, ids, c_size_t(4), path)
        self.model.call("session_fork", session, byref(other))
        expect("after a rollback", self.rows[-1], self.row_after(session, rest))
        self.c.mistral_session_free(session)
        expect("of a fork", self.rows[-1], self.row_after(other, rest))
        self.model.call("session_clear", other)
        expect("cleared", 0, self.position(other))
        self.model.call("session_restore", other, path)
        expect("restored", self.rows[-1], self.row_after(other, rest))
        kept, count = (c_int32 * 4)(), c_size_t()
        self.model.call("session_file_tokens", path, kept, c_size_t(4), byref(count))
        expect("the file's tokens", head, list(kept)[:count.value])
        self.fails(DATA, "nowhere", "session_restore", other, b"nowhere")
        self.c.mistral_session_free(other)

    def generate(self):
        options, made = GenerateOptions(), Generated(size=ctypes.sizeof(Generated))
        self.model.call("generate_options_init", byref(options), c_size_t(ctypes.sizeof(options)))
        expect("defaults", (1.0, 1.0, 256, 1), (options.top_p, options.repetition_penalty, options.max_tokens, options.stop_at_eos))
        options.max_tokens = 20
        told = json.loads(run(TOOL, "generate", "-m", BREEZE, "--compiled", self.c._name, "--prompt", TEXT, "--max-tokens", 20,
                              "--temperature", 0, "--json").stdout)
        ids = (c_int32 * len(self.tokens))(*self.tokens)
        pieces = []

        def generate(least=None, options=options, status=OK):
            @OnText
            def on_text(_, text, size):
                pieces.append(ctypes.string_at(text, size))
                if text[size] != b"\0":
                    faults.append("a piece of text that doesn't end with a zero")
                return 0 if least is not None and len(pieces) >= least else 1

            pieces.clear()
            session = self.session()
            found = self.status("session_generate", session, self.model.tokenizer, ids, c_size_t(len(ids)),
                                None if options is None else byref(options), on_text, None, byref(made))
            expect(f"generate ({self.c.mistral_error_message().decode()})", status, found)
            tokens = made.tokens[:made.token_count] if found == OK else None
            text = ctypes.string_at(made.text, made.text_size).decode() if found == OK else None
            self.c.mistral_session_free(session)
            return tokens, text

        tokens, text = generate()
        expect("generate: text, tokens, reason", (told["text"], 20, 0), (text, len(tokens), made.reason))
        expect("its pieces", text, b"".join(pieces).decode())
        expect("stopped by the callback", (tokens[:2], 4), (generate(least=2)[0][:2], made.reason))
        options.stop_ids, options.stop_id_count = ctypes.addressof(stop := (c_int32 * 1)(tokens[5])), 1
        expect("stopped by a token", (tokens[:tokens.index(tokens[5])], 1), (generate()[0], made.reason))
        options.stop_id_count = 0
        word = text.split()[2].encode()
        options.stop_strings, options.stop_string_count = (c_char_p * 1)(word), 1
        expect("stopped by a text", (text[:text.index(word.decode())], 2), (generate()[1], made.reason))
        options.stop_string_count = 0
        del stop

        later = Longer(known=options)
        later.known.size = ctypes.sizeof(later)
        expect("options of a later version that ask for nothing new", tokens, generate(options=later)[0])
        later.unknown = 1
        generate(options=later, status=ARGUMENT)
        options.size = 8
        generate(options=options, status=ARGUMENT)
        options.size = ctypes.sizeof(options)
        options.temperature = -1.0
        generate(options=options, status=DATA)

    def request(self, prompt, tag=0, on_text=None, adapter=0, **options):
        """A request of a batch, which keeps what it points to."""
        how = GenerateOptions()
        self.model.call("generate_options_init", byref(how), c_size_t(ctypes.sizeof(how)))
        for name, value in options.items():
            setattr(how, name, value)
        request = BatchRequest(size=ctypes.sizeof(BatchRequest), prompt=(c_int32 * len(prompt))(*prompt), prompt_size=len(prompt),
                               options=ctypes.pointer(how), adapter=adapter, tag=tag)
        if on_text is not None:
            request.on_text = on_text
        return request

    def batch(self, tokenizer=True, **options):
        how, batch = BatchOptions(), c_void_p()
        self.model.call("batch_options_init", byref(how), c_size_t(ctypes.sizeof(how)))
        for name, value in options.items():
            setattr(how, name, value)
        self.model.call("batch_new", self.model.model, self.model.tokenizer if tokenizer else None, byref(how), byref(batch))
        return batch

    def submit(self, batch, request):
        number = c_uint64()
        self.model.call("batch_submit", batch, byref(request), byref(number))
        return number.value

    def wait(self, batch, flags=0):
        """The next result, as (tag, tokens, text, reason, status, message), or None."""
        result, ended = BatchResult(size=ctypes.sizeof(BatchResult)), c_int32()
        self.model.call("batch_wait", batch, c_uint32(flags), byref(result), byref(ended))
        if ended.value == 0:
            return None
        return (result.tag, result.tokens[:result.token_count], ctypes.string_at(result.text, result.text_size).decode(),
                result.reason, result.status, result.message.decode())

    def alone(self, prompt, **options):
        """What mistral_session_generate makes of a prompt: tokens, text, reason."""
        session, made, request = self.session(), Generated(size=ctypes.sizeof(Generated)), self.request(prompt, **options)
        self.model.call("session_generate", session, self.model.tokenizer, request.prompt, c_size_t(len(prompt)), request.options,
                        None, None, byref(made))
        result = made.tokens[:made.token_count], ctypes.string_at(made.text, made.text_size).decode(), made.reason
        self.c.mistral_session_free(session)
        return result

    def batches(self):
        """Sequences of a batch get what each gets alone, whoever is beside them."""
        defaults = BatchOptions()
        self.model.call("batch_options_init", byref(defaults), c_size_t(ctypes.sizeof(defaults)))
        expect("defaults of a batch", (16, 64, 1024, 1),
               (defaults.max_sequences, defaults.token_budget, defaults.max_waiting, defaults.share_prefixes))
        prompts = [self.tokens[:1 + i % len(self.tokens)] for i in range(12)]
        ways = [dict(max_tokens=5 + i, temperature=0.9 if i % 2 else 0.0, seed=i, stop_at_eos=0) for i in range(12)]
        wanted = {i: self.alone(prompt, **how) for i, (prompt, how) in enumerate(zip(prompts, ways))}
        for options in ({}, {"max_sequences": 3, "token_budget": 4, "share_prefixes": 0}):
            batch, told = self.batch(**options), {}

            @OnText
            def on_text(user, text, size):
                told[user] = told.get(user, b"") + ctypes.string_at(text, size)
                return 1

            for i, (prompt, how) in enumerate(zip(prompts, ways)):
                request = self.request(prompt, i, on_text, **how)
                request.user = i + 1
                self.submit(batch, request)
            results = {}
            while (result := self.wait(batch)) is not None:
                results[result[0]] = result[1:4]
                expect("the status of a sequence", (OK, ""), result[4:])
            expect(f"the results of a batch {options}", wanted, results)
            expect("what the callbacks were told", [wanted[i][1] for i in range(12)], [told[i + 1].decode() for i in range(12)])
            self.c.mistral_batch_free(batch)

        batch = self.batch(tokenizer=False)
        self.submit(batch, self.request(prompts[3], 3, **ways[3]))
        expect("a batch without a tokenizer", (3, wanted[3][0], "", 0, OK, ""), self.wait(batch))
        self.fails(DATA, "stop", "batch_submit", batch,
                   byref(self.request(prompts[0], stop_strings=(c_char_p * 1)(b"a"), stop_string_count=1)), None)
        self.c.mistral_batch_free(batch)
        self.meddling(prompts, ways, wanted)

    def meddling(self, prompts, ways, wanted):
        """A callback may cancel and submit, and may not wait; a thread waits for the requests of others until the batch is
        closed."""
        batch, numbers, statuses = self.batch(), [], []

        @OnText
        def meddle(*_):
            if len(numbers) == 2:
                cancelled, result, ended = c_int32(-1), BatchResult(size=ctypes.sizeof(BatchResult)), c_int32(7)
                statuses.append(self.status("batch_cancel", batch, c_uint64(numbers[1]), byref(cancelled)))
                statuses.append(cancelled.value)
                statuses.append(self.status("batch_wait", batch, c_uint32(0), byref(result), byref(ended)))
                statuses.append(ended.value)
                numbers.append(self.submit(batch, self.request(prompts[5], 5, **ways[5])))
            return 1

        numbers.append(self.submit(batch, self.request(prompts[4], 4, meddle, **ways[4])))
        numbers.append(self.submit(batch, self.request(prompts[1], 1, max_tokens=100000, stop_at_eos=0)))
        results = {result[0]: result[1:] for result in iter(lambda: self.wait(batch), None)}
        expect("calls of a callback", [OK, 1, ARGUMENT, 7], statuses)
        expect("the sequence that cancelled another", wanted[4], results[4][:3])
        expect("the sequence that was cancelled", (4, OK), results[1][2:4])
        expect("the sequence that a callback submitted", wanted[5], results[5][:3])
        late = c_int32(-1)
        self.model.call("batch_cancel", batch, c_uint64(numbers[0]), byref(late))
        expect("cancelling what has ended", 0, late.value)

        served = []
        thread = threading.Thread(target=lambda: served.extend(iter(lambda: self.wait(batch, 1), None)))
        thread.start()
        for i in (6, 7):
            self.submit(batch, self.request(prompts[i], i, **ways[i]))
        self.model.call("batch_close", batch)
        thread.join(60)
        expect("whether the thread has ended", False, thread.is_alive())
        expect("what was served", {6: wanted[6], 7: wanted[7]}, {result[0]: result[1:4] for result in served})
        self.fails(DATA, "closed", "batch_submit", batch, byref(self.request(prompts[0])), None)
        self.c.mistral_batch_free(batch)

    def batch_errors(self):
        """Wrong calls of a batch are errors, which change nothing."""
        batch, number, how = self.batch(max_prompt_tokens=4), c_uint64(77), BatchOptions()
        self.model.call("batch_options_init", byref(how), c_size_t(ctypes.sizeof(how)))
        for field, value, status in (("max_sequences", 0, DATA), ("max_sequences", 2**60, DATA), ("token_budget", 1, DATA),
                                     ("token_budget", 2**63, DATA), ("worth_waiting", 0, DATA), ("size", 3, ARGUMENT)):
            wrong, out = BatchOptions.from_buffer_copy(how), c_void_p(1234)
            setattr(wrong, field, value)
            self.fails(status, field, "batch_new", self.model.model, None, byref(wrong), byref(out))
            expect("a batch that a failure has not made", 1234, out.value)
        self.fails(ARGUMENT, "model", "batch_new", None, None, None, byref(c_void_p()))
        self.fails(ARGUMENT, "batch", "batch_new", self.model.model, None, None, None)
        self.fails(ARGUMENT, "batch", "batch_submit", None, byref(self.request([1])), byref(number))
        self.fails(ARGUMENT, "request", "batch_submit", batch, None, byref(number))
        self.fails(ARGUMENT, "request->size", "batch_submit", batch, byref(BatchRequest(size=5)), byref(number))
        no_prompt = BatchRequest(size=ctypes.sizeof(BatchRequest), prompt_size=1)
        self.fails(ARGUMENT, "request->prompt", "batch_submit", batch, byref(no_prompt), byref(number))
        for prompt, words in (([], "prompt"), ([1] * 5, "prompt"), ([1, 2048], "2048"), ([-1], "-1")):
            self.fails(DATA, words, "batch_submit", batch, byref(self.request(prompt)), byref(number))
        self.fails(DATA, "adapter", "batch_submit", batch, byref(self.request([1], adapter=1)), byref(number))
        self.fails(DATA, "temperature", "batch_submit", batch, byref(self.request([1], temperature=-1.0)), byref(number))
        expect("the number of a sequence that hasn't joined", 77, number.value)
        self.fails(ARGUMENT, "batch", "batch_cancel", None, c_uint64(1), None)
        self.fails(ARGUMENT, "batch", "batch_close", None)
        result, ended = BatchResult(size=ctypes.sizeof(BatchResult)), c_int32()
        self.fails(ARGUMENT, "batch", "batch_wait", None, c_uint32(0), byref(result), byref(ended))
        self.fails(ARGUMENT, "result", "batch_wait", batch, c_uint32(0), None, byref(ended))
        self.fails(ARGUMENT, "result->size", "batch_wait", batch, c_uint32(0), byref(BatchResult(size=1)), byref(ended))
        self.fails(ARGUMENT, "ended", "batch_wait", batch, c_uint32(0), byref(result), None)
        self.fails(ARGUMENT, "flags", "batch_wait", batch, c_uint32(2), byref(result), byref(ended))
        expect("a batch that nobody has submitted to", None, self.wait(batch))
        self.c.mistral_batch_free(batch)

    def threads(self, library):
        """A limit of the threads changes no bit, and is kept to: in a process of its own, which has no other threads."""
        self.fails(ARGUMENT, "model", "model_set_threads", None, c_size_t(1))
        for threads in (1, 2, 1000, 2**63, 0):
            self.model.call("model_set_threads", self.model.model, c_size_t(threads))
            session = self.session()
            expect(f"logits by {threads} threads", self.rows[-1], self.row_after(session, self.tokens))
            self.c.mistral_session_free(session)
        if not Path("/proc/self/status").exists():
            return
        program = self.folder / "threads.py"
        program.write_text(f"""
import ctypes, re, sys
c = ctypes.CDLL({library!r})
options, model, session = (ctypes.c_uint64 * 16)(), ctypes.c_void_p(), ctypes.c_void_p()
assert c.mistral_load_options_init(options, ctypes.c_size_t({ctypes.sizeof(LoadOptions)})) == 0
options[{LoadOptions.threads.offset // 8}] = int(sys.argv[1])
assert c.mistral_model_load({BREEZE!r}.encode(), options, ctypes.byref(model)) == 0
assert c.mistral_session_new(model, ctypes.c_size_t(0), ctypes.byref(session)) == 0
assert c.mistral_session_prefill(session, (ctypes.c_int32 * 512)(*[7] * 512), ctypes.c_size_t(512), None) == 0
print(re.search(r"Threads:\s*(\d+)", open("/proc/self/status").read())[1])
""")
        expect("threads of a process whose model has one", "1", run(sys.executable, program, 1).stdout.strip())
        if len(os.sched_getaffinity(0)) > 1:
            expect("whether a model without a limit has several", True, int(run(sys.executable, program, 0).stdout) > 1)

    def first_version(self):
        """A program that was compiled with version 1 has shorter structs."""
        expect("the version", 2, self.c.mistral_c_version())
        size, old, model = LoadOptions.threads.offset, LoadOptions(threads=1234567), c_void_p()
        self.model.call("load_options_init", byref(old), c_size_t(size))
        expect("the options of version 1", (size, 1, 1234567), (old.size, old.check_memory, old.threads))
        self.model.call("model_load", BREEZE.encode(), byref(old), byref(model))
        self.c.mistral_model_free(model)
        self.fails(ARGUMENT, "size", "load_options_init", byref(old), c_size_t(size - 8))

    def adapters(self, library):
        """An adapter changes the logits as the tool has it, and the base goes without."""
        data, adapter = self.folder / "data.jsonl", self.folder / "adapter"
        data.write_text("".join('{"text": "the word of the number %d"}\n' % i for i in range(8)))
        run(TOOL, "finetune", "-m", BREEZE, "--compiled", library, "--data", data, "--validation-share", 0, "--out", adapter,
            "--max-steps", 2, "--rank", 4, "--learning-rate", 0.05, "--samples", 0, "--json")
        tuned = logits_of_tool(self.folder, library, self.tokens, "--adapter", adapter)
        expect("whether the adapter changes anything", True, tuned[-1] != self.rows[-1])
        model, number = self.example.Model(library, BREEZE), c_size_t(9)
        self.fails(DATA, "nowhere", "model_load_adapter", model.model, b"nowhere", byref(number))
        expect("the number of an adapter that isn't loaded", 9, number.value)
        model.call("model_load_adapter", model.model, str(adapter).encode(), byref(number))
        expect("the number of an adapter", 0, number.value)
        self.model, before = model, self.model
        session = self.session()
        expect("through the adapter", tuned[-1], self.row_after(session, self.tokens))
        model.call("session_clear", session)
        model.call("session_use_adapter", session, c_size_t(2**64 - 1))
        expect("through none", self.rows[-1], self.row_after(session, self.tokens))
        self.fails(DATA, "adapter", "session_use_adapter", session, c_size_t(1))
        self.c.mistral_session_free(session)
        batch, ways = self.batch(), {"max_tokens": 12, "stop_at_eos": 0}
        through = self.alone(self.tokens, **ways)
        self.model = before
        base = self.alone(self.tokens, **ways)
        self.model = model
        for tag, chosen in enumerate((0, 2**64 - 1)):
            self.submit(batch, self.request(self.tokens, tag, adapter=chosen, **ways))
        results = {result[0]: result[1:4] for result in iter(lambda: self.wait(batch), None)}
        expect("a batch through an adapter and through none", {0: through, 1: base}, results)
        self.c.mistral_batch_free(batch)
        self.model = before

    def errors(self):
        """Wrong arguments are errors, which change nothing."""
        path, model, count = BREEZE.encode(), c_void_p(1234), c_size_t()
        self.fails(DATA, "no/such/model", "model_load", b"no/such/model", None, byref(model))
        expect("a handle that a failure has not set", 1234, model.value)
        self.fails(ARGUMENT, "path", "model_load", None, None, byref(model))
        self.fails(ARGUMENT, "model", "model_load", path, None, None)
        self.fails(DATA, "no/such/tokenizer", "tokenizer_load", b"no/such/tokenizer", byref(model))
        self.fails(ARGUMENT, "info", "get_info", None)
        self.fails(ARGUMENT, "info->size", "get_info", byref(self.example.Info(size=3)))
        self.fails(ARGUMENT, "info->size", "get_info", byref(self.example.Info(size=2**62)))

        load = LoadOptions()
        self.model.call("load_options_init", byref(load), c_size_t(ctypes.sizeof(load)))
        expect("defaults of loading", (1, 0, 0), (load.check_memory, load.allow_different_window, load.max_memory))
        load.max_memory = 1000
        self.fails(DATA, "memory", "model_load", path, byref(load), byref(model))
        load.max_memory, calls = 0, []
        progress = Progress(lambda _, done, total: calls.append((done, total)) or 0)
        load.progress = ctypes.cast(progress, c_void_p)
        self.fails(STOPPED, "", "model_load", path, byref(load), byref(model))
        expect("whether loading was told of", True, len(calls) > 0)

        session, ids, logits = self.session(), (c_int32 * 2)(1, 2048), POINTER(c_float)()
        for name in ("prefill", "forward"):
            self.fails(DATA, "token 1", f"session_{name}", session, ids, c_size_t(2), byref(logits))
            self.fails(DATA, "token", f"session_{name}", session, ids, c_size_t(0), byref(logits))
            self.fails(ARGUMENT, "tokens", f"session_{name}", session, None, c_size_t(2), byref(logits))
            self.fails(ARGUMENT, "session", f"session_{name}", None, ids, c_size_t(1), byref(logits))
        self.fails(DATA, "token 0", "session_decode", session, c_int32(-1), None)
        self.fails(ARGUMENT, "session", "session_decode", None, c_int32(1), None)
        self.fails(ARGUMENT, "on_residual", "session_forward_residual", session, ids, c_size_t(1), None, None, None)
        self.fails(ARGUMENT, "path", "session_save", session, None, c_size_t(0), None)
        self.fails(ARGUMENT, "path", "session_restore", session, None)
        self.fails(ARGUMENT, "position", "session_position", session, None)
        self.fails(ARGUMENT, "session", "session_rollback", None, c_size_t(0))
        self.fails(ARGUMENT, "session", "session_clear", None)
        self.fails(ARGUMENT, "session", "session_use_adapter", None, c_size_t(0))
        self.fails(DATA, "adapter", "session_use_adapter", session, c_size_t(0))
        self.fails(ARGUMENT, "model", "session_new", None, c_size_t(0), byref(model))
        for rollback in (2**24 + 1, 2**44, 2**63, 2**64 - 1):
            self.fails(DATA, "rollback", "session_new", self.model.model, c_size_t(rollback), byref(model))
        self.fails(ARGUMENT, "session", "session_fork", None, byref(model))
        self.fails(ARGUMENT, "model", "model_load_adapter", None, b"a", byref(count))
        self.fails(ARGUMENT, "tokenizer", "session_generate", session, None, ids, c_size_t(1), None, None, None, None)
        expect("position after errors", 0, self.position(session))

        tokenizer = self.model.tokenizer
        self.fails(ARGUMENT, "flags", "tokenizer_encode", tokenizer, b"a", c_size_t(1), ctypes.c_uint32(64), None, c_size_t(0), byref(count))
        self.fails(ARGUMENT, "tokenizer", "tokenizer_encode", None, b"a", c_size_t(1), ctypes.c_uint32(0), None, c_size_t(0), byref(count))
        self.fails(ROOM, "capacity", "tokenizer_encode", tokenizer, TEXT.encode(), c_size_t(len(TEXT)), ctypes.c_uint32(1), ids, c_size_t(2),
                   byref(count))
        expect("the room that is needed", len(self.tokens), count.value)
        expect("room that doesn't suffice", [1, 2048], list(ids))
        text = ctypes.create_string_buffer(b"????", 5)
        self.fails(DATA, "", "tokenizer_decode", tokenizer, ids, c_size_t(2), text, c_size_t(5), byref(count))
        self.fails(ROOM, "capacity", "tokenizer_decode", tokenizer, (c_int32 * 3)(*self.tokens[1:4]), c_size_t(3), text, c_size_t(5),
                   byref(count))
        expect("a text that has no room", b"????", text.value)
        long_path = b"/" + b"x" * 100000
        self.fails(DATA, "xxx", "model_load", long_path, None, byref(model))

        # handles go in any order, and null goes at any time
        own = self.example.Model(self.c._name, BREEZE)
        kept, self.model = self.model, own
        late = self.session()
        self.c.mistral_model_free(own.model)
        own.model = c_void_p()
        expect("a session whose model's handle is gone", self.rows[-1], self.row_after(late, self.tokens))
        self.model = kept
        for handle in (late, session):
            self.c.mistral_session_free(handle)
        for name in ("model", "tokenizer", "session", "batch"):
            getattr(self.c, f"mistral_{name}_free")(None)


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        check_header(folder)
        if TOOL is None:
            return
        library = str(folder / "model.so")
        run(TOOL, "compile", "-m", BREEZE, "--train", "--out", library)
        run(CC, "-std=c99", f"-I{ROOT}/include", ROOT / "examples/c/generate.c", library, "-o", folder / "generate")
        example = run(folder / "generate", BREEZE, TEXT)
        if not re.search(r"\n\d+ tokens", example.stderr) or not example.stdout:
            faults.append(f"generate.c: expected a text and its number of tokens, got '{example.stdout}', '{example.stderr}'")
        failure = subprocess.run([folder / "generate", "nowhere"], capture_output=True, text=True)
        expect("generate.c on no checkpoint", (1, True), (failure.returncode, "nowhere" in failure.stderr))
        lines = run(sys.executable, "-B", ROOT / "examples/c/logits.py", library, BREEZE, TEXT).stdout.splitlines()

        # a program may have opened another model, whose functions have the same names
        other = folder / "other.c"
        other.write_text("const char mistral_compiled_model[64];\n" +
                         "".join(f"int mistral_{name}(void) {{ return 99; }}\n" for name in ("session_prefill", "get_info")))
        run(CC, "-shared", "-fPIC", other, "-o", folder / "other.so")
        ctypes.CDLL(str(folder / "other.so"), mode=ctypes.RTLD_GLOBAL)

        spec = importlib.util.spec_from_file_location("logits", ROOT / "examples/c/logits.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        checks = Checks(module, folder, library)
        expect("logits.py: a line for each token", len(checks.tokens), len(lines))
        checks.exports(library)
        checks.numbers()
        checks.logits()
        checks.residual()
        checks.states()
        checks.generate()
        checks.batches()
        checks.batch_errors()
        checks.threads(library)
        checks.first_version()
        checks.adapters(library)
        checks.errors()


main()
print(*faults, f"{len(faults)} faults", sep="\n")
sys.exit(1 if faults else 0)
