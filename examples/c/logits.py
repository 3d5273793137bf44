#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""logits.py MODEL.SO CHECKPOINT [TEXT]: what the model expects after each token of a text, and how its hidden states grow.

With ctypes alone. MODEL.SO is a compiled model:  mistral compile CHECKPOINT --out model.so
"""
import ctypes
import sys
from array import array
from ctypes import POINTER, byref, c_char, c_char_p, c_float, c_int32, c_int64, c_size_t, c_uint32, c_void_p


class Residual(ctypes.Structure):
    """mistral_residual of mistral/c.h"""
    _fields_ = [("layer", c_size_t), ("position", c_int64), ("rows", c_size_t), ("width", c_size_t), ("stride", c_size_t),
                ("values", POINTER(c_float))]


class Info(ctypes.Structure):
    """mistral_info of mistral/c.h"""
    _fields_ = [*((name, c_size_t) for name in ("size", "dim", "n_layers", "head_dim", "hidden_dim", "n_heads", "n_kv_heads",
                                                "window_size", "context_len", "vocab_size")),
                ("rope_theta", c_float), ("norm_eps", c_float), ("weights", c_char * 16), ("kv", c_char * 16),
                ("exact", c_int32), ("adapters", c_int32),
                *((name, c_size_t) for name in ("weight_bytes", "cache_bytes", "workspace_bytes"))]


OnResidual = ctypes.CFUNCTYPE(c_int32, c_void_p, POINTER(Residual))


class Model:
    """A compiled model with a checkpoint and its tokenizer."""

    def __init__(self, library, checkpoint):
        self.c = ctypes.CDLL(library)
        self.c.mistral_error_message.restype = c_char_p
        for name in ("model", "tokenizer", "session"):
            getattr(self.c, f"mistral_{name}_free").argtypes = [c_void_p]
        self.model, self.tokenizer = c_void_p(), c_void_p()
        self.call("model_load", checkpoint.encode(), None, byref(self.model))
        self.call("tokenizer_load", checkpoint.encode(), byref(self.tokenizer))
        self.info = Info(size=ctypes.sizeof(Info))
        self.call("get_info", byref(self.info))

    def __del__(self):
        self.c.mistral_tokenizer_free(self.tokenizer)
        self.c.mistral_model_free(self.model)

    def call(self, name, *arguments):
        """Calls a function that returns a status."""
        if getattr(self.c, f"mistral_{name}")(*arguments) != 0:
            raise RuntimeError(self.c.mistral_error_message().decode())

    def encode(self, text):
        """The tokens of a text, with BOS in front where the model wants it."""
        data, count, add_special = text.encode(), c_size_t(), c_uint32(1)
        self.call("tokenizer_encode", self.tokenizer, data, c_size_t(len(data)), add_special, None, c_size_t(0), byref(count))
        tokens = (c_int32 * count.value)()
        self.call("tokenizer_encode", self.tokenizer, data, c_size_t(len(data)), add_special, tokens, count, byref(count))
        return list(tokens)

    def decode(self, tokens):
        """The text of tokens."""
        ids, size = (c_int32 * len(tokens))(*tokens), c_size_t()
        self.call("tokenizer_decode", self.tokenizer, ids, c_size_t(len(tokens)), None, c_size_t(0), byref(size))
        text = ctypes.create_string_buffer(size.value + 1)
        self.call("tokenizer_decode", self.tokenizer, ids, c_size_t(len(tokens)), text, c_size_t(size.value + 1), byref(size))
        return text.value.decode()

    def forward(self, tokens):
        """The logits after each token, and for each layer the residual stream that enters it, the last one's output
        behind them: an array of floats a token."""
        hidden = {}

        @OnResidual
        def keep(_, residual):
            rows = residual.contents
            for i in range(rows.rows):
                row = rows.values[i * rows.stride:i * rows.stride + rows.width]
                hidden.setdefault(rows.layer, []).append(array("f", row))
            return 1

        session, logits = c_void_p(), POINTER(c_float)()
        self.call("session_new", self.model, c_size_t(0), byref(session))
        try:
            self.call("session_forward_residual", session, (c_int32 * len(tokens))(*tokens), c_size_t(len(tokens)), keep, None,
                      byref(logits))
            n = self.info.vocab_size
            return [array("f", logits[i * n:(i + 1) * n]) for i in range(len(tokens))], [hidden[i] for i in sorted(hidden)]
        finally:
            self.c.mistral_session_free(session)


def main():
    model = Model(sys.argv[1], sys.argv[2])
    tokens = model.encode(sys.argv[3] if len(sys.argv) > 3 else "In the beginning")
    logits, hidden = model.forward(tokens)
    for i, token in enumerate(tokens):
        best = max(range(len(logits[i])), key=logits[i].__getitem__)
        norms = " ".join(f"{sum(x * x for x in layer[i]) ** 0.5:.2f}" for layer in hidden)
        print(f"{model.decode([token])!r} -> {model.decode([best])!r}; norms of the hidden states: {norms}")


if __name__ == "__main__":
    main()
